// Choices between numbers, as functions: a backend may make them for many numbers at once.
#pragma once

#include "ravine/portable.hpp"

namespace ravine {

template <class T>
RAVINE_PORTABLE T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}

/// NaN stays, which fmax and fmin would swallow.
template <class T>
RAVINE_PORTABLE T at_least(T value, T bound) {
  return value < bound ? bound : value;
}
template <class T>
RAVINE_PORTABLE T at_most(T value, T bound) {
  return value > bound ? bound : value;
}

}  // namespace ravine
