// power(): exact where the result is, close to the truth elsewhere, the same as repeated squaring.
#include "ravine/power.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "plain_step.hpp"

namespace ravine::test {
namespace {

TEST(Power, OfZeroIsOne) {
  EXPECT_EQ(power(0.0, 0), 1.0);
  EXPECT_EQ(power(0.96, 0), 1.0);
}

TEST(Power, OfTwoIsExact) {
  for (int exponent = 0; exponent < 1024; ++exponent) {
    EXPECT_EQ(power(2.0, exponent), std::ldexp(1.0, exponent));
  }
  for (int exponent = 0; exponent < 128; ++exponent) {
    EXPECT_EQ(power(0.5, exponent), std::ldexp(1.0, -exponent));
  }
}

TEST(Power, OfSmallIntegersIsExact) {
  double expected = 1.0;
  for (int exponent = 0; exponent <= 33; ++exponent, expected *= 3.0) {
    EXPECT_EQ(power(3.0, exponent), expected);
  }
}

TEST(Power, EqualsRepeatedSquaring) {
  for (const double base : {0.9, 0.96, 0.999, 0.9999999, 1.0}) {
    for (std::int64_t exponent = 0; exponent < 3000; ++exponent) {
      const double plain = plain_power(base, exponent), ours = power(base, exponent);
      ASSERT_TRUE(ours == plain || (ours == 0.0 && plain < 0x1p-100)) << base << " " << exponent;
    }
  }
}

TEST(Power, StaysNearTheTruth) {
  for (const double base : {0.9, 0.96, 0.999}) {
    for (std::int64_t exponent = 1; exponent < 5000; exponent += 7) {
      // The error of each factor is at most half a unit, and it is squared along.
      const long double truth = std::pow(static_cast<long double>(base), exponent);
      EXPECT_LE(
          std::fabs(static_cast<double>(power(base, exponent) - truth)),
          2.0 * static_cast<double>(exponent) * 0x1p-53 * static_cast<double>(truth) + 0x1p-100);
    }
  }
}

TEST(Power, OfLargeExponentsEnds) {
  EXPECT_EQ(power(0.96, std::int64_t{1} << 62), 0.0);
  EXPECT_EQ(power(1.0, std::numeric_limits<std::int64_t>::max()), 1.0);
}

}  // namespace
}  // namespace ravine::test
