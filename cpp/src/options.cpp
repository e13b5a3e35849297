#include "ravine/options.hpp"

#include <cmath>
#include <string>

#include "ravine/error.hpp"

namespace ravine {
namespace {

void require_count(const char* name, const std::optional<std::int64_t>& count) {
  if (count.value_or(1) >= 1) return;
  throw ArgumentError(std::string(name) +
                      " must be at least 1. Received: " + std::to_string(*count) + ".");
}

}  // namespace

void Options::check() const {
  if (weight_decay) require_finite("weight_decay", *weight_decay);
  if (clipnorm) require_size("clipnorm", *clipnorm, true);
  if (clipvalue) require_size("clipvalue", *clipvalue, true);
  if (global_clipnorm) require_size("global_clipnorm", *global_clipnorm, true);
  if (clipnorm.has_value() + clipvalue.has_value() + global_clipnorm.has_value() > 1) {
    throw ArgumentError("Only one of clipnorm, clipvalue and global_clipnorm can be set.");
  }
  require_range("ema_momentum", ema_momentum, 0, 1);
  require_count("ema_overwrite_frequency", ema_overwrite_frequency);
  require_count("gradient_accumulation_steps", gradient_accumulation_steps);
  // Its inverse, too, must be an ordinary float32.
  if (loss_scale_factor) require_range("loss_scale_factor", *loss_scale_factor, 1e-37, 1e37);
}

Passes Options::passes(double learning_rate, std::int64_t iteration) const {
  Passes passes;
  if (loss_scale_factor) passes.gradient_scale = 1 / *loss_scale_factor;
  passes.accumulated = window();
  if (clipvalue) passes.clip_value = *clipvalue;
  if (weight_decay) passes.weight_decay = *weight_decay;
  passes.averages = use_ema;
  passes.ema_momentum = ema_momentum;
  if (ema_overwrite_frequency) passes.ema_overwrite_frequency = *ema_overwrite_frequency;
  passes.move_to(learning_rate, iteration / window() + 1);
  return passes;
}

}  // namespace ravine
