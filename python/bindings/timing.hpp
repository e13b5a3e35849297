// Timing from inside, without Python in between.
#pragma once

#include <chrono>

namespace ravine::python {

/// Seconds of one of `repeats` calls of `repeated`, which is given their numbers.
template <class Repeated>
double seconds_each(int repeats, const Repeated& repeated) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) repeated(i);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

}  // namespace ravine::python
