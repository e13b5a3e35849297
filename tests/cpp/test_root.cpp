// Roots without the divider: of each number on this processor, and on paper on every one.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "backends.hpp"
#include "roots_v4.hpp"

#if defined(__x86_64__) || defined(_M_X64)

namespace ravine::test {
namespace {

float moved(float x, int places) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(places));
}

/// The last step of `root`.
float corrected(float x, float g, float h) { return std::fma(std::fma(-g, g, x), h, g); }

/// All of it, from an approximation of 1 / sqrt(x).
float root_from(float x, float y) {
  const float g = x * y, h = 0.5f * y;
  const float error = std::fma(-g, h, 0.5f);
  return corrected(x, std::fma(g, error, g), std::fma(h, error, h));
}

/// An approximation is off by a part e, at most 2^-14. Up to their last rounding g and h are then
/// off by 3/2 e^2, and by half of the part by which the first g was rounded, at most 2^-24.
constexpr double largest = 0x1p-14, off = 1.6 * largest * largest + 0x1p-25;

/// Whether the last step is right for each g and each h that there can be.
bool is_right_after_any_iteration(float x) {
  const double s = std::sqrt(static_cast<double>(x)), half_inverse = 0.5 / s;
  const auto right = static_cast<float>(s), middle = static_cast<float>(half_inverse);
  const double unit = moved(right, 1) - right, unit_of_h = moved(middle, 1) - middle;
  for (int i = -2; i <= 2; ++i) {
    const float g = moved(right, i);
    if (std::abs(g - s) > off * s + unit / 2) continue;
    for (int j = -2; j <= 2; ++j) {
      const float h = moved(middle, j);
      if (std::abs(h - half_inverse) > off * half_inverse + unit_of_h / 2) continue;
      if (corrected(x, g, h) != right) return false;
    }
  }
  return true;
}

bool is_right_from_any_approximation(float x) {
  const double exact = 1 / std::sqrt(static_cast<double>(x));
  const auto right = static_cast<float>(std::sqrt(static_cast<double>(x)));
  const auto last = static_cast<float>(exact * (1 + largest));
  for (auto y = static_cast<float>(exact * (1 - largest)); y <= last; y = moved(y, 1)) {
    if (root_from(x, y) != right) return false;
  }
  return true;
}

TEST(Root, IsRightWhateverAProcessorTakesForOneOverRoot) {
  int looked_at_closer = 0;
  for (std::uint32_t mantissa = 0; mantissa < 1u << 23; ++mantissa) {
    // An even and an odd exponent; four times a number has twice its root.
    for (const std::uint32_t exponent : {127u, 128u}) {
      const auto x = std::bit_cast<float>(exponent << 23 | mantissa);
      if (is_right_after_any_iteration(x)) continue;
      ++looked_at_closer;
      ASSERT_TRUE(is_right_from_any_approximation(x)) << x;
    }
  }
  EXPECT_LT(looked_at_closer, 10);
}

class RootV4 : public testing::Test {
 protected:
  void SetUp() override {
    if (backends().size() < 3) GTEST_SKIP() << "needs a processor with x86-64-v4";
  }
};

TEST_F(RootV4, IsThatOfTheProcessorForEachNumber) {
  EXPECT_EQ(wrong_roots_v4(0, 0x7fffffff), 0);
  // Beside each other, so that a vector is of one kind: zero, infinity, NaN and what has a sign.
  EXPECT_EQ(wrong_roots_v4(0x80000000, 0x8000ffff), 0);
  EXPECT_EQ(wrong_roots_v4(0xff7fff00, 0xffffffff), 0);
}

TEST_F(RootV4, TakesAllKindsOfNumbersInOneVector) {
  using Limits = std::numeric_limits<float>;
  const std::vector<float> kinds{2.0f,
                                 0.0f,
                                 -0.0f,
                                 Limits::denorm_min(),
                                 0x1p-101f,
                                 0x1p-100f,
                                 Limits::max(),
                                 Limits::infinity(),
                                 Limits::quiet_NaN(),
                                 -1.0f};
  for (const float one : kinds) {
    for (const float other : kinds) {
      for (std::size_t place = 0; place < 16; ++place) {
        std::vector<float> x(16, one), found(16);
        x[place] = other;
        roots_v4(x.data(), 16, found.data());
        for (std::size_t i = 0; i < 16; ++i) {
          const float expected = std::sqrt(x[i]);
          if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(found[i]));
          } else {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]),
                      std::bit_cast<std::uint32_t>(expected));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ravine::test

#endif
