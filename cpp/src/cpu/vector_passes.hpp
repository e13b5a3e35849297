// Passes over vectors leave out what would change nothing: a branch that goes one way for a whole
// array. Compilers cannot have it in a loop that they make vectors of. Included by element_loop.hpp
// alone.
#pragma once

#include <limits>

#include "ravine/passes.hpp"
#include "ravine/portable.hpp"
#include "vector.hpp"

namespace ravine {

template <int parts>
struct Unscale<cpu::Vector<parts>> {
  using T = cpu::Vector<parts>;
  T gradient_scale;

  RAVINE_PORTABLE T operator()(const T& g) const {
    return first_of(gradient_scale) == 1.0f ? g : g * gradient_scale;
  }
};

template <int parts>
struct Clip<cpu::Vector<parts>> {
  using T = cpu::Vector<parts>;
  T factor, value;

  RAVINE_PORTABLE T operator()(T g) const {
    if (first_of(factor) != 1.0f) g *= factor;
    if (first_of(value) != std::numeric_limits<float>::infinity()) {
      g = at_most(at_least(g, -value), value);
    }
    return g;
  }
};

template <int parts>
struct Decay<cpu::Vector<parts>> {
  using T = cpu::Vector<parts>;
  T decay;

  RAVINE_PORTABLE void operator()(T& w) const {
    if (first_of(decay) != 0.0f) w -= w * decay;
  }
};

}  // namespace ravine
