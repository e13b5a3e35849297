// One tile of a gradient, by one warp: what is left of its elements for the norm, and the sum of
// their squares.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "kernels.hpp"
#include "ravine/passes.hpp"
#include "tables.hpp"

namespace ravine::cuda {

constexpr int lanes_a_thread = 4;
constexpr int row_lanes = warp_threads * lanes_a_thread;  // of a tile

/// 32 values to 1 by halving; all threads of the warp get it.
__device__ __forceinline__ double sum_warp(double value) {
#pragma unroll
  for (int half = warp_threads / 2; half > 0; half /= 2) {
    value += __shfl_xor_sync(~0u, value, half);
  }
  return value;
}

struct TileArguments {
  Tables tables;
  double gradient_scale;
  std::int64_t accumulated;  ///< the window, where the device counts
  Counting counting;
  bool scales;  ///< by the loss scale of the device
};

/// Puts in what only the device knows; returns whether this call ends a window.
__device__ __forceinline__ bool complete(TileArguments& arguments) {
  if (arguments.counting == Counting::on_host) return true;
  const Progress& progress = *arguments.tables.progress;
  if (arguments.scales) arguments.gradient_scale = progress.loss_scale.gradient_scale();
  const bool completes = progress.completes(arguments.accumulated);
  if (!completes) arguments.accumulated = 1;
  return completes;
}

/// Whether a row takes part: it has a gradient, or had one in a window that ends.
__device__ __forceinline__ bool takes_part(const TileArguments& arguments, std::uint32_t row,
                                           bool completes) {
  const Tables& tables = arguments.tables;
  return tables.marks[row].updates || (arguments.counting == Counting::on_device && completes &&
                                       arguments.accumulated > 1 && tables.received[row]);
}

/// How gradients are read: all are of one type, there, and not accumulated.
template <DType of_all>
struct PlainGradients {
  static constexpr bool is_plain = true;
  static constexpr DType dtype = of_all;
};
/// Any are.
struct AnyGradients {
  static constexpr bool is_plain = false;
  static constexpr DType dtype{};
};

/// What is left of a gradient from the beginning of a tile on, as the step will take it: unscaled
/// or, where micro-steps were accumulated, their mean.
template <class T, class Gradients>
class TileReader {
 public:
  __device__ TileReader(const TileArguments& arguments, std::uint32_t index, std::int64_t tile)
      : row_(arguments.tables.rows[index]),
        dtype_(is_plain ? Gradients::dtype
                        : static_cast<DType>(arguments.tables.marks[index].dtype)),
        gradient_(arguments.tables.gradients[index]),
        begin_(tile * tile_size),
        unscale_{T(arguments.gradient_scale)},
        finish_{T(arguments.gradient_scale), T(arguments.accumulated)} {}

  /// Elements of the tile.
  __device__ int size() const {
    const std::int64_t left = row_.size - begin_;
    return static_cast<int>(left < tile_size ? left : tile_size);
  }

  /// Whether `lanes_a_thread` elements can be read at once.
  __device__ bool is_aligned() const {
    const unsigned item = dtype() == DType::float64 ? 8 : dtype() == DType::float32 ? 4 : 2;
    const unsigned vector = lanes_a_thread * item < 16 ? lanes_a_thread * item : 16;
    return (static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(gradient_)) & (vector - 1)) == 0;
  }

  template <int count>
  __device__ __forceinline__ Pack<T, count> get(int element) const {
    const std::int64_t index = begin_ + element;
    Undecoded<count> raw;
    if (is_plain || gradient_ != nullptr) raw = fetch<count>(dtype(), gradient_, index);
    Pack<T, count> values = decode<T, count>(dtype(), raw);
#pragma unroll
    for (int i = 0; i < count; ++i) values.at[i] = taken(values.at[i], index + i);
    return values;
  }

 private:
  static constexpr bool is_plain = Gradients::is_plain;

  __device__ DType dtype() const { return is_plain ? Gradients::dtype : dtype_; }

  __device__ __forceinline__ T taken(T g, std::int64_t index) const {
    if (is_plain || finish_.accumulated == T(1)) return unscale_(g);
    return finish_.mean_of(g, static_cast<const T*>(row_.accumulator)[index]);
  }

  const RowTable& row_;
  const DType dtype_;
  const void* const gradient_;  // nullptr: zeros
  const std::int64_t begin_;
  const Unscale<T> unscale_;
  const FinishAccumulation<T> finish_;
};

/// What lies beyond the end of the gradient counts as zeros, which change no sum.
template <class T, class Gradients>
__device__ __forceinline__ double sum_tile(const TileArguments& arguments, std::uint32_t index,
                                           std::int64_t tile, unsigned lane) {
  const TileReader<T, Gradients> reader(arguments, index, tile);
  double sums[lanes_a_thread] = {};
  const auto add = [&](int j, T g) {
    const auto wide = static_cast<double>(g);
    sums[j] += wide * wide;
  };
  const int first = static_cast<int>(lane) * lanes_a_thread, size = reader.size();
  const int whole_rows = reader.is_aligned() ? size / row_lanes : 0;
#pragma unroll 8
  for (int i = 0; i < whole_rows; ++i) {
    const auto g = reader.template get<lanes_a_thread>(i * row_lanes + first);
#pragma unroll
    for (int j = 0; j < lanes_a_thread; ++j) add(j, g.at[j]);
  }
#pragma unroll 1
  for (int i = whole_rows * row_lanes + first; i < size; i += row_lanes) {
#pragma unroll
    for (int j = 0; j < lanes_a_thread; ++j) {
      if (i + j < size) add(j, reader.template get<1>(i + j).at[0]);
    }
  }
  return sum_warp((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace ravine::cuda
