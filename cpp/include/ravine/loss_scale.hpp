// The loss scale that follows the gradients:
// https://keras.io/api/optimizers/loss_scale_optimizer/
#pragma once

#include <cstdint>

#include "ravine/export.hpp"
#include "ravine/portable.hpp"

namespace ravine {

/// The factor by which the caller multiplies the loss, so that gradients of 16 bits do not vanish.
/// It doubles after so many updates with finite gradients, and halves after each without, which is
/// left out.
struct LossScale {
  std::int64_t dynamic_growth_steps = 2000;  ///< at least 1
  float dynamic_scale = 32768.0f;            ///< state: in [lowest, highest]
  std::int64_t step_counter = 0;             ///< state: finite steps since it changed

  /// Between these the scale and its inverse are ordinary float32 numbers.
  static constexpr float lowest = 0x1p-126f, highest = 0x1p126f;

  /// Throws `ArgumentError` if a number is out of its range.
  RAVINE_API void check() const;

  /// What gradients are multiplied by.
  RAVINE_PORTABLE double gradient_scale() const { return 1.0 / dynamic_scale; }

  /// To the scale of the next step.
  RAVINE_PORTABLE void move_on(bool finite) {
    if (!finite) {
      step_counter = 0;
      dynamic_scale = dynamic_scale * 0.5f < lowest ? lowest : dynamic_scale * 0.5f;
    } else if (++step_counter >= dynamic_growth_steps) {
      step_counter = 0;
      dynamic_scale = dynamic_scale > highest * 0.5f ? highest : dynamic_scale * 2.0f;
    }
  }
};

}  // namespace ravine
