#include "ravine/error.hpp"

#include <charconv>
#include <cmath>
#include <string>

namespace ravine {
namespace {

/// The shortest text that reads back as the same number.
std::string text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

}  // namespace

void require_range(const char* name, double value, double low, double high, bool excluded) {
  if (value >= low && (excluded ? value < high : value <= high)) return;
  throw ArgumentError(std::string(name) + " must be in [" + text(low) + ", " + text(high) +
                      (excluded ? ")" : "]") + ". Received: " + text(value) + ".");
}

void require_finite(const char* name, double value) {
  if (std::isfinite(value)) return;
  throw ArgumentError(std::string(name) + " must be a finite number. Received: " + text(value) +
                      ".");
}

void require_size(const char* name, double value, bool positive) {
  if (std::isfinite(value) && (positive ? value > 0 : value >= 0)) return;
  throw ArgumentError(std::string(name) + " must be a finite number " +
                      (positive ? "above 0" : "of at least 0") + ". Received: " + text(value) +
                      ".");
}

}  // namespace ravine
