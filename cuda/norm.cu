// Norms by the same tree as on the CPU (docs/semantics.md), the factors by which they clip, and
// where the device counts, what follows from them.
#include <cmath>
#include <limits>
#include <variant>

#include "elements.cuh"
#include "kernels.hpp"
#include "launch.cuh"
#include "move_on.cuh"
#include "ravine/passes.hpp"

namespace ravine::cuda {
namespace {

constexpr int lanes_a_thread = 4;
constexpr std::int64_t row_lanes = warp_threads * lanes_a_thread;  // of a tile
constexpr std::int64_t tile_rows = tile_size / row_lanes;
constexpr std::int64_t tiles_a_chunk = chunk_elements / tile_size;
constexpr std::int64_t warps_a_block = block_threads / warp_threads;
constexpr std::int64_t chunks_a_block = warps_a_block / tiles_a_chunk;

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

/// What is left of a gradient from the beginning of a tile on, as the step will take it: unscaled
/// or, where micro-steps were accumulated, their mean. Zeros beyond its end.
///
/// `is_plain`: all gradients are float32 and there, and none is accumulated.
template <class T, bool is_plain>
class TileReader {
 public:
  __device__ TileReader(const TileArguments& arguments, std::uint32_t index, std::int64_t tile)
      : row_(arguments.tables.rows[index]),
        dtype_(is_plain ? DType::float32 : static_cast<DType>(arguments.tables.marks[index].dtype)),
        gradient_(arguments.tables.gradients[index]),
        begin_(tile * tile_size),
        unscale_{T(arguments.gradient_scale)},
        finish_{T(arguments.gradient_scale), T(arguments.accumulated)} {
    const unsigned item = dtype_ == DType::float64 ? 8 : dtype_ == DType::float32 ? 4 : 2;
    const unsigned vector = lanes_a_thread * item < 16 ? lanes_a_thread * item : 16;
    const auto address = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(gradient_));
    is_whole_ = (address & (vector - 1)) == 0 && begin_ + tile_size <= row_.size;
  }

  __device__ __forceinline__ Pack<T, lanes_a_thread> operator()(std::int64_t lane) const {
    const std::int64_t index = begin_ + lane;
    if (is_whole_) {
      Pack<T, lanes_a_thread> values = fetched<lanes_a_thread>(index);
#pragma unroll
      for (int i = 0; i < lanes_a_thread; ++i) values.at[i] = taken(values.at[i], index + i);
      return values;
    }
    Pack<T, lanes_a_thread> values{};
#pragma unroll 1
    for (int i = 0; i < lanes_a_thread && index + i < row_.size; ++i) {
      const T value = taken(fetched<1>(index + i).at[0], index + i);
#pragma unroll
      for (int j = 0; j < lanes_a_thread; ++j) values.at[j] = i == j ? value : values.at[j];
    }
    return values;
  }

 private:
  template <int count>
  __device__ __forceinline__ Pack<T, count> fetched(std::int64_t index) const {
    if constexpr (is_plain) {
      return load<T, count>(gradient_, index);
    } else {
      Undecoded<count> raw;
      if (gradient_ != nullptr) raw = fetch<count>(dtype_, gradient_, index);
      return decode<T, count>(dtype_, raw);
    }
  }

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
  bool is_whole_;
};

template <class T, bool is_plain>
__device__ __forceinline__ double sum_tile(const TileArguments& arguments, std::uint32_t index,
                                           std::int64_t tile, unsigned lane) {
  const TileReader<T, is_plain> read(arguments, index, tile);
  double sums[lanes_a_thread] = {};
#pragma unroll 4
  for (std::int64_t i = 0; i < tile_rows; ++i) {
    const auto g = read(i * row_lanes + lane * lanes_a_thread);
#pragma unroll
    for (int j = 0; j < lanes_a_thread; ++j) {
      const auto wide = static_cast<double>(g.at[j]);
      sums[j] += wide * wide;
    }
  }
  return sum_warp((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// One warp a tile.
template <bool is_plain>
__global__ void __launch_bounds__(block_threads) sum_tiles(TileArguments arguments) {
  const bool completes = complete(arguments);
  const Tables& tables = arguments.tables;
  const unsigned warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const std::int64_t chunk_index = blockIdx.x * chunks_a_block + warp / tiles_a_chunk;
  if (chunk_index >= tables.chunk_count) return;
  const ChunkTable chunk = tables.chunks[chunk_index];
  const RowTable& row = tables.rows[chunk.row];
  const std::int64_t tile = chunk.index * tiles_a_chunk + warp % tiles_a_chunk;
  if (tile * tile_size >= row.size || !takes_part(arguments, chunk.row, completes)) return;
  double sum;
  if constexpr (is_plain) {
    sum = sum_tile<float, true>(arguments, chunk.row, tile, lane);
  } else if (row.dtype == DType::float64) {
    sum = sum_tile<double, false>(arguments, chunk.row, tile, lane);
  } else {
    sum = sum_tile<float, false>(arguments, chunk.row, tile, lane);
  }
  if (lane == 0) tables.tiles[row.first_tile + tile] = sum;
}

/// `count` values to 1: value i to thread i % 256 in order, then by halving. The sum is the first
/// warp's.
__device__ double sum_block(const double* values, std::int64_t count) {
  __shared__ double sums[block_threads];
  double sum = 0.0;
#pragma unroll 8
  for (std::int64_t i = threadIdx.x; i < count; i += block_threads) sum += values[i];
  sums[threadIdx.x] = sum;
#pragma unroll
  for (unsigned half = block_threads / 2; half >= warp_threads; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  __syncthreads();
  const double result = sum_warp(sums[threadIdx.x % warp_threads]);
  __syncthreads();  // the sums may be used again
  return result;
}

/// `Next` is called by the block that finishes last.
template <class Next>
struct FactorArguments {
  TileArguments tiles;
  NormBound bound;
  Next next;
};

/// Where the host goes on.
struct Nothing {
  __device__ void operator()(const Tables&, bool) const {}
};

/// "Not below" rather than "above": the norm of a gradient with NaN must not leave it unclipped.
__device__ __forceinline__ double clip_factor(double norm, double bound) {
  return norm <= bound ? 1.0 : bound / norm;
}

/// One block a gradient; the one that finishes last goes on to the norm of all.
template <class Next>
__global__ void __launch_bounds__(block_threads) find_factors(FactorArguments<Next> arguments) {
  const bool completes = complete(arguments.tiles);
  const Tables& tables = arguments.tiles.tables;
  const auto [kind, bound] = arguments.bound;
  const RowTable& row = tables.rows[blockIdx.x];
  const bool takes = takes_part(arguments.tiles, blockIdx.x, completes);
  const double sum =
      sum_block(tables.tiles + row.first_tile, takes ? (row.size + tile_size - 1) / tile_size : 0);
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    if (kind == NormBound::of_each) tables.clip_factors[blockIdx.x] = clip_factor(sqrt(sum), bound);
    tables.sums[blockIdx.x] = sum;
    __threadfence();
    is_last = atomicInc(tables.finished, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  __shared__ double total;
  const double sum_of_all = sum_block(tables.sums, tables.row_count);
  if (threadIdx.x == 0) total = sum_of_all;
  __syncthreads();
  const bool finite = total < std::numeric_limits<double>::infinity();
  if (kind == NormBound::of_all) {
    // As in Keras, a norm that is not finite spoils all variables rather than some.
    const double factor =
        finite ? clip_factor(sqrt(total), bound) : std::numeric_limits<double>::quiet_NaN();
    for (unsigned i = threadIdx.x; i < tables.row_count; i += block_threads) {
      tables.clip_factors[i] = factor;
    }
  }
  arguments.next(tables, finite);
}

template <class Rule>
struct AdvanceArguments {
  Tables tables;
  MoveOn<Rule> move_on;
};

/// One block.
template <class Rule>
__global__ void __launch_bounds__(block_threads)
    advance_rows(const AdvanceArguments<Rule> arguments) {
  arguments.move_on(arguments.tables, true);
}

/// Hands the typed `MoveOn` of a rule to `use`.
template <class Use>
void with_move_on(const AnyRule& any_rule, const Passes& passes, bool scales,
                  const double* learning_rate, const Use& use) {
  std::visit(
      [&]<class Rule>(const Rule& rule) {
        use(MoveOn<Rule>{rule, passes, scales, learning_rate != nullptr,
                         learning_rate != nullptr ? *learning_rate : 0.0});
      },
      any_rule);
}

TileArguments sum_gradients(const Tables& tables, ArrayTypes types, const Passes& passes,
                            Counting counting, bool scales, Stream stream) {
  const bool is_plain = types == ArrayTypes::float32 && passes.accumulated == 1;
  const std::int64_t blocks = (tables.chunk_count + chunks_a_block - 1) / chunks_a_block;
  const TileArguments arguments{tables, passes.gradient_scale, passes.accumulated, counting,
                                scales};
  launch(is_plain ? sum_tiles<true> : sum_tiles<false>, blocks, block_threads, stream, arguments);
  return arguments;
}

}  // namespace

void find_clip_factors(const Tables& tables, ArrayTypes types, const Passes& passes,
                       NormBound bound, Stream stream) {
  const TileArguments tiles =
      sum_gradients(tables, types, passes, Counting::on_host, false, stream);
  launch(find_factors<Nothing>, tables.row_count, block_threads, stream, {tiles, bound, {}});
}

void advance(const Tables& tables, ArrayTypes types, const AnyRule& any_rule, const Passes& passes,
             NormBound bound, bool scales, const double* learning_rate, Stream stream) {
  with_move_on(any_rule, passes, scales, learning_rate, [&]<class Rule>(const MoveOn<Rule>& next) {
    if (tables.row_count == 0 || (bound.kind == NormBound::none && !scales)) {
      return launch(advance_rows<Rule>, 1, block_threads, stream, {tables, next});
    }
    const TileArguments tiles =
        sum_gradients(tables, types, passes, Counting::on_device, scales, stream);
    launch(find_factors<MoveOn<Rule>>, tables.row_count, block_threads, stream,
           {tiles, bound, next});
  });
}

void load_norm_kernels(const AnyRule& rule) {
  load(sum_tiles<true>);
  load(sum_tiles<false>);
  load(find_factors<Nothing>);
  with_move_on(rule, {}, false, nullptr, []<class Rule>(const MoveOn<Rule>&) {
    load(find_factors<MoveOn<Rule>>);
    load(advance_rows<Rule>);
  });
}

}  // namespace ravine::cuda
