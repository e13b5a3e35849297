// How variables are cut for the threads, and the tree by which norms are summed.
#include "chunks.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "plain_step.hpp"

namespace ravine::test {
namespace {

std::vector<Row> rows_of(const std::vector<std::int64_t>& sizes) {
  std::vector<Row> rows(sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) rows[i].size = sizes[i];
  return rows;
}

const std::vector<std::vector<std::int64_t>> models{
    {},
    {0},
    {1},
    {0, 0, 1, 0},
    {tile_size},
    {tile_size + 1},
    {chunk_size - 1, 1, 1},
    {chunk_size},
    {chunk_size + 1},
    {5 * chunk_size + 17, 3, chunk_size / 2, chunk_size / 2 + 1},
    std::vector<std::int64_t>(1000, 37),
};

TEST(Cut, CoversEachElementOnceAndInOrder) {
  for (const auto& sizes : models) {
    std::vector<Row> rows = rows_of(sizes);
    const Chunks result = cut(rows);
    std::vector<std::int64_t> reached(sizes.size(), 0);
    for (const Chunk& chunk : result.chunks) {
      ASSERT_EQ(chunk.begin, reached[static_cast<std::size_t>(chunk.row)]);
      ASSERT_GT(chunk.size, 0);
      ASSERT_LE(chunk.size, chunk_size);
      reached[static_cast<std::size_t>(chunk.row)] += chunk.size;
    }
    EXPECT_EQ(reached, sizes);
    EXPECT_EQ(result.elements, std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  }
}

/// Every third row, one in the middle, and the last have multipliers of their own.
std::vector<Row> grouped_rows_of(const std::vector<std::int64_t>& sizes) {
  std::vector<Row> rows = rows_of(sizes);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i % 3 == 1) rows[i].multipliers.learning_rate = 0.5;
    if (i == rows.size() / 2) rows[i].multipliers.weight_decay = 0.0;
    if (i + 1 == rows.size()) rows[i].multipliers = {2.0, 2.0};
  }
  return rows;
}

TEST(Cut, KeepsGroupsOfEqualMultipliersTogether) {
  for (const auto& sizes : models) {
    std::vector<Row> rows = grouped_rows_of(sizes);
    const Chunks result = cut(rows);
    std::int64_t item = 0, elements = 0;
    for (const Group& group : result.groups) {
      ASSERT_EQ(group.first_item, item);
      std::int64_t of_group = 0;
      for (; item < group.end_item; ++item) {
        const auto index = static_cast<std::size_t>(item);
        for (std::int64_t i = result.items[index]; i < result.items[index + 1]; ++i) {
          const Chunk& chunk = result.chunks[static_cast<std::size_t>(i)];
          ASSERT_EQ(rows[static_cast<std::size_t>(chunk.row)].multipliers, group.multipliers);
          of_group += chunk.size;
        }
      }
      EXPECT_EQ(group.elements, of_group);
      elements += of_group;
    }
    ASSERT_EQ(item + 1, static_cast<std::int64_t>(result.items.size()));
    EXPECT_EQ(elements, result.elements);
    EXPECT_EQ(result.groups.size(), distinct_multipliers(rows).size());
  }
}

TEST(Cut, NumbersTilesAlikeWhateverTheGroups) {
  for (const auto& sizes : models) {
    std::vector<Row> plain = rows_of(sizes), grouped = grouped_rows_of(sizes);
    EXPECT_EQ(cut(plain).tiles, cut(grouped).tiles);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      EXPECT_EQ(plain[i].first_tile, grouped[i].first_tile);
    }
  }
}

TEST(Cut, BeginsChunksAtTiles) {
  for (const auto& sizes : models) {
    std::vector<Row> rows = rows_of(sizes);
    for (const Chunk& chunk : cut(rows).chunks) EXPECT_EQ(chunk.begin % tile_size, 0);
  }
}

TEST(Cut, NumbersTilesThroughoutTheModel) {
  for (const auto& sizes : models) {
    std::vector<Row> rows = rows_of(sizes);
    const Chunks result = cut(rows);
    std::int64_t tiles = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].first_tile, tiles);
      tiles += (sizes[i] + tile_size - 1) / tile_size;
    }
    EXPECT_EQ(result.tiles, tiles);
  }
}

TEST(Cut, JoinsSmallVariablesInOneItem) {
  for (const auto& sizes : models) {
    std::vector<Row> rows = rows_of(sizes);
    const Chunks result = cut(rows);
    ASSERT_EQ(result.items.back(), static_cast<std::int64_t>(result.chunks.size()));
    if (result.chunks.empty()) continue;
    ASSERT_EQ(result.items.front(), 0);
    std::int64_t last = 0;
    for (std::size_t item = 0; item + 1 < result.items.size(); ++item) {
      ASSERT_LT(result.items[item], result.items[item + 1]);
      std::int64_t elements = 0;
      for (auto i = result.items[item]; i < result.items[item + 1]; ++i) {
        elements += result.chunks[static_cast<std::size_t>(i)].size;
      }
      EXPECT_LE(elements, chunk_size);
      // No two neighbours could have been one.
      if (item > 0) {
        const auto first = static_cast<std::size_t>(result.items[item]);
        EXPECT_GT(last + result.chunks[first].size, chunk_size);
      }
      last = elements;
    }
  }
}

TEST(SumTree, EqualsItsDefinition) {
  for (const std::size_t count : {1, 2, 3, 7, 8, 100, 127, 128, 129, 255, 256, 257, 300, 511, 512,
                                  1000, 4096, 9999, 100001}) {
    std::vector<double> values = random_values<double>(count, static_cast<unsigned>(count));
    for (double& value : values) value *= value;
    EXPECT_EQ(sum_tree(values.data(), static_cast<std::int64_t>(count)), plain_sum_tree(values))
        << count;
  }
}

TEST(SumTree, KeepsNanAndInfinity) {
  std::vector<double> values(1000, 1.0);
  values[700] = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isinf(sum_tree(values.data(), 1000)));
  values[701] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum_tree(values.data(), 1000)));
}

}  // namespace
}  // namespace ravine::test
