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

  /// Whether the passes change nothing, so that the rule alone does the same.
  bool is_rule_alone() const {
    return unscale.gradient_scale == T(1) && clip.factor == T(1) &&
           clip.value == std::numeric_limits<T>::infinity() && decay.decay == T(0);
  }
};

/// The step of a variable. `clip_factor` and `decays` differ from variable to variable.
template <class T, class Kernel>
RAVINE_PORTABLE auto make_step(const Kernel& kernel, const Passes& passes, double clip_factor,
                               bool decays) {
  using Rounded = decltype(kernel.template rounded<T>());
  return Step<Rounded, T>{// A mean of accumulated gradients is unscaled already.
                          {passes.accumulated > 1 ? T(1) : T(passes.gradient_scale)},
                          {T(clip_factor), T(passes.clip_value)},
                          {decays ? T(passes.decay) : T(0)},
                          kernel.template rounded<T>()};
}

}  // namespace ravine
