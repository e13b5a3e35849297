// Norms by the same tree as on the CPU (docs/semantics.md), the factors by which they clip, and
// where the device counts, what follows from them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <variant>

#include "kernels.hpp"
#include "launch.cuh"
#include "move_on.cuh"
#include "tile.cuh"

namespace ravine::cuda {
namespace {

constexpr unsigned block_warps = block_threads / warp_threads;
/// Tiles that a warp sums, at most, and blocks above which it sums several: a block takes a while
/// to see which rows are complete, and reads nothing meanwhile.
constexpr unsigned max_warp_tiles = 16;
constexpr std::int64_t some_blocks = 2048;
// Chunks are found by the numbers of tiles.
static_assert(chunk_elements == tile_size);

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
struct NormArguments {
  TileArguments tiles;
  unsigned warp_tiles;
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

/// What a block has summed, tile by tile, and which rows are complete with it.
struct BlockTiles {
  static constexpr std::uint32_t none = ~0u;
  std::uint32_t row[block_warps * max_warp_tiles];
  double sum[block_warps * max_warp_tiles];
  /// At the first tile of a row, how many the row has, if all are summed by now; 0 elsewhere.
  std::int64_t complete[block_warps * max_warp_tiles];
};

/// Sums tile number `index` of all, by one warp. Returns its row.
template <class Gradients>
__device__ __forceinline__ std::uint32_t sum_own_tile(const TileArguments& arguments,
                                                      bool completes, std::int64_t index,
                                                      unsigned lane, double& sum) {
  const Tables& tables = arguments.tables;
  if (index >= tables.chunk_count) return BlockTiles::none;
  const ChunkTable chunk = tables.chunks[index];
  const RowTable& row = tables.rows[chunk.row];
  if (takes_part(arguments, chunk.row, completes)) {
    sum = !Gradients::is_plain && row.dtype == DType::float64
              ? sum_tile<double, Gradients>(arguments, chunk.row, chunk.index, lane)
              : sum_tile<float, Gradients>(arguments, chunk.row, chunk.index, lane);
  }
  if (lane == 0) tables.tiles[row.first_tile + chunk.index] = sum;
  return chunk.row;
}

/// Counts the tiles of a row that are in this block, at the first of them; returns how many the row
/// has if none is missing any more.
__device__ __forceinline__ std::int64_t count_tiles(const Tables& tables, const BlockTiles& block,
                                                    unsigned tile, unsigned tiles) {
  const std::uint32_t row = block.row[tile];
  if (row == BlockTiles::none || (tile > 0 && block.row[tile - 1] == row)) return 0;
  unsigned here = 1;
  while (tile + here < tiles && block.row[tile + here] == row) ++here;
  const std::int64_t all = (tables.rows[row].size + tile_size - 1) / tile_size;
  if (here == all) return all;
  __threadfence();
  if (atomicAdd(tables.summed_tiles + row, here) + here != all) return 0;
  __threadfence();
  tables.summed_tiles[row] = 0;
  return all;
}

/// Blocks that share a multiprocessor, at least; 0: as nvcc likes it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int norm_blocks = 4;  // it likes 48 registers a thread there, of which some spill
#else
constexpr int norm_blocks = 0;
#endif

/// One warp a tile at a time. The block with the last tile of a row finds its norm, and the block
/// with the last row that of all.
template <class Gradients, class Next>
__global__ void __launch_bounds__(block_threads, norm_blocks)
    find_norms(NormArguments<Next> arguments) {
  const bool completes = complete(arguments.tiles);
  const Tables& tables = arguments.tiles.tables;
  const unsigned warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const unsigned tiles = arguments.warp_tiles * block_warps;
  __shared__ BlockTiles block;
#pragma unroll 1
  for (unsigned tile = warp; tile < tiles; tile += block_warps) {
    double sum = 0.0;
    const std::uint32_t row = sum_own_tile<Gradients>(
        arguments.tiles, completes, std::int64_t{blockIdx.x} * tiles + tile, lane, sum);
    if (lane == 0) block.row[tile] = row, block.sum[tile] = sum;
  }
  __syncthreads();
  if (threadIdx.x < tiles) {
    block.complete[threadIdx.x] = count_tiles(tables, block, threadIdx.x, tiles);
  }
  __syncthreads();

  const auto [kind, bound] = arguments.bound;
  unsigned rows = 0;
#pragma unroll 1
  for (unsigned tile = 0; tile < tiles; ++tile) {
    const std::int64_t count = block.complete[tile];
    if (count == 0) continue;
    const std::uint32_t row = block.row[tile];
    const double square =
        count == 1 ? block.sum[tile] : sum_block(tables.tiles + tables.rows[row].first_tile, count);
    if (threadIdx.x == 0) {
      if (kind == NormBound::of_each) tables.clip_factors[row] = clip_factor(sqrt(square), bound);
      tables.sums[row] = square;
    }
    ++rows;
  }
  if (rows == 0) return;
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(tables.summed_rows, rows) + rows == tables.filled_rows;
    if (is_last) *tables.summed_rows = 0;
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

/// The kernel for gradients of these types.
template <class Next>
auto norm_kernel(ArrayTypes types) {
  switch (types) {
    case ArrayTypes::float32:
      return find_norms<PlainGradients<DType::float32>, Next>;
    case ArrayTypes::float16:
      return find_norms<PlainGradients<DType::float16>, Next>;
    case ArrayTypes::bfloat16:
      return find_norms<PlainGradients<DType::bfloat16>, Next>;
    default:
      return find_norms<AnyGradients, Next>;
  }
}

template <class Next>
void launch_norms(const Tables& tables, ArrayTypes types, const Passes& passes, Counting counting,
                  bool scales, NormBound bound, const Next& next, Stream stream) {
  const auto kernel = norm_kernel<Next>(passes.accumulated == 1 ? types : ArrayTypes::mixed);
  const auto warp_tiles = static_cast<unsigned>(std::clamp<std::int64_t>(
      tables.chunk_count / (some_blocks * block_warps), 1, max_warp_tiles));
  const std::int64_t block_tiles = warp_tiles * block_warps;
  launch(kernel, (tables.chunk_count + block_tiles - 1) / block_tiles, block_threads, stream,
         {{tables, passes.gradient_scale, passes.accumulated, counting, scales},
          warp_tiles,
          bound,
          next});
}

}  // namespace

void find_clip_factors(const Tables& tables, ArrayTypes types, const Passes& passes,
                       NormBound bound, Stream stream) {
  launch_norms(tables, types, passes, Counting::on_host, false, bound, Nothing{}, stream);
}

void advance(const Tables& tables, ArrayTypes types, const AnyRule& any_rule, const Passes& passes,
             NormBound bound, bool scales, const double* learning_rate, Stream stream) {
  with_move_on(any_rule, passes, scales, learning_rate, [&]<class Rule>(const MoveOn<Rule>& next) {
    if (tables.chunk_count == 0 || (bound.kind == NormBound::none && !scales)) {
      launch(advance_rows<Rule>, 1, block_threads, stream, {tables, next});
    } else {
      launch_norms(tables, types, passes, Counting::on_device, scales, bound, next, stream);
    }
  });
}

void load_norm_kernels(const AnyRule& rule) {
  const auto load_norms = []<class Next>(const Next&) {
    for (const ArrayTypes types :
         {ArrayTypes::float32, ArrayTypes::float16, ArrayTypes::bfloat16, ArrayTypes::mixed}) {
      load(norm_kernel<Next>(types));
    }
  };
  load_norms(Nothing{});
  with_move_on(rule, {}, false, nullptr, [&]<class Rule>(const MoveOn<Rule>& next) {
    load_norms(next);
    load(advance_rows<Rule>);
  });
}

}  // namespace ravine::cuda
