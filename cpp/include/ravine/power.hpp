// Integer powers by multiplication alone: unlike std::pow, the same bits on every machine.
#pragma once

#include <cstdint>

#include "ravine/portable.hpp"

namespace ravine {

/// `base` in [0, 1] to the power of `exponent` >= 0, by repeated squaring. Squares below 2^-100 are
/// taken for 0: powers are subtracted from 1, where less than 2^-54 changes no bit, and with
/// numbers near the smallest processors take a hundred cycles for each product.
RAVINE_PORTABLE double power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
    if (base < 0x1p-100) base = 0.0;
  }
  return result;
}

}  // namespace ravine
