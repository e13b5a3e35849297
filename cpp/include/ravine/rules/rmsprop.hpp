// RMSprop, with and without momentum, centered or not: https://keras.io/api/optimizers/rmsprop/
#pragma once

#include <cmath>
#include <cstdint>

#include "ravine/choices.hpp"
#include "ravine/error.hpp"
#include "ravine/portable.hpp"
#include "ravine/slots.hpp"

namespace ravine {

/// Divides the gradient by a running root mean square of it (Hinton, lecture 6e, 2012), in Keras's
/// form: epsilon stands inside the root, and momentum acts on the finished increment.
struct RMSprop {
  double rho = 0.9;       ///< decay, per step, of the mean square; in [0, 1)
  double momentum = 0.0;  ///< in [0, 1]; 0 needs no slot
  double epsilon = 1e-7;  ///< added to the mean square; in units of the gradient squared
  bool centered = false;  ///< divide by the estimated variance instead of the mean square

  template <class T, bool has_momentum, bool is_centered>
  struct Kernel {
    static constexpr int slot_count = 1 + has_momentum + is_centered;
    T learning_rate, rho, one_minus_rho, momentum, epsilon;

    RAVINE_PORTABLE void operator()(T& w, T g, T& velocity) const
      requires(!has_momentum && !is_centered)
    {
      w -= increment(g, velocity);
    }
    RAVINE_PORTABLE void operator()(T& w, T g, T& velocity, T& momentum_slot) const
      requires(has_momentum && !is_centered)
    {
      momentum_slot = momentum * momentum_slot + increment(g, velocity);
      w -= momentum_slot;
    }
    RAVINE_PORTABLE void operator()(T& w, T g, T& velocity, T& average_gradient) const
      requires(!has_momentum && is_centered)
    {
      w -= centered_increment(g, velocity, average_gradient);
    }
    RAVINE_PORTABLE void operator()(T& w, T g, T& velocity, T& momentum_slot,
                                    T& average_gradient) const
      requires(has_momentum && is_centered)
    {
      momentum_slot = momentum * momentum_slot + centered_increment(g, velocity, average_gradient);
      w -= momentum_slot;
    }

    template <class U>
    RAVINE_PORTABLE Kernel<U, has_momentum, is_centered> rounded() const {
      return {U(learning_rate), U(rho), U(one_minus_rho), U(momentum), U(epsilon)};
    }

   private:
    RAVINE_PORTABLE T increment(T g, T& velocity) const {
      using std::sqrt;
      velocity = rho * velocity + one_minus_rho * (g * g);
      return learning_rate * g / sqrt(velocity + epsilon);
    }
    RAVINE_PORTABLE T centered_increment(T g, T& velocity, T& average_gradient) const {
      using std::sqrt;
      velocity = rho * velocity + one_minus_rho * (g * g);
      average_gradient = rho * average_gradient + one_minus_rho * g;
      // Rounding can push a variance of nearly nothing below zero, where Keras takes the root of a
      // negative number and loses the weight.
      const T variance = velocity - average_gradient * average_gradient;
      return learning_rate * g / sqrt(at_least(variance, T(0)) + epsilon);
    }
  };

  /// Throws `ArgumentError` if a number is out of its range.
  void check() const {
    require_range("rho", rho, 0, 1, true);
    require_range("momentum", momentum, 0, 1);
    require_size("epsilon", epsilon);
  }

  /// Names of the state that each variable needs.
  SlotNames slots() const {
    SlotNames names;
    names.add("velocity");
    if (momentum > 0.0) names.add("momentum");
    if (centered) names.add("average_gradient");
    return names;
  }

  RAVINE_PORTABLE void advance(std::int64_t) {}
  RAVINE_PORTABLE void take_state(const RMSprop&) {}

  /// Calls `visit` with the kernel of update number `t` (the first is 1), its numbers in double.
  template <class Visit>
  RAVINE_PORTABLE void visit_kernel(double learning_rate, std::int64_t, Visit&& visit) const {
    const auto with = [&]<bool has_momentum, bool is_centered>() {
      visit(Kernel<double, has_momentum, is_centered>{learning_rate, rho, 1 - rho, momentum,
                                                      epsilon});
    };
    if (momentum > 0.0) {
      centered ? with.template operator()<true, true>() : with.template operator()<true, false>();
    } else {
      centered ? with.template operator()<false, true>() : with.template operator()<false, false>();
    }
  }
};

}  // namespace ravine
