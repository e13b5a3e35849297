// The options that all optimizers share, under Keras's names, and what they mean for one update.
#pragma once

#include <cstdint>
#include <optional>

#include "ravine/export.hpp"
#include "ravine/passes.hpp"

namespace ravine {

/// The base options of `keras.optimizers.Optimizer`, as in `Options{.clipnorm = 1.0}`. At most one
/// way of clipping is set.
struct Options {
  std::optional<double> weight_decay{};
  std::optional<double> clipnorm{};         ///< bound of the norm of each gradient
  std::optional<double> clipvalue{};        ///< bound of each element
  std::optional<double> global_clipnorm{};  ///< bound of the norm of all gradients together
  bool use_ema = false;
  double ema_momentum = 0.99;
  std::optional<std::int64_t> ema_overwrite_frequency{};
  std::optional<double> loss_scale_factor{};
  std::optional<std::int64_t> gradient_accumulation_steps{};

  /// Throws `ArgumentError` if a number is out of its range or more than one way of clipping is
  /// set.
  RAVINE_API void check() const;

  /// Calls of `Plan::step` that make one update.
  std::int64_t window() const { return gradient_accumulation_steps.value_or(1); }

  /// Whether call number `iteration` (the first is 0) updates the variables or only accumulates.
  bool updates(std::int64_t iteration) const { return (iteration + 1) % window() == 0; }

  /// The passes of call number `iteration`.
  RAVINE_API Passes passes(double learning_rate, std::int64_t iteration) const;
};

}  // namespace ravine
