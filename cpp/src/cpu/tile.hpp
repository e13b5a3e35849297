// The leaf of the tree by which norms are summed. Included by loop.cpp alone.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "chunks.hpp"
#include "convert.hpp"
#include "prefetch.hpp"

namespace ravine::cpu {
namespace {

/// `sum + x * x`, in one instruction where the machine has it and the square of what came as a Raw
/// is exact: the bits are the same then.
template <class Raw>
inline double plus_square(double sum, double x) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  if constexpr (!std::is_same_v<Raw, double>) return std::fma(x, x, sum);
#endif
  return sum + x * x;
}

/// A tile is 16 rows of 128 lanes. Each lane adds its rows in order, in double: the squares of
/// float32 and the 16-bit types are exact there, so that only the order of the sums matters.
struct Tile {
  static constexpr int lanes = 128;

  double sum[lanes];
  int used = lanes;  // a power of two: beyond there are only zeros, and adding those changes no bit

  /// For `count` elements in all.
  explicit Tile(std::int64_t count) {
    while (used > 4 && count <= used / 2) used /= 2;
    for (int lane = 0; lane < used; ++lane) sum[lane] = 0;
  }

  /// Adds the next `count` elements of the tile: whole rows, but for the last call.
  template <class T>
  void add(const T* g, std::int64_t count) {
    for (; count >= lanes; count -= lanes, g += lanes) {
      fetch_ahead(g, tile_size, lanes);  // without this, a third of the speed
      add_row(g, lanes);
    }
    add_row(g, count);
  }

  template <class T>
  void add_row(const T* g, std::int64_t count) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < count; ++lane) {
      sum[lane] = plus_square<T>(sum[lane], widened<double>(g[lane]));
    }
  }

  /// Four neighbours, then halving, 32 to 1.
  double total() const {
    double group[lanes / 4];
    for (int i = 0; i < used / 4; ++i) {
      group[i] = (sum[4 * i] + sum[4 * i + 1]) + (sum[4 * i + 2] + sum[4 * i + 3]);
    }
    for (int half = used / 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) group[i] += group[i + half];
    }
    return group[0];
  }
};

}  // namespace
}  // namespace ravine::cpu
