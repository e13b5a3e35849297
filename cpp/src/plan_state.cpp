#include "plan_state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <variant>

#include "cpu/first_touch.hpp"
#include "cpu/floating_point.hpp"
#include "ravine/error.hpp"
#include "ravine/threads.hpp"

namespace ravine {
namespace {

/// Beyond it the numbers of updates, and the next ones, could overflow.
constexpr std::int64_t max_iterations = std::int64_t{1} << 62;

}  // namespace

Plan::State::State(std::vector<Variable> variables) {
  if (!variables.empty()) device = variables.front().value.device;
  if (device.type == DeviceType::cuda) cuda::require(device);
  for (std::size_t i = 0; i < variables.size(); ++i) {
    const Variable& variable = variables[i];
    if (i == 0) slot_count = variable.slots.size();
    if (variable.slots.size() != slot_count || slot_count > max_slots) {
      throw ArgumentError("All variables must have the same number of slots, at most " +
                          std::to_string(max_slots) + ".");
    }
    if (variable.value.device != device) {
      throw ArgumentError("All variables must be on one device; the first is on " + text(device) +
                          ", " + label(i, variable.name) + " is on " + text(variable.value.device) +
                          ". Move them, or use an optimizer for each device.");
    }
    has_averages &= variable.average.present;
    has_accumulators &= variable.accumulator.present;
    bindings.emplace_back(i, variable);
    written.add(variable.value, label(i, variable.name));
    for (const TensorView& state : bindings.back().state()) {
      written.add(state, "the state of " + label(i, variable.name));
    }
  }
  written.check();
  for (Binding& binding : bindings) {
    rows.push_back(binding.row());
    update_bytes += binding.update_bytes();
  }
  chunks = cut(rows);
  received.resize(rows.size());
  if (device.type == DeviceType::cuda) {
    gpu = std::make_unique<cuda::Backend>(device, rows);
    return;
  }
  static_cast<void>(num_threads());  // what the environment asks for may be wrong: not in a step
  tiles.resize(static_cast<std::size_t>(chunks.tiles));
  sums.resize(rows.size());
}

void Plan::State::check(const AnyRule& any_rule, const Options& options, double learning_rate,
                        std::int64_t iteration, const LossScale* loss_scale) const {
  options.check();
  std::visit(
      [&](const auto& rule) {
        rule.check();
        if (rule.slots().size() != slot_count && !rows.empty()) {
          throw ArgumentError("The rule needs " + std::to_string(rule.slots().size()) +
                              " slots a variable, and the plan was built with " +
                              std::to_string(slot_count) + ".");
        }
      },
      any_rule);
  if (options.use_ema && !has_averages) {
    throw ArgumentError("use_ema needs an average for each variable; the plan was built without.");
  }
  if (options.window() > 1 && !has_accumulators) {
    throw ArgumentError(
        "gradient_accumulation_steps needs an accumulator for each variable; the plan was built "
        "without.");
  }
  if (loss_scale != nullptr) loss_scale->check();
  if (iteration < 0 || iteration >= max_iterations) {
    throw ArgumentError("iteration must be at least 0 and below 2**62. Received: " +
                        std::to_string(iteration) + ".");
  }
  if (!std::isfinite(learning_rate)) throw ArgumentError("learning_rate must be finite.");
  for (const Group& group : chunks.groups) {
    if (!std::isfinite(learning_rate * group.multipliers.learning_rate)) {
      throw ArgumentError(
          "learning_rate must be finite, also times the multiplier of each variable.");
    }
  }
}

/// Points the rows at these gradients. May throw, writes no array.
void Plan::State::bind(std::span<const TensorView> views) {
  gradients = 0;
  rows_have_changed = true;
  if (views.size() != rows.size()) {
    throw ArgumentError(
        "There must be one gradient for each variable: " + std::to_string(rows.size()) +
        ", with None for a missing one. Received: " + std::to_string(views.size()) + ".");
  }
  written.sort();
  std::int64_t present = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].updates = views[i].present;
    if (!views[i].present) continue;
    bindings[i].bind_gradient(views[i], written, rows[i]);
    ++present;
  }
  if (present == 0) throw ArgumentError("No gradient was given for any variable.");
  gradients = present;
}

cpu::Work Plan::State::work(std::int64_t bytes) const {
  return {rows.data(), chunks.chunks.data(), chunks.items.data(),
          static_cast<std::int64_t>(chunks.items.size()) - 1, bytes};
}

/// That of an update of one group.
cpu::Work Plan::State::work_of_update(const Group& group) const {
  cpu::Work result = work(update_bytes);
  result.items += group.first_item;
  result.item_count = group.end_item - group.first_item;
  // Of the whole, by the number of elements; the types differ little.
  if (group.elements < chunks.elements) {
    result.bytes = static_cast<std::int64_t>(static_cast<double>(update_bytes) *
                                             static_cast<double>(group.elements) /
                                             static_cast<double>(chunks.elements));
  }
  return result;
}

void Plan::State::touch_state() {
  if (gpu || !std::exchange(state_is_new, false)) return;
  for (const Group& group : chunks.groups) cpu::touch_state(work_of_update(group));
}

/// At the end of a window of accumulation a gradient that is missing counts as zeros, if the
/// variable received one in the window.
void Plan::State::complete_window() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!received[i] || rows[i].updates) continue;
    bindings[i].bind_zeros(rows[i]);
    gradients = 0;
    rows_have_changed = true;
  }
}

void Plan::State::send_rows() {
  if (rows_have_changed) gpu->take(rows);
  rows_have_changed = false;
}

void Plan::State::set_multipliers(std::span<const Multipliers> multipliers) {
  if (multipliers.size() != rows.size()) {
    throw ArgumentError(
        "There must be multipliers for each variable: " + std::to_string(rows.size()) +
        ". Received: " + std::to_string(multipliers.size()) + ".");
  }
  for (const auto& [learning_rate, weight_decay] : multipliers) {
    require_finite("The multiplier of learning_rate", learning_rate);
    require_finite("The multiplier of weight_decay", weight_decay);
  }
  std::vector<Row> changed = rows;
  for (std::size_t i = 0; i < rows.size(); ++i) changed[i].multipliers = multipliers[i];
  Chunks cut_anew = cut(changed);
  if (gpu) gpu->regroup(changed);
  rows = std::move(changed);
  chunks = std::move(cut_anew);
}

/// The sum of the squares of each gradient, as the passes will clip it, and of all.
double Plan::State::sum_squares(const Passes& passes) {
  cpu::backend().sum_squares(passes, work(4 * chunks.elements), tiles.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t count = (rows[i].size + tile_size - 1) / tile_size;
    const bool is_there = rows[i].updates && count > 0;
    sums[i] = is_there ? sum_tree(tiles.data() + rows[i].first_tile, count) : 0.0;
  }
  return sum_tree(sums.data(), static_cast<std::int64_t>(sums.size()));
}

void Plan::State::find_clip_factors(const Options& options, double sum_of_all) {
  // "not below" rather than "above": the norm of a gradient with NaN must not leave it unclipped.
  const auto factor = [](double norm, double bound) { return norm <= bound ? 1.0 : bound / norm; };
  if (options.clipnorm) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i].clip_factor = factor(std::sqrt(sums[i]), *options.clipnorm);
    }
  } else {
    // As in Keras, a norm that is not finite spoils all variables rather than some.
    const double norm = std::sqrt(sum_of_all);
    const double common = std::isfinite(norm) ? factor(norm, *options.global_clipnorm)
                                              : std::numeric_limits<double>::quiet_NaN();
    for (Row& row : rows) row.clip_factor = common;
  }
}

StepReport Plan::State::step_on_cpu(AnyRule& rule, const Options& options, double learning_rate,
                                    std::int64_t iteration, LossScale* loss_scale) {
  const cpu::DefaultFloatingPoint mode;
  const bool updates = options.updates(iteration);
  const bool clips_to_norm = updates && (options.clipnorm || options.global_clipnorm);
  Passes passes = options.passes(learning_rate, iteration);
  if (!updates) passes.accumulated = 1;
  if (loss_scale != nullptr) passes.gradient_scale = loss_scale->gradient_scale();
  if (updates && options.window() > 1) complete_window();

  for (Row& row : rows) row.clip_factor = 1.0;
  if (clips_to_norm || loss_scale != nullptr) {
    const double sum = sum_squares(passes);
    const bool finite = std::isfinite(sum);
    if (loss_scale != nullptr) loss_scale->move_on(finite);
    if (loss_scale != nullptr && !finite) return {.skipped = true};
    if (clips_to_norm) find_clip_factors(options, sum);
  }
  if (!updates) {
    cpu::Work all = work(12 * chunks.elements);
    all.touches_state = std::exchange(state_is_new, false);
    cpu::backend().accumulate(passes, all);
    for (std::size_t i = 0; i < rows.size(); ++i) received[i] |= rows[i].updates;
    return {};
  }
  AnyRule advanced = rule;
  const std::int64_t t = iteration / options.window() + 1;
  std::visit([&](auto& next) { next.advance(t); }, advanced);
  for (const Group& group : chunks.groups) {
    const double rate = learning_rate * group.multipliers.learning_rate;
    passes.move_to(learning_rate, t, group.multipliers);
    cpu::Work update = work_of_update(group);
    update.touches_state = state_is_new;
    cpu::backend().run(advanced, rate, t, passes, update);
  }
  state_is_new = false;
  rule = advanced;
  std::ranges::fill(received, 0);
  return {.updated = true};
}

StepReport Plan::State::step_on_gpu(AnyRule& rule, const Options& options, double learning_rate,
                                    std::int64_t iteration, Stream stream, LossScale* loss_scale) {
  const cpu::DefaultFloatingPoint mode;  // scalars are computed here
  const bool scales = loss_scale != nullptr;
  if (gpu->counts_in_step(rule, options, scales, iteration, stream)) {
    send_rows();
    gpu->step(rule, options, learning_rate, scales, stream);
    return {.updated = !scales && options.window() == 1};
  }
  if (!options.updates(iteration)) {
    send_rows();
    gpu->accumulate(options.passes(learning_rate, iteration), stream);
    for (std::size_t i = 0; i < rows.size(); ++i) received[i] |= rows[i].updates;
    return {};
  }
  if (options.window() > 1) complete_window();
  send_rows();
  gpu->run(rule, options, learning_rate, iteration, stream);
  std::ranges::fill(received, 0);
  return {.updated = true};
}

}  // namespace ravine
