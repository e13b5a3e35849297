// The leaf of the tree by which norms are summed. Included by loop.cpp alone.
#pragma once

#include <cstdint>

#include "chunks.hpp"

namespace ravine::cpu {
namespace {

/// A tile is 16 rows of 128 lanes. Each lane adds its rows in order, in double: the squares of
/// float32 and the 16-bit types are exact there, so that only the order of the sums matters.
struct Tile {
  static constexpr int lanes = 128;

  double sum[lanes] = {};

  /// Adds elements `begin` to `begin + count` of the tile; `begin` is a multiple of `lanes`.
  template <class T>
  void add(const T* g, std::int64_t count) {
    const std::int64_t rows = count / lanes, rest = count % lanes;
    // As many lanes at a time as have room in registers.
    constexpr int width = 32;
    for (int first = 0; first < lanes && rows > 0; first += width) {
      double lane[width];
      for (int i = 0; i < width; ++i) lane[i] = sum[first + i];
      for (std::int64_t row = 0; row < rows; ++row) {
        const T* const in = g + row * lanes + first;
        for (int i = 0; i < width; ++i) {
          const double x = static_cast<double>(in[i]);
          lane[i] += x * x;
        }
      }
      for (int i = 0; i < width; ++i) sum[first + i] = lane[i];
    }
    g += rows * lanes;
    for (std::int64_t i = 0; i < rest; ++i) {
      const double x = static_cast<double>(g[i]);
      sum[i] += x * x;
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
