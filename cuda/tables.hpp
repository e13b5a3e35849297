// What the kernels find in the memory of the device: the rows of a plan, their chunks, and where
// training stands. Read by the host's compiler and by CUDA's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chunks.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/passes.hpp"
#include "ravine/portable.hpp"
#include "ravine/slots.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cuda {

inline constexpr unsigned block_threads = 256;
inline constexpr unsigned warp_threads = 32;

/// Elements of one variable that a block updates.
inline constexpr std::int64_t chunk_elements = tile_size;

/// What never changes of a variable.
struct RowTable {
  void* w;
  void* slots[max_slots];
  void* average;
  void* accumulator;
  std::int64_t size;
  std::int64_t first_tile;
  DType dtype;
};

/// What may change from step to step, one byte a row.
struct Marks {
  std::uint8_t dtype : 2;    ///< of the gradient
  std::uint8_t updates : 1;  ///< false: no gradient, only averaged
  std::uint8_t decays : 1;
  std::uint8_t rest : 4 = 0;  ///< not padding, so that equal marks are equal bytes

  bool operator==(const Marks&) const = default;
};
static_assert(sizeof(Marks) == 1);

struct ChunkTable {
  std::uint32_t row;
  std::uint32_t index;  ///< the chunk begins at element `index * chunk_elements`
};

/// The variables of the same multipliers: a launch of its own.
struct GroupTable {
  Multipliers multipliers;
  std::uint32_t first_chunk, chunk_count;
};

/// Where training stands. The host knows it too, until a step is captured in a graph: replays move
/// it where the host cannot see it.
struct Progress {
  double learning_rate;
  // Those of the calls from number `rates_begin` on, if there are any: `Tables::rates`.
  std::int64_t rates_begin, rates_count;
  std::int64_t iteration;
  LossScale loss_scale;
  alignas(8) std::byte rule[64];  ///< a rule, for its scalar state

  /// Whether the next call ends a window of so many.
  RAVINE_PORTABLE bool completes(std::int64_t window) const {
    return (iteration + 1) % window == 0;
  }
};

enum class Action : std::uint32_t { update, accumulate, skip };

/// What one call does, where the device finds it out.
struct Numbers {
  Passes passes;
  Action action;
  alignas(8) std::byte kernel[64];  ///< a `Kernel<double>` of the rule
};

/// All of it, by address.
struct Tables {
  const RowTable* rows;
  const ChunkTable* chunks;
  const void** gradients;  ///< nullptr: zeros
  Marks* marks;            ///< behind the gradients, so that both can be sent at once
  double* tiles;           ///< sums of squares of the tiles of all gradients,
  double* sums;            ///< and of each gradient
  double* clip_factors;
  double* rates;
  std::uint8_t* received;  ///< whether a row had a gradient in this window, where the device counts
  unsigned* summed_tiles;  ///< of each gradient; zero between launches
  unsigned* summed_rows;   ///< likewise
  Progress* progress;
  const GroupTable* groups;
  Numbers* numbers;  ///< one for each group
  std::uint32_t group_count;
  std::uint32_t row_count;
  std::uint32_t filled_rows;  ///< those with elements
  std::uint32_t chunk_count;
};

}  // namespace ravine::cuda
