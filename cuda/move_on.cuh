// What the host does between two updates, done by the device where only it knows how many there
// were, or whether the next is to be made.
#pragma once

#include <cstdint>

#include "platform.cuh"
#include "tables.hpp"

namespace ravine::cuda {

template <class Rule>
struct MoveOn {
  Rule rule;  ///< its scalar state is on the device
  Passes passes;
  bool scales;     ///< by the loss scale, whose state is on the device
  bool sets_rate;  ///< to the one here, unless rates by iteration are on the device
  double learning_rate;

  /// Moves `Progress` on by one call, unless gradients are not finite and that matters, and leaves
  /// what is to be done in `Numbers`. By all threads of one block.
  __device__ void operator()(const Tables& tables, bool finite) const {
    const bool updates = tables.progress->completes(passes.accumulated);
    const bool skips = scales && !finite;
    __syncthreads();  // all have read what one now writes
    if (threadIdx.x == 0) {
      move_on(*tables.progress, tables, updates, skips);
    }
    if (skips || passes.accumulated == 1) return;
    for (std::uint32_t i = threadIdx.x; i < tables.row_count; i += block_threads) {
      if (!updates) {
        tables.received[i] |= tables.marks[i].updates;
      } else {
        // A gradient that is missing when the window ends: zeros.
        tables.marks[i].updates |= tables.received[i];
        tables.received[i] = 0;
      }
    }
  }

 private:
  __device__ void move_on(Progress& progress, const Tables& tables, bool updates,
                          bool skips) const {
    if (sets_rate) progress.learning_rate = learning_rate;
    if (progress.rates_count > 0) {
      const std::int64_t index = progress.iteration - progress.rates_begin;
      const std::int64_t last = progress.rates_count - 1;
      progress.learning_rate = tables.rates[index < 0 ? 0 : index > last ? last : index];
    }
    Passes now = passes;
    if (scales) {
      now.gradient_scale = progress.loss_scale.gradient_scale();
      progress.loss_scale.move_on(!skips);
    }
    const Action action = skips ? Action::skip : updates ? Action::update : Action::accumulate;
    for (std::uint32_t i = 0; i < tables.group_count; ++i) {
      tables.numbers[i].passes = now;
      tables.numbers[i].action = action;
    }
    if (skips) return;
    ++progress.iteration;
    if (!updates) return;
    const std::int64_t t = progress.iteration / passes.accumulated;
    Rule advanced = rule;
    advanced.take_state(*reinterpret_cast<const Rule*>(progress.rule));
    advanced.advance(t);
    *reinterpret_cast<Rule*>(progress.rule) = advanced;
    for (std::uint32_t i = 0; i < tables.group_count; ++i) {
      const Multipliers& multipliers = tables.groups[i].multipliers;
      Numbers& numbers = tables.numbers[i];
      numbers.passes.move_to(progress.learning_rate, t, multipliers);
      advanced.visit_kernel(progress.learning_rate * multipliers.learning_rate, t,
                            [&]<class Kernel>(const Kernel& kernel) {
                              *reinterpret_cast<Kernel*>(numbers.kernel) = kernel;
                            });
    }
  }
};

}  // namespace ravine::cuda
