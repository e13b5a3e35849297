// What happens to one element in one update, in Keras's order.
#pragma once

#include <limits>

#include "ravine/passes.hpp"
#include "ravine/portable.hpp"

namespace ravine {

/// Clip, decay, update, average. `g` is unscaled on the way in; a gradient that was accumulated
/// over several micro-steps comes here as their mean (`FinishAccumulation`).
template <class Kernel, class T>
struct Step {
  static constexpr int slot_count = Kernel::slot_count;
  Unscale<T> unscale;
  Clip<T> clip;
  Decay<T> decay;
  Kernel rule;

  template <class... Slot>
  RAVINE_PORTABLE void operator()(T& w, T g, Slot&... slot) const {
    decay(w);
    rule(w, clip(unscale(g)), slot...);
  }

  template <class U>
  RAVINE_PORTABLE auto rounded() const {
    using Rounded = decltype(rule.template rounded<U>());
    return Step<Rounded, U>{{U(unscale.gradient_scale)},
                            {U(clip.factor), U(clip.value)},
                            {U(decay.decay)},
                            rule.template rounded<U>()};
  }

  /// Whether the passes change nothing, so that the rule alone does the same.
  bool is_rule_alone() const {
    return unscale.gradient_scale == T(1) && clip.factor == T(1) &&
           clip.value == std::numeric_limits<T>::infinity() && decay.decay == T(0);
  }
};

/// The step of a variable, in its arithmetic. `clip_factor` and `decays` differ from variable to
/// variable.
template <class T, class Kernel>
RAVINE_PORTABLE auto make_step(const Kernel& kernel, const Passes& passes, double clip_factor,
                               bool decays) {
  // A mean of accumulated gradients is unscaled already.
  const double gradient_scale = passes.accumulated > 1 ? 1.0 : passes.gradient_scale;
  const Step<Kernel, double> step{
      {gradient_scale}, {clip_factor, passes.clip_value}, {decays ? passes.decay : 0.0}, kernel};
  return step.template rounded<T>();
}

}  // namespace ravine
