// The leaf of the tree by which norms are summed. Included by loop.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chunks.hpp"

#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#endif

namespace ravine::cpu {
namespace {

/// Asks for the cache line at an address that will be read soon, and that may lie behind an array.
inline void prefetch([[maybe_unused]] const char* address) {
#if defined(_MSC_VER) && defined(_M_X64)
  _mm_prefetch(address, _MM_HINT_T0);
#elif defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}

/// A tile is 16 rows of 128 lanes. Each lane adds its rows in order, in double: the squares of
/// float32 and the 16-bit types are exact there, so that only the order of the sums matters.
struct Tile {
  static constexpr int lanes = 128;

  double sum[lanes] = {};

  /// Adds the next `count` elements of the tile: whole rows, but for the last call.
  template <class T>
  void add(const T* g, std::int64_t count) {
    for (; count >= lanes; count -= lanes, g += lanes) {
      fetch_ahead(g);
      add_row(g, lanes);
    }
    add_row(g, count);
  }

  /// Asks for the memory one tile further on. The arithmetic keeps so many instructions in flight
  /// that the processor alone does not look far enough: without this, a third of the speed.
  template <class T>
  static void fetch_ahead(const T* g) {
    const char* const ahead = reinterpret_cast<const char*>(g) + tile_size * sizeof(T);
    for (std::size_t line = 0; line < lanes * sizeof(T); line += 64) prefetch(ahead + line);
  }

  template <class T>
  void add_row(const T* g, std::int64_t count) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < count; ++lane) {
      const double x = static_cast<double>(g[lane]);
      sum[lane] += x * x;
    }
  }

  /// Four neighbours, then halving, 32 to 1. `count` elements were added in all; beyond them there
  /// are only zeros, and adding those changes no bit.
  double total(std::int64_t count) const {
    double group[lanes / 4];
    for (int i = 0; i < lanes / 4; ++i) {
      group[i] = (sum[4 * i] + sum[4 * i + 1]) + (sum[4 * i + 2] + sum[4 * i + 3]);
    }
    int half = lanes / 8;
    while (half >= 1 && count <= 4 * half) half /= 2;
    for (; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) group[i] += group[i + half];
    }
    return group[0];
  }
};

}  // namespace
}  // namespace ravine::cpu
