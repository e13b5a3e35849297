// The least work that touches the arrays of a step: what the speed of a step is measured against.
// Included by loop.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "chunks.hpp"

namespace ravine::cpu {
namespace {

template <class W, class... State>
[[gnu::noinline]] void add_to_all(std::int64_t count, W* __restrict w, const W* __restrict g,
                                  State* __restrict... state) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    w[i] = static_cast<W>(w[i] + g[i]);
    ((state[i] += static_cast<State>(g[i])), ...);
  }
}

/// Reads and writes what an update of the chunk would: one addition an element of each array.
template <class W, class T>
void stream_chunk(const Row& row, const Chunk& chunk, int slot_count, bool averages) {
  T* state[max_slots + 1];
  std::size_t count = 0;
  for (int k = 0; k < slot_count; ++k) state[count++] = static_cast<T*>(row.slots[k]) + chunk.begin;
  if (averages) state[count++] = static_cast<T*>(row.average) + chunk.begin;
  W* const w = reinterpret_cast<W*>(row.w.data) + chunk.begin;
  const W* const g = reinterpret_cast<const W*>(row.g.data) + chunk.begin;
  const auto with = [&]<std::size_t... k>(std::index_sequence<k...>) {
    add_to_all(chunk.size, w, g, state[k]...);
  };
  switch (count) {
    case 0:
      return with(std::make_index_sequence<0>{});
    case 1:
      return with(std::make_index_sequence<1>{});
    case 2:
      return with(std::make_index_sequence<2>{});
    case 3:
      return with(std::make_index_sequence<3>{});
    default:
      return with(std::make_index_sequence<4>{});
  }
}

/// Reads the gradient once, in any order: the least that a norm costs.
template <class G>
G read_chunk(const Row& row, const Chunk& chunk) {
  const G* const g = reinterpret_cast<const G*>(row.g.data) + chunk.begin;
  constexpr std::int64_t width = 64;
  G sum[width] = {};
  std::int64_t i = 0;
  for (; i + width <= chunk.size; i += width) {
    for (std::int64_t j = 0; j < width; ++j) sum[j] = static_cast<G>(sum[j] + g[i + j]);
  }
  for (; i < chunk.size; ++i) sum[0] = static_cast<G>(sum[0] + g[i]);
  G total = 0;
  for (const G value : sum) total = static_cast<G>(total + value);
  return total;
}

}  // namespace
}  // namespace ravine::cpu
