// Adam, with AMSGrad or not, and so AdamW: https://keras.io/api/optimizers/adam/
#pragma once

#include <cmath>
#include <cstdint>

#include "ravine/choices.hpp"
#include "ravine/error.hpp"
#include "ravine/portable.hpp"
#include "ravine/power.hpp"
#include "ravine/slots.hpp"

namespace ravine {

/// Adam (Kingma and Ba 2014, https://arxiv.org/abs/1412.6980) in Keras's form, in which the bias
/// corrections stand in the rate and epsilon is added to the root of the uncorrected velocity.
/// AdamW is this with weight decay.
struct Adam {
  double beta_1 = 0.9;    ///< decay, per step, of the first moment; in [0, 1)
  double beta_2 = 0.999;  ///< decay, per step, of the second moment; in [0, 1)
  double epsilon = 1e-7;  ///< added to the root of the second moment; in units of the gradient
  bool amsgrad = false;   ///< divide by the largest second moment so far (Reddi et al. 2018)

  template <class T, bool is_amsgrad>
  struct Kernel {
    static constexpr int slot_count = 2 + is_amsgrad;
    T alpha, one_minus_beta_1, one_minus_beta_2, epsilon;

    RAVINE_PORTABLE void operator()(T& w, T g, T& momentum, T& velocity) const
      requires(!is_amsgrad)
    {
      move_on(g, momentum, velocity);
      descend(w, momentum, velocity);
    }
    RAVINE_PORTABLE void operator()(T& w, T g, T& momentum, T& velocity, T& velocity_hat) const
      requires(is_amsgrad)
    {
      move_on(g, momentum, velocity);
      // NaN of either stays, as in Keras; fmax would swallow it.
      const auto rises = velocity_hat < velocity || velocity != velocity;
      velocity_hat = select(rises, velocity, velocity_hat);
      descend(w, momentum, velocity_hat);
    }

    template <class U>
    RAVINE_PORTABLE Kernel<U, is_amsgrad> rounded() const {
      return {U(alpha), U(one_minus_beta_1), U(one_minus_beta_2), U(epsilon)};
    }

   private:
    RAVINE_PORTABLE void move_on(T g, T& momentum, T& velocity) const {
      momentum += (g - momentum) * one_minus_beta_1;
      velocity += (g * g - velocity) * one_minus_beta_2;
    }
    RAVINE_PORTABLE void descend(T& w, T momentum, T second_moment) const {
      using std::sqrt;
      w -= momentum * alpha / (sqrt(second_moment) + epsilon);
    }
  };

  /// Throws `ArgumentError` if a number is out of its range.
  void check() const {
    require_range("beta_1", beta_1, 0, 1, true);
    require_range("beta_2", beta_2, 0, 1, true);
    require_size("epsilon", epsilon);
  }

  /// Names of the state that each variable needs.
  SlotNames slots() const {
    SlotNames names{{"momentum", "velocity"}, 2};
    if (amsgrad) names.add("velocity_hat");
    return names;
  }

  RAVINE_PORTABLE void advance(std::int64_t) {}
  RAVINE_PORTABLE void take_state(const Adam&) {}

  /// Calls `visit` with the kernel of update number `t` (the first is 1), its numbers in double.
  template <class Visit>
  RAVINE_PORTABLE void visit_kernel(double learning_rate, std::int64_t t, Visit&& visit) const {
    using std::sqrt;
    const double alpha = learning_rate * sqrt(1 - power(beta_2, t)) / (1 - power(beta_1, t));
    if (amsgrad) {
      visit(Kernel<double, true>{alpha, 1 - beta_1, 1 - beta_2, epsilon});
    } else {
      visit(Kernel<double, false>{alpha, 1 - beta_1, 1 - beta_2, epsilon});
    }
  }
};

}  // namespace ravine
