// The SIMD loop of each instruction set: every length up to beyond two vectors, every place within
// a vector, against a plain loop, and nothing written outside.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backends.hpp"
#include "cpu/floating_point.hpp"
#include "guarded.hpp"
#include "plain_step.hpp"

namespace ravine::test {
namespace {

/// The update that all make, and the rules as they are then.
constexpr std::int64_t update = 3;
const std::vector<AnyRule> advanced_rules = [] {
  std::vector<AnyRule> result = rules;
  for (AnyRule& rule : result) {
    for (std::int64_t t = 1; t <= update; ++t) plain_advance(rule, t);
  }
  return result;
}();

/// The widest vector, in elements.
template <class T>
constexpr std::size_t lanes = 64 / sizeof(T);

template <class T>
constexpr DType dtype_of = sizeof(T) == 8 ? DType::float64 : DType::float32;

/// A variable in guarded memory, its arrays at different places within a vector.
template <class T>
struct GuardedRow {
  std::vector<std::unique_ptr<Guarded<T>>> arrays;  ///< w, g, average, accumulator, slots
  std::vector<Axis> axes;                           ///< of w and g, where they are strided
  Row row;

  GuardedRow(std::size_t size, std::size_t shift, std::size_t slot_count, unsigned seed = 1) {
    for (std::size_t k = 0; k < 4 + slot_count; ++k) {
      std::vector<T> values = random_values<T>(size, seed + static_cast<unsigned>(k));
      // A mean square is not negative, and not below the square of the mean.
      if (k >= 4) {
        for (T& value : values) value = value * value;
      }
      arrays.push_back(std::make_unique<Guarded<T>>(values, (shift + 5 * k) % lanes<T>));
    }
    row.w = {bytes(0), nullptr, 0, dtype_of<T>};
    row.g = {bytes(1), nullptr, 0, dtype_of<T>};
    row.average = arrays[2]->data();
    row.accumulator = arrays[3]->data();
    for (std::size_t k = 0; k < slot_count; ++k) row.slots[k] = arrays[4 + k]->data();
    row.size = static_cast<std::int64_t>(size);
    row.updates = true;
  }

  std::byte* bytes(std::size_t k) { return reinterpret_cast<std::byte*>(arrays[k]->data()); }

  PlainVariable<T> plain() const {
    PlainVariable<T> result(arrays[0]->values(), arrays.size() - 4);
    for (std::size_t k = 4; k < arrays.size(); ++k) result.slots[k - 4] = arrays[k]->values();
    result.average = arrays[2]->values();
    result.accumulator = arrays[3]->values();
    return result;
  }

  bool equals(const PlainVariable<T>& expected) const {
    bool result = same_bits(arrays[0]->values(), expected.w) &&
                  same_bits(arrays[2]->values(), expected.average) &&
                  same_bits(arrays[3]->values(), expected.accumulator);
    for (std::size_t k = 4; k < arrays.size(); ++k) {
      result = result && same_bits(arrays[k]->values(), expected.slots[k - 4]);
    }
    return result;
  }

  bool intact() const {
    for (const auto& array : arrays) {
      if (!array->intact()) return false;
    }
    return true;
  }
};

template <class T>
class Loop : public testing::Test {
 protected:
  const cpu::DefaultFloatingPoint mode;
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Loop, Types);

/// One update by the rule alone, with or without an average.
template <class T>
PlainVariable<T> plain_update(const AnyRule& rule, const Passes& passes, const GuardedRow<T>& row,
                              double clip_factor = 1.0) {
  PlainVariable<T> result = row.plain();
  const std::vector<T> gradient = row.arrays[1]->values();
  const PlainRule<T> apply = plain_rule<T>(rule, 0.01, update);
  const T mu = T(passes.ema_momentum), rest = T(1 - passes.ema_momentum);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    T g = gradient[i] * T(passes.gradient_scale);
    if (passes.accumulated > 1) {
      g = (g + result.accumulator[i]) / T(passes.accumulated);
      result.accumulator[i] = 0;
    }
    g = g * T(clip_factor);
    if (g < -T(passes.clip_value)) g = -T(passes.clip_value);
    if (g > T(passes.clip_value)) g = T(passes.clip_value);
    if (passes.decay != 0) result.w[i] = result.w[i] - result.w[i] * T(passes.decay);
    apply(result.w[i], g, result.slots, i);
    if (!passes.averages) continue;
    T& mean = result.average[i];
    mean = passes.average_starts ? result.w[i] : mu * mean + rest * result.w[i];
    if (passes.overwrites) result.w[i] = mean;
  }
  return result;
}

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

/// All combinations that take another way through the loop.
std::vector<Passes> all_passes() {
  std::vector<Passes> result;
  for (int bits = 0; bits < 64; ++bits) {
    Passes passes;
    if (bits & 1) passes.gradient_scale = 1.0 / 3;
    if (bits & 2) passes.accumulated = 3;
    if (bits & 4) passes.clip_value = 0.25;
    if (bits & 8) passes.decay = 0.01;
    passes.averages = (bits & 16) != 0;
    passes.overwrites = (bits & 48) == 48;
    result.push_back(passes);
    if (passes.averages) {
      passes.average_starts = true;
      result.push_back(passes);
    }
  }
  return result;
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

TYPED_TEST(Loop, SumsSquaresByTheFixedTree) {
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

TYPED_TEST(Loop, SumsSquaresOfAccumulatedMeans) {
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
        const std::size_t size = special.size() * special.size();
        GuardedRow<T> row(size, 0, plain_slot_count(rule));
        for (std::size_t i = 0; i < size; ++i) {
          row.arrays[0]->data()[i] = special[i % special.size()];
          row.arrays[1]->data()[i] = special[i / special.size()];
        }
        const PlainVariable<T> expected = plain_update(rule, passes, row);
        const Job job({row.row});
        backend->run(rule, 0.01, update, passes, job.work());
        const std::vector<T> found = row.arrays[0]->values();
        for (std::size_t i = 0; i < size; ++i) {
          // The sign and payload of a NaN are not promised.
          const bool same = std::isnan(found[i])
                                ? std::isnan(expected.w[i])
                                : found[i] == expected.w[i] &&
                                      std::signbit(found[i]) == std::signbit(expected.w[i]);
          ASSERT_TRUE(same) << backend->name << " " << i << ": " << found[i] << ", expected "
                            << expected.w[i];
        }
      }
    }
  }
}

TEST(LoopOfSixteenBits, RoundsTheVariableOnceAndKeepsSlotsWide) {
  // Gradients of every type; the conversions themselves are tested in test_convert.cpp.
  for (const cpu::Backend* const backend : backends()) {
    for (std::size_t size = 0; size < 70; ++size) {
      std::vector<std::uint16_t> w(size), g(size);
      std::vector<float> velocity(size), wide(size), expected_velocity(size);
      for (std::size_t i = 0; i < size; ++i) {
        w[i] = static_cast<std::uint16_t>(0x3c00 + 37 * i);  // from 1 up
        g[i] = static_cast<std::uint16_t>(0x3800 + 11 * i);  // from 0.5 up
      }
      std::vector<std::uint16_t> unchanged = w;
      Row row;
      row.w = {reinterpret_cast<std::byte*>(w.data()), nullptr, 0, DType::float16};
      row.g = {reinterpret_cast<std::byte*>(g.data()), nullptr, 0, DType::float16};
      row.slots[0] = velocity.data();
      row.size = static_cast<std::int64_t>(size);
      row.updates = true;
      const Job job({row});
      backend->run(SGD{.momentum = 0.9}, 0.0001, 1, Passes{}, job.work());
      // By hand: float16 has 10 bits of fraction; near 1 a step of 5e-5 is below half a unit.
      for (std::size_t i = 0; i < size && i < 4; ++i) EXPECT_EQ(w[i], unchanged[i]);
      for (std::size_t i = 0; i < size; ++i) {
        const int exponent = g[i] >> 10;
        const float value = std::ldexp(static_cast<float>(1024 + (g[i] & 1023)), exponent - 25);
        EXPECT_EQ(velocity[i], -(value * 0.0001f)) << backend->name;
      }
    }
  }
}

}  // namespace
}  // namespace ravine::test
