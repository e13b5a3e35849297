// Where the elements of strided arrays lie, against walks over single elements.
#include "layout.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace ravine::test {
namespace {

using Numbers = std::vector<std::int64_t>;

/// A view of rank, shape and strides of one's own; it must not outlive the vectors.
TensorView view_of(void* data, const Numbers& shape, const Numbers& strides, DType dtype) {
  TensorView view(data, 1, dtype);
  for (const std::int64_t size : shape) view.size *= size;
  view.rank = static_cast<int>(shape.size());
  view.shape = shape.data();
  view.strides_bytes = strides.data();
  return view;
}

/// Offsets in bytes of all elements, the first axis of `order` outermost.
Numbers offsets_of(const Numbers& shape, const Numbers& strides, const std::vector<int>& order) {
  Numbers offsets{0};
  for (const int axis : order) {
    const auto k = static_cast<std::size_t>(axis);
    Numbers next;
    for (const std::int64_t offset : offsets) {
      for (std::int64_t i = 0; i < shape[k]; ++i) next.push_back(offset + i * strides[k]);
    }
    offsets = next;
  }
  return offsets;
}

std::vector<int> all_axes(const Numbers& shape) {
  std::vector<int> axes(shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

TEST(MemoryOrder, IsByDecreasingStrideWithoutAxesOfOne) {
  float data[1];
  const struct {
    Numbers shape, strides;
    std::vector<int> order;
  } cases[] = {
      {{2, 3}, {12, 4}, {0, 1}},          {{2, 3}, {4, 8}, {1, 0}},
      {{2, 3, 4}, {4, 8, 24}, {2, 1, 0}}, {{1, 5, 1}, {999, 4, 0}, {1}},
      {{2, 3}, {-12, 4}, {0, 1}},         {{2, 3}, {4, -8}, {1, 0}},
      {{2, 2, 2}, {8, 16, 4}, {1, 0, 2}}, {{}, {}, {}},
      {{2, 2}, {4, 4}, {0, 1}},           {{1, 1}, {4, 4}, {}},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(memory_order(view_of(data, c.shape, c.strides, DType::float32)), c.order);
  }
}

TEST(MemoryOrder, WithoutStridesIsTheOrderOfC) {
  float data[24];
  const Numbers shape{2, 3, 4};
  TensorView view(data, 24);
  view.rank = 3;
  view.shape = shape.data();
  EXPECT_EQ(memory_order(view), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(memory_order(TensorView(data, 24)), (std::vector<int>{0}));
  EXPECT_EQ(memory_order(TensorView(data, 1)), (std::vector<int>{}));
}

TEST(Walk, IsEmptyWithoutGaps) {
  alignas(8) float data[24];
  for (const Numbers& strides : {Numbers{48, 16, 4}, Numbers{4, 8, 24}, Numbers{16, 32, 4}}) {
    const Numbers shape{2, 3, 4};
    const TensorView view = view_of(data, shape, strides, DType::float32);
    EXPECT_TRUE(walk(view, memory_order(view)).empty());
  }
  EXPECT_TRUE(walk(TensorView(data, 24), {0}).empty());
  EXPECT_TRUE(walk(TensorView(data, 1), {}).empty());
  EXPECT_TRUE(walk(TensorView(data, 0), {0}).empty());
}

TEST(Walk, IsNotEmptyWhereMisaligned) {
  alignas(8) std::byte bytes[64];
  TensorView view(bytes + 1, 5, DType::float32);
  const std::vector<Axis> axes = walk(view, memory_order(view));
  ASSERT_EQ(axes.size(), 1u);
  EXPECT_EQ(axes[0].size, 5);
  EXPECT_EQ(axes[0].stride_bytes, 4);
  view.size = 1;
  EXPECT_EQ(walk(view, {}).size(), 1u);
}

TEST(Walk, JoinsAxesThatFollowEachOther) {
  alignas(8) float data[1000];
  const Numbers shape{5, 4, 3}, strides{96, 24, 8};
  const TensorView view = view_of(data, shape, strides, DType::float32);
  const std::vector<Axis> axes = walk(view, memory_order(view));
  ASSERT_EQ(axes.size(), 1u);
  EXPECT_EQ(axes[0].size, 60);
  EXPECT_EQ(axes[0].stride_bytes, 8);
}

TEST(Walk, OfReversedArrayRunsFromIndexZero) {
  alignas(8) float data[6] = {0, 1, 2, 3, 4, 5};
  const Numbers shape{6}, strides{-4};
  const TensorView view = view_of(data + 5, shape, strides, DType::float32);
  const std::vector<Axis> axes = walk(view, memory_order(view));
  float out[6];
  gather({static_cast<std::byte*>(view.data), axes.data(), 1, view.dtype}, 0, 6,
         reinterpret_cast<std::byte*>(out));
  EXPECT_EQ(std::vector<float>(out, out + 6), (std::vector<float>{5, 4, 3, 2, 1, 0}));
}

/// Random shapes and strides, all inside `memory`, of which element (0, ...) lies at `start`.
struct RandomView {
  Numbers shape, strides;
  std::int64_t start = 0;
};

constexpr std::int64_t memory_bytes = 4096;

RandomView random_view(std::mt19937& generator, int item) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(generator);
  };
  for (;;) {
    RandomView result;
    std::int64_t low = 0, high = item;
    for (int axis = pick(0, 4); axis > 0; --axis) {
      result.shape.push_back(pick(1, 5));
      // Strides of any sign, odd ones among them, and 0.
      result.strides.push_back(pick(0, 3) == 0 ? pick(-40, 40) : item * pick(-20, 20));
      const std::int64_t reach = (result.shape.back() - 1) * result.strides.back();
      (reach < 0 ? low : high) += reach;
    }
    if (high - low > memory_bytes) continue;
    result.start = pick(static_cast<int>(-low), static_cast<int>(memory_bytes - high));
    return result;
  }
}

TEST(Gather, TakesElementsInTheOrderOfTheWalk) {
  std::mt19937 generator(1);
  std::vector<std::byte> memory(memory_bytes);
  for (std::byte& byte : memory) byte = static_cast<std::byte>(generator());
  for (int repeat = 0; repeat < 3000; ++repeat) {
    for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
      const int item = size_bytes(dtype);
      const RandomView random = random_view(generator, item);
      std::byte* const start = memory.data() + random.start;
      const TensorView view = view_of(start, random.shape, random.strides, dtype);
      const std::vector<int> order = memory_order(view);
      const std::vector<Axis> axes = walk(view, order);
      const Numbers offsets = offsets_of(random.shape, random.strides, order);
      ASSERT_EQ(static_cast<std::int64_t>(offsets.size()), view.size);
      const auto begin = static_cast<std::int64_t>(generator() % offsets.size());
      const auto count = static_cast<std::int64_t>(generator() % (offsets.size() - begin + 1));
      for (std::int64_t i = begin; i < begin + count; ++i) {
        if (axes.empty()) {
          ASSERT_EQ(offsets[static_cast<std::size_t>(i)], i * item);
        }
      }
      if (axes.empty()) continue;
      std::vector<std::byte> out(static_cast<std::size_t>(count * item) + 1, std::byte{0x5a});
      gather({start, axes.data(), static_cast<int>(axes.size()), dtype}, begin, count, out.data());
      for (std::int64_t i = 0; i < count; ++i) {
        const std::byte* const element = start + offsets[static_cast<std::size_t>(begin + i)];
        ASSERT_EQ(std::memcmp(out.data() + i * item, element, static_cast<std::size_t>(item)), 0);
      }
      ASSERT_EQ(out.back(), std::byte{0x5a});
    }
  }
}

TEST(Scatter, IsTheWayBackOfGather) {
  std::mt19937 generator(2);
  int tried = 0;
  while (tried < 500) {
    const DType dtype = DType::float32;
    std::vector<std::byte> memory(memory_bytes, std::byte{0});
    const RandomView random = random_view(generator, 4);
    std::byte* const start = memory.data() + random.start;
    const TensorView view = view_of(start, random.shape, random.strides, dtype);
    const std::vector<Axis> axes = walk(view, memory_order(view));
    if (axes.empty() || overlaps_itself(view)) continue;
    ++tried;
    const Array array{start, axes.data(), static_cast<int>(axes.size()), dtype};
    std::vector<std::byte> in(static_cast<std::size_t>(view.size) * 4), out(in.size());
    for (std::byte& byte : in) byte = static_cast<std::byte>(generator() | 1);
    scatter(array, 0, view.size, in.data());
    gather(array, 0, view.size, out.data());
    ASSERT_EQ(in, out);
    // Nothing else was written.
    std::set<std::int64_t> written;
    for (const std::int64_t offset :
         offsets_of(random.shape, random.strides, all_axes(random.shape))) {
      for (int byte = 0; byte < 4; ++byte) written.insert(random.start + offset + byte);
    }
    for (std::int64_t i = 0; i < memory_bytes; ++i) {
      if (written.contains(i)) continue;
      ASSERT_EQ(memory[static_cast<std::size_t>(i)], std::byte{0});
    }
  }
}

std::set<std::int64_t> bytes_of(const RandomView& random, int item) {
  std::set<std::int64_t> bytes;
  for (const std::int64_t offset :
       offsets_of(random.shape, random.strides, all_axes(random.shape))) {
    for (int byte = 0; byte < item; ++byte) bytes.insert(random.start + offset + byte);
  }
  return bytes;
}

TEST(ShareMemory, EqualsComparingAllBytes) {
  std::mt19937 generator(3);
  std::vector<std::byte> memory(memory_bytes);
  int shared = 0;
  for (int repeat = 0; repeat < 3000; ++repeat) {
    const RandomView a = random_view(generator, 4), b = random_view(generator, 2);
    const std::set<std::int64_t> of_a = bytes_of(a, 4), of_b = bytes_of(b, 2);
    bool expected = false;
    for (const std::int64_t byte : of_b) expected |= of_a.contains(byte);
    shared += expected;
    const TensorView first = view_of(memory.data() + a.start, a.shape, a.strides, DType::float32);
    const TensorView second = view_of(memory.data() + b.start, b.shape, b.strides, DType::bfloat16);
    ASSERT_EQ(share_memory(first, second), expected);
    ASSERT_EQ(share_memory(second, first), expected);
  }
  EXPECT_GT(shared, 100);
}

TEST(ShareMemory, TellsInterleavedColumnsApart) {
  float data[12];
  const Numbers shape{6}, strides{8};
  const TensorView even = view_of(data, shape, strides, DType::float32);
  const TensorView odd = view_of(data + 1, shape, strides, DType::float32);
  EXPECT_FALSE(share_memory(even, odd));
  EXPECT_TRUE(share_memory(even, TensorView(data, 12)));
  EXPECT_TRUE(share_memory(even, even));
}

TEST(ShareMemory, IsFalseForArraysWithoutElements) {
  float data[4];
  EXPECT_FALSE(share_memory(TensorView(data, 0), TensorView(data, 4)));
  EXPECT_FALSE(share_memory(TensorView(data + 2, 0), TensorView(data, 4)));
  EXPECT_FALSE(share_memory(TensorView(data, 2), TensorView(data + 2, 2)));
}

TEST(OverlapsItself, EqualsCountingBytes) {
  std::mt19937 generator(4);
  std::vector<std::byte> memory(memory_bytes);
  int overlapping = 0;
  for (int repeat = 0; repeat < 5000; ++repeat) {
    const RandomView random = random_view(generator, 4);
    const TensorView view =
        view_of(memory.data() + random.start, random.shape, random.strides, DType::float32);
    const bool expected = static_cast<std::int64_t>(bytes_of(random, 4).size()) != 4 * view.size;
    overlapping += expected;
    ASSERT_EQ(overlaps_itself(view), expected);
  }
  EXPECT_GT(overlapping, 500);
}

TEST(Extent, ReachesFromTheFirstByteToBehindTheLast) {
  float data[20];
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const Numbers shape{3, 2}, strides{-16, 4};
  const Extent found = extent(view_of(data + 8, shape, strides, DType::float32));
  EXPECT_EQ(found.begin, address);
  EXPECT_EQ(found.end, address + 40);
  const Extent empty = extent(TensorView(data, 0));
  EXPECT_EQ(empty.begin, empty.end);
}

}  // namespace
}  // namespace ravine::test
