// Adam with Nesterov momentum: https://keras.io/api/optimizers/nadam/
#pragma once

#include <cmath>
#include <cstdint>

#include "ravine/error.hpp"
#include "ravine/portable.hpp"
#include "ravine/power.hpp"
#include "ravine/slots.hpp"

namespace ravine {

/// Nadam (Dozat 2015, http://cs229.stanford.edu/proj2015/054_report.pdf) in Keras's form: the
/// momentum decays by beta_1 * (1 - 0.5 * 0.96^t), and epsilon is added outside the root.
struct Nadam {
  double beta_1 = 0.9;    ///< decay, per step, of the first moment; in [0, 1)
  double beta_2 = 0.999;  ///< decay, per step, of the second moment; in [0, 1)
  double epsilon = 1e-7;  ///< added to the root of the second moment; in units of the gradient
  double momentum_product = 1.0;  ///< state: the product of the momenta of all updates so far

  template <class T>
  struct Kernel {
    static constexpr int slot_count = 2;
    T one_minus_beta_1, one_minus_beta_2, epsilon;
    // The bias corrections and the rate, folded: one division an element is left.
    T momentum_factor, gradient_factor, velocity_factor;

    RAVINE_PORTABLE void operator()(T& w, T g, T& momentum, T& velocity) const {
      using std::sqrt;
      momentum += (g - momentum) * one_minus_beta_1;
      velocity += (g * g - velocity) * one_minus_beta_2;
      w -= (momentum_factor * momentum + gradient_factor * g) /
           (sqrt(velocity * velocity_factor) + epsilon);
    }

    template <class U>
    RAVINE_PORTABLE Kernel<U> rounded() const {
      return {U(one_minus_beta_1), U(one_minus_beta_2), U(epsilon),
              U(momentum_factor),  U(gradient_factor),  U(velocity_factor)};
    }
  };

  /// Throws `ArgumentError` if a number is out of its range.
  void check() const {
    require_range("beta_1", beta_1, 0, 1, true);
    require_range("beta_2", beta_2, 0, 1, true);
    require_size("epsilon", epsilon);
  }

  /// Names of the state that each variable needs.
  SlotNames slots() const { return {{"momentum", "velocity"}, 2}; }

  /// The momentum of update number `t`.
  RAVINE_PORTABLE double scheduled_momentum(std::int64_t t) const {
    return beta_1 * (1 - 0.5 * power(0.96, t));
  }

  /// Moves the scalar state to update number `t`.
  RAVINE_PORTABLE void advance(std::int64_t t) {
    momentum_product *= scheduled_momentum(t);
    // Subnormal it would stay for ever, and each product with it take a hundred cycles.
    if (momentum_product < 0x1p-1022) momentum_product = 0.0;
  }

  /// Takes over the scalar state, and nothing else.
  RAVINE_PORTABLE void take_state(const Nadam& advanced) {
    momentum_product = advanced.momentum_product;
  }

  /// Calls `visit` with the kernel of update number `t` (the first is 1), its numbers in double.
  template <class Visit>
  RAVINE_PORTABLE void visit_kernel(double learning_rate, std::int64_t t, Visit&& visit) const {
    const double now = scheduled_momentum(t), next = scheduled_momentum(t + 1);
    visit(Kernel<double>{
        1 - beta_1, 1 - beta_2, epsilon, learning_rate * next / (1 - momentum_product * next),
        learning_rate * (1 - now) / (1 - momentum_product), 1 / (1 - power(beta_2, t))});
  }
};

}  // namespace ravine
