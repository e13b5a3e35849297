// The rows that a backend works on, one a variable, and how they are cut into chunks: the same for
// both backends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layout.hpp"
#include "ravine/passes.hpp"
#include "ravine/rules.hpp"

namespace ravine {

/// Elements under one leaf of the tree by which norms are summed.
inline constexpr std::int64_t tile_size = 2048;

/// Elements that one thread takes at a time, at least and at most, and the part of the whole that
/// it takes between these: long stretches keep memory streaming, many of them share out well.
inline constexpr std::int64_t chunk_size = 8 * tile_size;
inline constexpr std::int64_t max_chunk_size = 16 * chunk_size;
inline constexpr std::int64_t shares = 64;

/// A variable in one step. Slots, average and accumulator are of the arithmetic type.
struct Row {
  Array w, g;
  void* slots[max_slots] = {};
  void* average = nullptr;
  void* accumulator = nullptr;
  std::int64_t size = 0;
  std::int64_t first_tile = 0;
  double clip_factor = 1.0;
  Multipliers multipliers;
  bool decays = true;
  bool updates = false;  ///< false: no gradient, only averaged
};

/// A piece of one variable.
struct Chunk {
  std::int64_t begin = 0;
  std::int64_t size = 0;
  std::int64_t row = 0;
};

/// The variables of the same multipliers: one update has the same numbers for all of them.
struct Group {
  Multipliers multipliers;
  std::int64_t first_item = 0, end_item = 0;
  std::int64_t elements = 0;
};

/// The distinct multipliers of the rows, in the order of their first rows; one, if there is no row.
std::vector<Multipliers> distinct_multipliers(std::span<const Row> rows);

/// All chunks, group by group, and the items that threads take: runs of chunks of about one size
/// together.
struct Chunks {
  std::vector<Chunk> chunks;
  std::vector<std::int64_t> items;  ///< item i: chunks items[i] to items[i + 1]
  std::vector<Group> groups;
  std::int64_t tiles = 0;
  std::int64_t elements = 0;
};

/// Cuts variables of the given sizes; sets the `first_tile` of each.
Chunks cut(std::span<Row> rows);

/// Sums by a fixed tree: value i to accumulator i % 256 in order, then 256 to 1 by halving.
double sum_tree(const double* values, std::int64_t count);

}  // namespace ravine
