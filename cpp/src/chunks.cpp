#include "chunks.hpp"

#include <algorithm>
#include <bit>

namespace ravine {

std::vector<Multipliers> distinct_multipliers(std::span<const Row> rows) {
  std::vector<Multipliers> result;
  for (const Row& row : rows) {
    if (std::ranges::find(result, row.multipliers) == result.end()) {
      result.push_back(row.multipliers);
    }
  }
  if (result.empty()) result.emplace_back();
  return result;
}

Chunks cut(std::span<Row> rows) {
  Chunks result;
  for (Row& row : rows) {
    row.first_tile = result.tiles;
    result.tiles += (row.size + tile_size - 1) / tile_size;
    result.elements += row.size;
  }
  const std::int64_t largest =
      std::clamp(result.elements / shares / tile_size * tile_size, chunk_size, max_chunk_size);
  for (const Multipliers& multipliers : distinct_multipliers(rows)) {
    Group group{multipliers, static_cast<std::int64_t>(result.items.size())};
    std::int64_t in_item = largest;  // of the item being filled; full: the next chunk opens one
    for (std::size_t row = 0; row < rows.size(); ++row) {
      if (rows[row].multipliers != multipliers) continue;
      const std::int64_t size = rows[row].size;
      for (std::int64_t begin = 0; begin < size; begin += largest) {
        const std::int64_t piece = std::min(largest, size - begin);
        if (in_item + piece > largest) {
          result.items.push_back(static_cast<std::int64_t>(result.chunks.size()));
          in_item = 0;
        }
        in_item += piece;
        result.chunks.push_back({begin, piece, static_cast<std::int64_t>(row)});
      }
      group.elements += size;
    }
    group.end_item = static_cast<std::int64_t>(result.items.size());
    result.groups.push_back(group);
  }
  result.items.push_back(static_cast<std::int64_t>(result.chunks.size()));
  return result;
}

double sum_tree(const double* values, std::int64_t count) {
  if (count == 1) return values[0];
  constexpr std::int64_t width = 256;
  double sum[width] = {};
  for (std::int64_t i = 0; i < count; i += width) {
    for (std::int64_t j = 0; j < std::min(width, count - i); ++j) sum[j] += values[i + j];
  }
  // Squares are never negative zero, so adding the zeros beyond `count` would change no bit.
  const auto used = static_cast<std::uint64_t>(std::clamp<std::int64_t>(count, 1, width));
  for (std::uint64_t half = std::bit_ceil(used) / 2; half > 0; half /= 2) {
    for (std::uint64_t j = 0; j < half; ++j) sum[j] += sum[j + half];
  }
  return sum[0];
}

}  // namespace ravine
