// The leaves of the tree of a norm, by each instruction set, against their definition.
#include <gtest/gtest.h>

#include <vector>

#include "backends.hpp"
#include "cpu/floating_point.hpp"
#include "guarded_row.hpp"
#include "half.hpp"

namespace ravine::test {
namespace {

template <class T>
class SumSquares : public testing::Test {
 protected:
  const cpu::DefaultFloatingPoint mode;
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(SumSquares, Types);

TYPED_TEST(SumSquares, FollowsTheFixedTree) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const std::size_t size :
         {1,   2,   3,   4,   5,    31,   32,   33,   64,    65,    127,
          128, 129, 255, 500, 2047, 2048, 2049, 5000, 16384, 16385, 40000}) {
      for (const double scale : {1.0, 1.0 / 3}) {
        Passes passes;
        passes.gradient_scale = scale;
        GuardedRow<T> row(size, size % lanes<T>, 0);
        std::vector<T> g = row.arrays[1]->values();
        for (T& value : g) value = value * T(scale);
        const Job job({row.row});
        std::vector<double> tiles(static_cast<std::size_t>(job.chunks.tiles), -1.0);
        backend->sum_squares(passes, job.work(), tiles.data());
        ASSERT_TRUE(same_bits(tiles, plain_tiles(g))) << backend->name << " " << size;
        ASSERT_TRUE(row.intact());
      }
    }
  }
}

TYPED_TEST(SumSquares, TakesAccumulatedMeans) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const std::size_t size : {1, 130, 2049, 20000}) {
      Passes passes;
      passes.gradient_scale = 1.0 / 3;
      passes.accumulated = 3;
      GuardedRow<T> row(size, 1, 0);
      std::vector<T> g = row.arrays[1]->values();
      for (std::size_t i = 0; i < size; ++i) {
        g[i] = (g[i] * T(passes.gradient_scale) + row.arrays[3]->data()[i]) / T(3);
      }
      const std::vector<T> before = row.arrays[3]->values();
      const Job job({row.row});
      std::vector<double> tiles(static_cast<std::size_t>(job.chunks.tiles), -1.0);
      backend->sum_squares(passes, job.work(), tiles.data());
      ASSERT_TRUE(same_bits(tiles, plain_tiles(g))) << backend->name << " " << size;
      ASSERT_TRUE(same_bits(before, row.arrays[3]->values()));
    }
  }
}

/// One gradient of 16 bits, which variables of either type may have.
template <class T>
void expect_sums_of(DType dtype, float (*widen)(std::uint16_t)) {
  for (const cpu::Backend* const backend : backends()) {
    for (const std::size_t size : {1, 31, 127, 128, 129, 511, 513, 2047, 2048, 2049, 40000}) {
      for (const double scale : {1.0, 1.0 / 3}) {
        Passes passes;
        passes.gradient_scale = scale;
        std::vector<std::uint16_t> bits(size);
        std::vector<T> g(size);
        for (std::size_t i = 0; i < size; ++i) {
          bits[i] = static_cast<std::uint16_t>(0x3000 + 7919 * i % 0x1000 + 0x8000 * (i % 2));
          g[i] = static_cast<T>(widen(bits[i])) * T(scale);
        }
        Guarded<std::uint16_t> narrow(bits, size % 32);
        GuardedRow<T> row(size, 1, 0);
        row.row.g = {reinterpret_cast<std::byte*>(narrow.data()), nullptr, 0, dtype};
        const Job job({row.row});
        std::vector<double> tiles(static_cast<std::size_t>(job.chunks.tiles), -1.0);
        backend->sum_squares(passes, job.work(), tiles.data());
        ASSERT_TRUE(same_bits(tiles, plain_tiles(g))) << backend->name << " " << size;
        ASSERT_TRUE(same_bits(narrow.values(), bits));
      }
    }
  }
}

TYPED_TEST(SumSquares, WidensSixteenBits) {
  expect_sums_of<TypeParam>(DType::bfloat16, from_bfloat16);
  expect_sums_of<TypeParam>(DType::float16, from_float16);
}

}  // namespace
}  // namespace ravine::test
