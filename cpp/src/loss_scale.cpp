#include "ravine/loss_scale.hpp"

#include <string>

#include "ravine/error.hpp"

namespace ravine {

void LossScale::check() const {
  require_range("dynamic_scale", dynamic_scale, lowest, highest);
  if (dynamic_growth_steps < 1) {
    throw ArgumentError("dynamic_growth_steps must be at least 1. Received: " +
                        std::to_string(dynamic_growth_steps) + ".");
  }
  if (step_counter < 0 || step_counter >= dynamic_growth_steps) {
    throw ArgumentError(
        "step_counter must be at least 0 and below dynamic_growth_steps. Received: " +
        std::to_string(step_counter) + ".");
  }
}

}  // namespace ravine
