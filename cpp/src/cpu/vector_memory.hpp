// Vectors from and to arrays of float and of bfloat16. Included by element_loop.hpp alone.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "convert.hpp"
#include "ravine/portable.hpp"
#include "vector.hpp"

namespace ravine::cpu {
namespace {

/// The lanes of as many elements as are left.
template <class V>
RAVINE_PORTABLE typename V::Mask lanes_of(std::int64_t left) {
  typename V::Mask lanes;
  for (int i = 0; i < V::parts; ++i, left -= 16) {
    lanes.part[i] = static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1);
  }
  return lanes;
}

template <class V>
RAVINE_PORTABLE V load(const float* from) {
  V result;
  for (int i = 0; i < V::parts; ++i) result.part[i] = _mm512_loadu_ps(from + 16 * i);
  return result;
}
template <class V>
RAVINE_PORTABLE void store(const V& values, float* to) {
  for (int i = 0; i < V::parts; ++i) _mm512_storeu_ps(to + 16 * i, values.part[i]);
}

/// Some lanes: others are 0, and are not stored.
template <class V>
RAVINE_PORTABLE V load(const float* from, const typename V::Mask& lanes) {
  V result;
  for (int i = 0; i < V::parts; ++i) {
    result.part[i] = _mm512_maskz_loadu_ps(lanes.part[i], from + 16 * i);
  }
  return result;
}
template <class V>
RAVINE_PORTABLE void store(const V& values, float* to, const typename V::Mask& lanes) {
  for (int i = 0; i < V::parts; ++i) {
    _mm512_mask_storeu_ps(to + 16 * i, lanes.part[i], values.part[i]);
  }
}

// A bfloat16 is the upper half of a float.

/// Of which 16-bit word of two vectors each word of a third is made.
struct alignas(64) Words {
  std::uint16_t of[32];

  /// From word `first` on, each `repeated` times, and each `step`-th alone.
  constexpr Words(int first, int repeated, int step) : of{} {
    for (int i = 0; i < 32; ++i) of[i] = static_cast<std::uint16_t>(first + i / repeated * step);
  }
};
constexpr Words lower_twice(0, 2, 1), higher_twice(16, 2, 1), upper_halves(1, 1, 2);

template <class V>
RAVINE_PORTABLE V load(const Bfloat16* from) {
  constexpr __mmask32 upper = 0xaaaaaaaa;
  V result;
  for (int i = 0; i < V::parts; i += 2) {
    const __m512i both = _mm512_loadu_si512(from + 16 * i);
    result.part[i] = _mm512_castsi512_ps(
        _mm512_maskz_permutexvar_epi16(upper, _mm512_load_si512(lower_twice.of), both));
    result.part[i + 1] = _mm512_castsi512_ps(
        _mm512_maskz_permutexvar_epi16(upper, _mm512_load_si512(higher_twice.of), both));
  }
  return result;
}
template <class V>
RAVINE_PORTABLE void store(const V& values, Bfloat16* to) {
  for (int i = 0; i < V::parts; i += 2) {
    _mm512_storeu_si512(to + 16 * i,
                        _mm512_permutex2var_epi16(_mm512_castps_si512(values.part[i]),
                                                  _mm512_load_si512(upper_halves.of),
                                                  _mm512_castps_si512(values.part[i + 1])));
  }
}

template <class V>
RAVINE_PORTABLE V load(const Bfloat16* from, const typename V::Mask& lanes) {
  V result;
  for (int i = 0; i < V::parts; ++i) {
    const __m256i halves = _mm256_maskz_loadu_epi16(lanes.part[i], from + 16 * i);
    result.part[i] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  return result;
}
template <class V>
RAVINE_PORTABLE void store(const V& values, Bfloat16* to, const typename V::Mask& lanes) {
  for (int i = 0; i < V::parts; ++i) {
    const __m512i bits = _mm512_castps_si512(values.part[i]);
    _mm512_mask_cvtepi32_storeu_epi16(to + 16 * i, lanes.part[i], _mm512_srli_epi32(bits, 16));
  }
}

/// Rounded to the type of elements, as `to_bfloat16` does. Lower halves keep what is not stored.
template <class Raw, class V>
RAVINE_PORTABLE V rounded_to(const V& values) {
  if constexpr (std::is_same_v<Raw, float>) return values;
  const __m512i below_half = _mm512_set1_epi32(0x7fff), last_bit = _mm512_set1_epi32(0x10000);
  V result;
  for (int i = 0; i < V::parts; ++i) {
    const __m512i bits = _mm512_castps_si512(values.part[i]);
    const __m512i sum = _mm512_add_epi32(bits, below_half);
    const __mmask16 is_odd = _mm512_test_epi32_mask(bits, last_bit);
    result.part[i] =
        _mm512_castsi512_ps(_mm512_mask_add_epi32(sum, is_odd, sum, _mm512_set1_epi32(1)));
  }
  if (has_nan(values)) [[unlikely]] {
    return select(values != values, V(from_bfloat16(0x7fff)), result);
  }
  return result;
}

/// What an element holds after `values` were stored in it.
template <class Raw, class V>
RAVINE_PORTABLE V held(V values) {
  if constexpr (std::is_same_v<Raw, float>) return values;
  for (__m512& each : values.part) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    each = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(each), upper));
  }
  return values;
}

}  // namespace
}  // namespace ravine::cpu
