// The SIMD loop of each instruction set: every length up to beyond two vectors, every place within
// a vector, against a plain loop, and nothing written outside.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backends.hpp"
#include "cpu/floating_point.hpp"
#include "guarded_row.hpp"

namespace ravine::test {
namespace {

template <class T>
class Loop : public testing::Test {
 protected:
  const cpu::DefaultFloatingPoint mode;
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Loop, Types);

TYPED_TEST(Loop, EqualsPlainLoopAtEveryTailAndPlace) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (std::size_t kind = 0; kind < advanced_rules.size(); ++kind) {
      for (std::size_t size = 0; size <= 2 * lanes<T> + 3; ++size) {
        for (std::size_t shift = 0; shift < lanes<T>; ++shift) {
          Passes passes;
          passes.averages = (size + shift) % 2 == 1;
          GuardedRow<T> row(size, shift, plain_slot_count(advanced_rules[kind]));
          const PlainVariable<T> expected = plain_update(advanced_rules[kind], passes, row);
          const Job job({row.row});
          backend->run(advanced_rules[kind], 0.01, update, passes, job.work());
          ASSERT_TRUE(row.equals(expected))
              << backend->name << ", rule " << kind << ", " << size << " at " << shift;
          ASSERT_TRUE(row.intact());
        }
      }
    }
  }
}

TYPED_TEST(Loop, EqualsPlainLoopAcrossBlocksAndChunks) {
  using T = TypeParam;
  const std::size_t chunk = chunk_size;
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (const std::size_t size : {std::size_t{511}, std::size_t{512}, std::size_t{513},
                                     std::size_t{2049}, chunk - 1, chunk, 2 * chunk + 77}) {
        GuardedRow<T> row(size, 3, plain_slot_count(rule));
        const PlainVariable<T> expected = plain_update(rule, Passes{}, row);
        const Job job({row.row});
        backend->run(rule, 0.01, update, Passes{}, job.work());
        ASSERT_TRUE(row.equals(expected)) << backend->name << " " << size;
        ASSERT_TRUE(row.intact());
      }
    }
  }
}

TYPED_TEST(Loop, MakesAllPassesInTheirOrder) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (const Passes& passes : all_passes()) {
        for (const std::size_t size : {std::size_t{37}, std::size_t{1000}}) {
          GuardedRow<T> row(size, 1, plain_slot_count(rule));
          row.row.clip_factor = 0.7;
          const PlainVariable<T> expected = plain_update(rule, passes, row, 0.7);
          const Job job({row.row});
          backend->run(rule, 0.01, update, passes, job.work());
          ASSERT_TRUE(row.equals(expected)) << backend->name << " " << size;
          ASSERT_TRUE(row.intact());
        }
      }
    }
  }
}

TYPED_TEST(Loop, UpdatesStridedArrays) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (const Passes& passes : all_passes()) {
        // Every second element of w, every third of g, backwards.
        const std::size_t size = 700;
        GuardedRow<T> row(size, 2, plain_slot_count(rule));
        const PlainVariable<T> expected = plain_update(rule, passes, row);
        const Axis w_axis{static_cast<std::int64_t>(size), 2 * sizeof(T)};
        const Axis g_axis{static_cast<std::int64_t>(size),
                          -3 * static_cast<std::int64_t>(sizeof(T))};
        std::vector<T> w(2 * size, T(7)), g(3 * size);
        for (std::size_t i = 0; i < size; ++i) {
          w[2 * i] = expected.w.empty() ? T(0) : row.arrays[0]->data()[i];
          g[3 * (size - 1 - i)] = row.arrays[1]->data()[i];
        }
        row.row.w = {reinterpret_cast<std::byte*>(w.data()), &w_axis, 1, dtype_of<T>};
        row.row.g = {reinterpret_cast<std::byte*>(g.data() + 3 * (size - 1)), &g_axis, 1,
                     dtype_of<T>};
        const Job job({row.row});
        backend->run(rule, 0.01, update, passes, job.work());
        for (std::size_t i = 0; i < size; ++i) {
          row.arrays[0]->data()[i] = w[2 * i];
          ASSERT_EQ(w[2 * i + 1], T(7));
        }
        ASSERT_TRUE(row.equals(expected)) << backend->name;
      }
    }
  }
}

TYPED_TEST(Loop, AveragesARowWithoutGradient) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const bool starts : {false, true}) {
      for (const bool overwrites : {false, true}) {
        Passes passes;
        passes.averages = true;
        passes.average_starts = starts;
        passes.overwrites = overwrites;
        GuardedRow<T> row(1000, 4, 2);
        row.row.updates = false;
        PlainVariable<T> expected = row.plain();
        for (std::size_t i = 0; i < expected.w.size(); ++i) {
          T& mean = expected.average[i];
          mean = starts
                     ? expected.w[i]
                     : T(passes.ema_momentum) * mean + T(1 - passes.ema_momentum) * expected.w[i];
          if (overwrites) expected.w[i] = mean;
        }
        const Job job({row.row});
        backend->run(Nadam{.momentum_product = 0.3}, 0.01, update, passes, job.work());
        ASSERT_TRUE(row.equals(expected)) << backend->name;
        ASSERT_TRUE(row.intact());
      }
    }
  }
}

TYPED_TEST(Loop, AccumulatesUnscaledGradients) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (std::size_t size = 0; size <= 2 * lanes<T> + 3; ++size) {
      for (std::size_t shift = 0; shift < lanes<T>; ++shift) {
        Passes passes;
        passes.gradient_scale = 1.0 / 3;
        GuardedRow<T> row(size, shift, 0);
        PlainVariable<T> expected = row.plain();
        for (std::size_t i = 0; i < size; ++i) {
          expected.accumulator[i] += row.arrays[1]->data()[i] * T(passes.gradient_scale);
        }
        const Job job({row.row});
        backend->accumulate(passes, job.work());
        ASSERT_TRUE(row.equals(expected)) << backend->name << " " << size << " at " << shift;
        ASSERT_TRUE(row.intact());
      }
    }
  }
}

TYPED_TEST(Loop, OverwritesWithAverages) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (const std::size_t size : {0, 1, 17, 511, 513, 20000}) {
      GuardedRow<T> row(size, 6, 1);
      PlainVariable<T> expected = row.plain();
      expected.w = expected.average;
      const Job job({row.row});
      backend->overwrite(job.work());
      ASSERT_TRUE(row.equals(expected)) << backend->name << " " << size;
      ASSERT_TRUE(row.intact());
    }
  }
}

TYPED_TEST(Loop, StreamsThroughTheArraysOfAnUpdate) {
  using T = TypeParam;
  for (const cpu::Backend* const backend : backends()) {
    for (std::size_t slot_count = 0; slot_count <= max_slots; ++slot_count) {
      for (const std::size_t size : {std::size_t{0}, lanes<T> + 1, std::size_t{20000}}) {
        for (const bool averages : {false, true}) {
          GuardedRow<T> row(size, 1, slot_count);
          PlainVariable<T> expected = row.plain();
          const std::vector<T> g = row.arrays[1]->values();
          const auto add = [&](std::vector<T>& values) {
            for (std::size_t i = 0; i < size; ++i) values[i] += g[i];
          };
          add(expected.w);
          for (std::vector<T>& slot : expected.slots) add(slot);
          if (averages) add(expected.average);
          const Job job({row.row});
          backend->stream(job.work(), static_cast<int>(slot_count), averages);
          ASSERT_TRUE(row.equals(expected)) << backend->name << " " << size;
          std::vector<double> tiles(static_cast<std::size_t>(job.chunks.tiles));
          backend->read_gradients(job.work(), tiles.data());
          ASSERT_TRUE(row.equals(expected));
          ASSERT_TRUE(same_bits(row.arrays[1]->values(), g));
          ASSERT_TRUE(row.intact());
        }
      }
    }
  }
}

/// The same bits, but for sign and payload of a NaN, which are not promised.
template <class T>
bool same_numbers(const std::vector<T>& a, const std::vector<T>& b) {
  return std::ranges::equal(a, b, [](T x, T y) {
    return std::isnan(x) ? std::isnan(y) : x == y && std::signbit(x) == std::signbit(y);
  });
}

TYPED_TEST(Loop, PassesOnNanInfinityAndSubnormals) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  const std::vector<T> special{Limits::quiet_NaN(),
                               Limits::infinity(),
                               -Limits::infinity(),
                               Limits::denorm_min(),
                               -Limits::min(),
                               Limits::max(),
                               T(-0.0),
                               T(0.0),
                               T(1)};
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (const double clip_value : {1.0, Limits::infinity() * 1.0}) {
        Passes passes;
        passes.clip_value = clip_value;
        passes.averages = true;
        const std::size_t kinds = special.size(), size = kinds * kinds * kinds;
        GuardedRow<T> row(size, 0, plain_slot_count(rule));
        for (std::size_t i = 0; i < size; ++i) {
          row.arrays[0]->data()[i] = special[i % kinds];
          row.arrays[1]->data()[i] = special[i / kinds % kinds];
          for (std::size_t k = 4; k < row.arrays.size(); ++k) {
            row.arrays[k]->data()[i] = special[(i / kinds / kinds + k * i) % kinds];
          }
        }
        const PlainVariable<T> expected = plain_update(rule, passes, row);
        const Job job({row.row});
        backend->run(rule, 0.01, update, passes, job.work());
        ASSERT_TRUE(same_numbers(row.arrays[0]->values(), expected.w)) << backend->name;
        ASSERT_TRUE(same_numbers(row.arrays[2]->values(), expected.average)) << backend->name;
        for (std::size_t k = 4; k < row.arrays.size(); ++k) {
          ASSERT_TRUE(same_numbers(row.arrays[k]->values(), expected.slots[k - 4]))
              << backend->name << ", slot " << k - 4;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ravine::test
