#include "digits.hpp"

#include <fstream>
#include <stdexcept>

std::vector<Digit> read_digits(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path + "; export_digits.py writes it");
  std::vector<Digit> digits;
  for (std::size_t label = 0; file >> label;) {
    Digit& digit = digits.emplace_back(Digit{std::vector<float>(pixel_count), label});
    for (float& pixel : digit.pixels) {
      file >> pixel;
      pixel /= 16;
    }
    if (!file || label > 9) {
      throw std::runtime_error("line " + std::to_string(digits.size()) + " of " + path +
                               " is not a digit and its 64 pixels");
    }
  }
  return digits;
}
