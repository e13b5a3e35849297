// The leaf of the tree of tile.hpp where vectors have 512 bits: all lanes are in registers, and no
// loop is left for the end of an array. Included by loop.cpp alone.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "chunks.hpp"
#include "convert.hpp"
#include "prefetch.hpp"
#include "ravine/portable.hpp"

namespace ravine::cpu {
namespace {

/// Eight elements in double, or as many of them as the mask says and zeros.
RAVINE_PORTABLE __m512d load_eight(const double* g, __mmask8 which) {
  return _mm512_maskz_loadu_pd(which, g);
}
RAVINE_PORTABLE __m512d load_eight(const float* g, __mmask8 which) {
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(which, g));
}
RAVINE_PORTABLE __m512d load_eight(const Bfloat16* g, __mmask8 which) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_maskz_loadu_epi16(which, g));
  return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
}

struct Tile {
  static constexpr int lanes = 128, vectors = lanes / 8;

  __m512d sum[vectors];

  RAVINE_PORTABLE explicit Tile(std::int64_t) {
    for (__m512d& each : sum) each = _mm512_setzero_pd();
  }

  template <class T>
  RAVINE_PORTABLE void add(const T* g, std::int64_t count) {
    for (; count >= lanes; count -= lanes, g += lanes) {
      fetch_ahead(g, tile_size, lanes);
      for (int k = 0; k < vectors; ++k) add_squares<T>(sum[k], load_eight(g + 8 * k, 0xff));
    }
    if (count == 0) return;
    for (int k = 0; k < vectors; ++k, count -= 8) {
      const auto which = static_cast<__mmask8>(count >= 8   ? 0xff
                                               : count <= 0 ? 0
                                                            : (1 << count) - 1);
      add_squares<T>(sum[k], load_eight(g + 8 * k, which));
    }
  }

  RAVINE_PORTABLE double total() const {
    // Four neighbours: of four vectors a to d one becomes, with the sums a0 b0 a1 b1 c0 d0 c1 d1.
    __m512d fours[vectors / 4];
    for (int k = 0; k < vectors / 4; ++k) {
      const __m512d* const four = sum + 4 * k;
      const __m512d low = sum_of_pairs(four[0], four[1]), high = sum_of_pairs(four[2], four[3]);
      fours[k] = _mm512_add_pd(_mm512_shuffle_f64x2(low, high, 0x88),
                               _mm512_shuffle_f64x2(low, high, 0xdd));
    }
    // Then halving.
    const __m512d eight =
        _mm512_add_pd(_mm512_add_pd(fours[0], fours[2]), _mm512_add_pd(fours[1], fours[3]));
    const __m256d four =
        _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    const __m256d two = _mm256_add_pd(four, _mm256_permute_pd(four, 5));
    return _mm256_cvtsd_f64(two) + _mm_cvtsd_f64(_mm256_extractf128_pd(two, 1));
  }

 private:
  template <class T>
  RAVINE_PORTABLE static void add_squares(__m512d& sum, __m512d x) {
    if constexpr (std::is_same_v<T, double>) {
      sum = _mm512_add_pd(sum, _mm512_mul_pd(x, x));
    } else {
      sum = _mm512_fmadd_pd(x, x, sum);  // the squares are exact
    }
  }
  RAVINE_PORTABLE static __m512d sum_of_pairs(__m512d a, __m512d b) {
    return _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
  }
};

}  // namespace
}  // namespace ravine::cpu
