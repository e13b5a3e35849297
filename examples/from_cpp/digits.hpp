// Handwritten digits, as export_digits.py writes them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

inline constexpr std::size_t pixel_count = 64;

/// An image: its pixels, from 0 to 1, and the digit that it shows.
struct Digit {
  std::vector<float> pixels;
  std::size_t label = 0;
};

/// All digits of a file. Throws `std::runtime_error` if it cannot be read as such.
std::vector<Digit> read_digits(const std::string& path);
