// The 16-bit types by their definition: exact arithmetic in double, one bit pattern at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace ravine::test {

/// A binary format of 16 bits: sign, exponent, fraction.
template <int fraction_bits>
struct PlainFormat {
  static constexpr int exponent_bits = 15 - fraction_bits;
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr int top_exponent = (1 << exponent_bits) - 1;  ///< of infinities and NaN
  static constexpr std::uint16_t infinity = top_exponent << fraction_bits;

  static bool is_nan(std::uint16_t bits) { return (bits & 0x7fff) > infinity; }

  static double value(std::uint16_t bits) {
    const int exponent = (bits & 0x7fff) >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    double magnitude;
    if (exponent == top_exponent) {
      magnitude = fraction == 0 ? std::numeric_limits<double>::infinity()
                                : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
      magnitude = std::ldexp(fraction, 1 - bias - fraction_bits);
    } else {
      magnitude = std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
    }
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }

  /// The nearest number of the format; of two that are as near, the even one. Not for NaN.
  static std::uint16_t bits(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(value);
    if (std::isinf(magnitude)) return sign | infinity;
    // The patterns are in the order of their values, so that the largest not above is found by
    // halving; the one behind the largest finite number stands where infinity does.
    std::uint16_t low = 0, high = infinity;
    while (high - low > 1) {
      const auto middle = static_cast<std::uint16_t>((low + high) / 2);
      (PlainFormat::value(middle) <= magnitude ? low : high) = middle;
    }
    const double below = PlainFormat::value(low);
    const double above =
        high == infinity ? std::ldexp(1.0, top_exponent - bias) : PlainFormat::value(high);
    const double to_below = magnitude - below, to_above = above - magnitude;
    const bool takes_low = to_below < to_above || (to_below == to_above && low % 2 == 0);
    return sign | (takes_low ? low : high);
  }
};

using PlainFloat16 = PlainFormat<10>;
using PlainBfloat16 = PlainFormat<7>;

}  // namespace ravine::test
