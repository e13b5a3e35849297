// Gradient descent, with and without momentum: https://keras.io/api/optimizers/sgd/
#pragma once

#include <cstdint>

#include "ravine/error.hpp"
#include "ravine/portable.hpp"
#include "ravine/slots.hpp"

namespace ravine {

/// Gradient descent with (optionally Nesterov) momentum.
///
/// The slot `momentum` holds the step itself, the rate included, as in Keras: a later change of the
/// rate does not rescale it.
struct SGD {
  double momentum = 0.0;  ///< in [0, 1]; 0 needs no slot
  bool nesterov = false;  ///< no effect without momentum

  /// w = w - learning_rate * g
  template <class T>
  struct PlainKernel {
    static constexpr int slot_count = 0;
    T learning_rate;

    RAVINE_PORTABLE void operator()(T& w, T g) const { w -= g * learning_rate; }

    template <class U>
    RAVINE_PORTABLE PlainKernel<U> rounded() const {
      return {U(learning_rate)};
    }
  };

  /// velocity = momentum * velocity - learning_rate * g;  w = w + velocity, or a look ahead of it
  template <class T, bool nesterov>
  struct MomentumKernel {
    static constexpr int slot_count = 1;
    T learning_rate, momentum;

    RAVINE_PORTABLE void operator()(T& w, T g, T& velocity) const {
      const T descent = g * learning_rate;
      velocity = velocity * momentum - descent;
      w += nesterov ? velocity * momentum - descent : velocity;
    }

    template <class U>
    RAVINE_PORTABLE MomentumKernel<U, nesterov> rounded() const {
      return {U(learning_rate), U(momentum)};
    }
  };

  /// Throws `ArgumentError` if a number is out of its range.
  void check() const { require_range("momentum", momentum, 0, 1); }

  /// Names of the state that each variable needs.
  SlotNames slots() const {
    SlotNames names;
    if (momentum != 0.0) names.add("momentum");
    return names;
  }

  /// Advances what changes from update to update; here nothing does.
  RAVINE_PORTABLE void advance(std::int64_t) {}
  RAVINE_PORTABLE void take_state(const SGD&) {}

  /// Calls `visit` with the kernel of update number `t` (the first is 1), its numbers in double.
  template <class Visit>
  RAVINE_PORTABLE void visit_kernel(double learning_rate, std::int64_t, Visit&& visit) const {
    if (momentum == 0.0) return visit(PlainKernel<double>{learning_rate});
    if (nesterov) return visit(MomentumKernel<double, true>{learning_rate, momentum});
    visit(MomentumKernel<double, false>{learning_rate, momentum});
  }
};

}  // namespace ravine
