// Integer powers by multiplication alone: unlike std::pow, the same bits on every machine.
#pragma once

#include <cstdint>

#include "ravine/portable.hpp"

namespace ravine {

/// `base` to the power of `exponent` >= 0, by repeated squaring.
RAVINE_PORTABLE double power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

}  // namespace ravine
