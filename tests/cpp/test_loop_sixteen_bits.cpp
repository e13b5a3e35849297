// The loop over variables and gradients of 16 bits, by each instruction set: every length up to
// beyond two strides, every place within a vector, against a plain loop.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "backends.hpp"
#include "cpu/floating_point.hpp"
#include "guarded_row.hpp"
#include "half.hpp"

namespace ravine::test {
namespace {

/// One of the 16-bit types; the conversions themselves are tested in test_convert.cpp.
struct Format {
  DType dtype;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);

  float rounded(float value) const { return widen(narrow(value)); }
};

const Format formats[] = {{DType::bfloat16, from_bfloat16, to_bfloat16},
                          {DType::float16, from_float16, to_float16}};

/// A row whose variable, gradient or both are of 16 bits; what `wide` holds of them is exact.
class SixteenBitRow {
 public:
  GuardedRow<float> wide;

  SixteenBitRow(std::size_t size, std::size_t shift, std::size_t slot_count, const Format& format,
                bool variable, bool gradient)
      : wide(size, shift, slot_count), format_(format) {
    if (variable) w_ = replace(0, wide.row.w, shift);
    if (gradient) g_ = replace(1, wide.row.g, shift + 3);
  }

  bool equals(const PlainVariable<float>& expected) {
    if (w_) {
      for (std::size_t i = 0; i < expected.w.size(); ++i) {
        wide.arrays[0]->data()[i] = format_.widen(w_->data()[i]);
      }
    }
    return wide.equals(expected) && wide.intact() && (!w_ || w_->intact()) && (!g_ || g_->intact());
  }

 private:
  using Narrow = std::unique_ptr<Guarded<std::uint16_t>>;

  const Format& format_;
  Narrow w_, g_;

  Narrow replace(std::size_t k, Array& array, std::size_t shift) {
    std::vector<std::uint16_t> values;
    for (const float value : wide.arrays[k]->values()) values.push_back(format_.narrow(value));
    for (std::size_t i = 0; i < values.size(); ++i) {
      wide.arrays[k]->data()[i] = format_.widen(values[i]);
    }
    auto result = std::make_unique<Guarded<std::uint16_t>>(values, shift % 32);
    array = {reinterpret_cast<std::byte*>(result->data()), nullptr, 0, format_.dtype};
    return result;
  }
};

class LoopOfSixteenBits : public testing::TestWithParam<int> {
 protected:
  const cpu::DefaultFloatingPoint mode;
  const Format& format = formats[GetParam() / 3];
  const bool variable = GetParam() % 3 != 2, gradient = GetParam() % 3 != 1;

  void expect_plain(const cpu::Backend& backend, const AnyRule& rule, const Passes& passes,
                    std::size_t size, std::size_t shift) const {
    SixteenBitRow row(size, shift, plain_slot_count(rule), format, variable, gradient);
    const auto held = [&](float w) { return variable ? format.rounded(w) : w; };
    const PlainVariable<float> expected = plain_update(rule, passes, row.wide, 1.0, held);
    const Job job({row.wide.row});
    backend.run(rule, 0.01, update, passes, job.work());
    ASSERT_TRUE(row.equals(expected)) << backend.name << ", " << size << " at " << shift;
  }
};

TEST_P(LoopOfSixteenBits, EqualsPlainLoopAtEveryTailAndPlace) {
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (std::size_t size = 0; size <= 133; ++size) {
        Passes passes;
        passes.averages = size % 2 == 1;
        ASSERT_NO_FATAL_FAILURE(expect_plain(*backend, rule, passes, size, 7 * size % 32));
      }
      for (std::size_t shift = 0; shift < 32; ++shift) {
        ASSERT_NO_FATAL_FAILURE(expect_plain(*backend, rule, Passes{}, 99, shift));
      }
    }
  }
}

TEST_P(LoopOfSixteenBits, MakesAllPassesInTheirOrder) {
  for (const cpu::Backend* const backend : backends()) {
    for (const AnyRule& rule : advanced_rules) {
      for (const Passes& passes : all_passes()) {
        ASSERT_NO_FATAL_FAILURE(expect_plain(*backend, rule, passes, 600, 1));
      }
    }
  }
}

TEST_P(LoopOfSixteenBits, EqualsPlainLoopAcrossChunks) {
  const std::size_t chunk = chunk_size;
  for (const cpu::Backend* const backend : backends()) {
    for (const std::size_t size : {chunk - 1, chunk, 2 * chunk + 77}) {
      ASSERT_NO_FATAL_FAILURE(expect_plain(*backend, advanced_rules[0], Passes{}, size, 3));
    }
  }
}

/// For each type: variable and gradient, the variable alone, the gradient alone.
INSTANTIATE_TEST_SUITE_P(Formats, LoopOfSixteenBits, testing::Range(0, 6));

TEST(LoopOfBfloat16, RoundsAnyNumber) {
  // Each bfloat16, the middle between it and the next, and the floats beside those. NaNs are
  // scattered: a loop looks for them in two vectors at a time.
  std::vector<float> values;
  for (std::uint32_t i = 0; i < 1u << 16; ++i) {
    const std::uint32_t upper = i * 97 << 16;
    for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      values.push_back(std::bit_cast<float>(upper | lower));
    }
  }
  for (const cpu::Backend* const backend : backends()) {
    // Whole strides, and the rest of an array.
    for (const std::size_t size : {values.size(), std::size_t{63}}) {
      for (std::size_t begin = 0; begin < values.size(); begin += size) {
        const std::size_t count = std::min(size, values.size() - begin);
        // A momentum of 1 that no gradient changes is what the variable becomes.
        std::vector<float> velocity(&values[begin], &values[begin] + count), average(count);
        std::vector<std::uint16_t> w(count), g(count);
        Row row;
        row.w = {reinterpret_cast<std::byte*>(w.data()), nullptr, 0, DType::bfloat16};
        row.g = {reinterpret_cast<std::byte*>(g.data()), nullptr, 0, DType::bfloat16};
        row.slots[0] = velocity.data();
        row.average = average.data();
        row.size = static_cast<std::int64_t>(count);
        row.updates = true;
        Passes passes;
        passes.averages = true;
        passes.ema_momentum = 0.0;
        const Job job({row});
        backend->run(SGD{.momentum = 1.0}, 0.1, 2, passes, job.work());
        for (std::size_t i = 0; i < count; ++i) {
          const float value = 0.0f + values[begin + i];
          ASSERT_EQ(w[i], to_bfloat16(value)) << backend->name << " " << value;
          if (std::isnan(value)) continue;
          ASSERT_EQ(average[i], from_bfloat16(w[i])) << backend->name << " " << value;
        }
      }
    }
  }
}

TEST(LoopOfFloat16, RoundsTheVariableOnceAndKeepsSlotsWide) {
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
