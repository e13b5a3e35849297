// The elementwise work around a rule, the same for every optimizer: unscale, accumulate, clip,
// decay, average. Formulas and their order: docs/semantics.md.
#pragma once

#include <cstdint>
#include <limits>

#include "ravine/choices.hpp"
#include "ravine/portable.hpp"

namespace ravine {

/// What the learning rate and the weight decay are multiplied by for a variable, which is updated
/// as by an optimizer with these products.
struct Multipliers {
  double learning_rate = 1.0;
  double weight_decay = 1.0;

  bool operator==(const Multipliers&) const = default;
};

/// What the passes of one update do; numbers in double, rounded once to the type of the arithmetic.
struct Passes {
  double gradient_scale = 1.0;                                  ///< 1 / loss scale
  std::int64_t accumulated = 1;                                 ///< micro-steps in this update
  double clip_value = std::numeric_limits<double>::infinity();  ///< bound of each element
  double weight_decay = 0.0;
  bool averages = false;                     ///< keep a moving average
  double ema_momentum = 0.99;                ///< in [0, 1]
  std::int64_t ema_overwrite_frequency = 0;  ///< updates; 0: never

  // What changes from update to update, as `move_to` sets it.
  double decay = 0.0;           ///< weight decay times the rate, each with its multiplier
  bool average_starts = false;  ///< the first update: copy
  bool overwrites = false;      ///< copy the average back

  /// To update number `t`, the first is 1, of the variables with these multipliers.
  RAVINE_PORTABLE void move_to(double learning_rate, std::int64_t t,
                               const Multipliers& multipliers = {}) {
    decay = (weight_decay * multipliers.weight_decay) * (learning_rate * multipliers.learning_rate);
    average_starts = t == 1;
    overwrites = averages && ema_overwrite_frequency > 0 && t % ema_overwrite_frequency == 0;
  }
};

/// From a gradient as it came to the gradient that is clipped.
template <class T>
struct Unscale {
  T gradient_scale;

  RAVINE_PORTABLE T operator()(T g) const { return g * gradient_scale; }
};

/// The mean of the gradients of a window of micro-steps; leaves the accumulator empty.
template <class T>
struct FinishAccumulation {
  T gradient_scale, accumulated;

  RAVINE_PORTABLE T operator()(T g, T& accumulator) const {
    const T mean = mean_of(g, accumulator);
    accumulator = T(0);
    return mean;
  }
  RAVINE_PORTABLE T mean_of(T g, T accumulator) const {
    return (g * gradient_scale + accumulator) / accumulated;
  }
};

/// Clips to a norm (by a factor) and to a value. A factor of 1 and a bound of infinity change no
/// bit.
template <class T>
struct Clip {
  T factor, value;

  RAVINE_PORTABLE T operator()(T g) const {
    g *= factor;
    return at_most(at_least(g, -value), value);
  }
};

/// Weight decay, decoupled from the gradient: w = w - w * weight_decay * learning_rate.
template <class T>
struct Decay {
  T decay;

  // w - w * 0 is not w for infinities and negative zero. A number is asked, not a flag: compilers
  // make vector code of a choice by a flag only if they can afford a loop for each of its values.
  RAVINE_PORTABLE void operator()(T& w) const { w = select(decay != T(0), w - w * decay, w); }
};

/// Exponential moving average of the variable. The first update copies instead, and an update that
/// overwrites copies back: the backends see to both.
template <class T>
struct Average {
  T ema_momentum, one_minus_ema_momentum;

  RAVINE_PORTABLE explicit Average(const Passes& passes)
      : ema_momentum(T(passes.ema_momentum)), one_minus_ema_momentum(T(1 - passes.ema_momentum)) {}
  template <class U>
  RAVINE_PORTABLE explicit Average(const Average<U>& other)
      : ema_momentum(T(other.ema_momentum)),
        one_minus_ema_momentum(T(other.one_minus_ema_momentum)) {}

  RAVINE_PORTABLE void operator()(T w, T& average) const {
    average = ema_momentum * average + one_minus_ema_momentum * w;
  }
};

}  // namespace ravine
