// The 16-bit types both ways, against their definition: all 65,536 patterns, all ties, for the
// plain code and for each instruction set.
#include "cpu/convert.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "backends.hpp"
#include "cpu/floating_point.hpp"
#include "plain_convert.hpp"

namespace ravine::test {
namespace {

struct Format {
  const char* name;
  DType dtype;
  double (*value)(std::uint16_t bits);
  std::uint16_t (*bits)(double value);
  bool (*is_nan)(std::uint16_t bits);
  std::uint16_t infinity;
};

const Format formats[] = {
    {"float16", DType::float16, PlainFloat16::value, PlainFloat16::bits, PlainFloat16::is_nan,
     PlainFloat16::infinity},
    {"bfloat16", DType::bfloat16, PlainBfloat16::value, PlainBfloat16::bits, PlainBfloat16::is_nan,
     PlainBfloat16::infinity},
};

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  return patterns;
}

/// Each number of the format, the middle between it and the next, and the floats beside those.
std::vector<float> values_to_round(const Format& format) {
  std::vector<float> values;
  const float infinity = std::numeric_limits<float>::infinity();
  for (std::uint16_t bits = 0; bits < format.infinity; ++bits) {
    const auto low = static_cast<float>(format.value(bits));
    const double high = bits + 1 == format.infinity
                            ? 2 * format.value(bits) - format.value(bits - 1)
                            : format.value(static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((static_cast<double>(low) + high) / 2);
    for (const float value :
         {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, infinity)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  std::mt19937 generator(1);
  for (int i = 0; i < 100000; ++i) {
    const std::uint32_t word = static_cast<std::uint32_t>(generator());
    float value;
    std::memcpy(&value, &word, sizeof value);
    if (!std::isnan(value)) values.push_back(value);
  }
  for (const float value :
       {infinity, std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(),
        std::numeric_limits<float>::min()}) {
    values.push_back(value);
    values.push_back(-value);
  }
  return values;
}

std::vector<float> all_kinds_of_nan() {
  std::vector<float> values;
  for (const std::uint32_t word : {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu,
                                   0xffffffffu, 0x7fbfffffu, 0x7f802000u, 0x7fc00001u}) {
    float value;
    std::memcpy(&value, &word, sizeof value);
    values.push_back(value);
  }
  return values;
}

/// Equality of bits, so that the sign of zero counts.
void expect_values(const Format& format, const std::vector<float>& found) {
  const std::vector<std::uint16_t> patterns = all_patterns();
  ASSERT_EQ(found.size(), patterns.size());
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (format.is_nan(patterns[i])) {
      ASSERT_TRUE(std::isnan(found[i])) << format.name << " " << i;
      continue;
    }
    const auto expected = static_cast<float>(format.value(patterns[i]));
    ASSERT_EQ(std::memcmp(&found[i], &expected, sizeof expected), 0)
        << format.name << " " << i << ": " << found[i];
  }
}

void expect_rounded(const Format& format, const std::vector<float>& values,
                    const std::vector<std::uint16_t>& found) {
  ASSERT_EQ(found.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(found[i], format.bits(values[i])) << format.name << " of " << values[i];
  }
}

TEST(PlainConvert, EqualsDefinition) {
  const cpu::DefaultFloatingPoint mode;
  for (const Format& format : formats) {
    const bool half = format.dtype == DType::float16;
    std::vector<float> widened;
    for (const std::uint16_t bits : all_patterns()) {
      widened.push_back(half ? from_float16(bits) : from_bfloat16(bits));
    }
    expect_values(format, widened);
    const std::vector<float> values = values_to_round(format);
    std::vector<std::uint16_t> rounded;
    for (const float value : values) {
      rounded.push_back(half ? to_float16(value) : to_bfloat16(value));
    }
    expect_rounded(format, values, rounded);
  }
}

TEST(PlainConvert, KeepsNan) {
  for (const float value : all_kinds_of_nan()) {
    EXPECT_TRUE(PlainFloat16::is_nan(to_float16(value)));
    EXPECT_TRUE(PlainBfloat16::is_nan(to_bfloat16(value)));
  }
}

/// `values` widened by a backend: added to accumulators of -0, which changes no bit.
template <class T>
std::vector<T> widen(const cpu::Backend& backend, DType dtype,
                     std::vector<std::uint16_t> patterns) {
  std::vector<T> accumulator(patterns.size(), T(-0.0));
  std::vector<T> w(patterns.size());
  Row row;
  row.w = {reinterpret_cast<std::byte*>(w.data()), nullptr, 0,
           sizeof(T) == 8 ? DType::float64 : DType::float32};
  row.g = {reinterpret_cast<std::byte*>(patterns.data()), nullptr, 0, dtype};
  row.accumulator = accumulator.data();
  row.size = static_cast<std::int64_t>(patterns.size());
  row.updates = true;
  const Job job({row});
  const cpu::DefaultFloatingPoint mode;
  backend.accumulate(Passes{}, job.work());
  return accumulator;
}

/// `values` rounded by a backend: as averages that are copied into a variable of 16 bits.
std::vector<std::uint16_t> round(const cpu::Backend& backend, DType dtype,
                                 std::vector<float> values) {
  std::vector<std::uint16_t> w(values.size());
  Row row;
  row.w = {reinterpret_cast<std::byte*>(w.data()), nullptr, 0, dtype};
  row.average = values.data();
  row.size = static_cast<std::int64_t>(values.size());
  row.updates = true;
  const Job job({row});
  const cpu::DefaultFloatingPoint mode;
  backend.overwrite(job.work());
  return w;
}

TEST(BackendConvert, WidensAllPatterns) {
  for (const cpu::Backend* const backend : backends()) {
    SCOPED_TRACE(backend->name);
    for (const Format& format : formats) {
      expect_values(format, widen<float>(*backend, format.dtype, all_patterns()));
      const std::vector<double> doubles = widen<double>(*backend, format.dtype, all_patterns());
      expect_values(format, std::vector<float>(doubles.begin(), doubles.end()));
    }
  }
}

TEST(BackendConvert, RoundsToNearestEven) {
  for (const Format& format : formats) {
    const std::vector<float> values = values_to_round(format);
    for (const cpu::Backend* const backend : backends()) {
      SCOPED_TRACE(backend->name);
      expect_rounded(format, values, round(*backend, format.dtype, values));
    }
  }
}

TEST(BackendConvert, GivesTheSameAtEachPlaceAndTail) {
  for (const Format& format : formats) {
    const std::vector<float> values = values_to_round(format);
    for (const cpu::Backend* const backend : backends()) {
      SCOPED_TRACE(backend->name);
      for (std::size_t size = 0; size < 70; ++size) {
        const std::size_t first = size * 311;
        const std::vector<float> piece(values.begin() + static_cast<std::ptrdiff_t>(first),
                                       values.begin() + static_cast<std::ptrdiff_t>(first + size));
        expect_rounded(format, piece, round(*backend, format.dtype, piece));
      }
    }
  }
}

TEST(BackendConvert, KeepsNan) {
  for (const cpu::Backend* const backend : backends()) {
    for (const Format& format : formats) {
      for (const float value : all_kinds_of_nan()) {
        for (const std::uint16_t bits :
             round(*backend, format.dtype, std::vector<float>(20, value))) {
          EXPECT_TRUE(format.is_nan(bits)) << backend->name << " " << format.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ravine::test
