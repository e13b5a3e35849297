#include "ravine/plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "binding.hpp"
#include "chunks.hpp"
#include "cpu/backend.hpp"
#include "cpu/floating_point.hpp"
#include "cuda/backend.hpp"
#include "ravine/error.hpp"
#include "written_memory.hpp"

namespace ravine {
namespace {

/// Beyond it the numbers of updates, and the next ones, could overflow.
constexpr std::int64_t max_iterations = std::int64_t{1} << 62;

}  // namespace

struct Plan::State {
  std::mutex mutex;
  Device device;
  std::vector<Binding> bindings;
  std::vector<Row> rows;
  Chunks chunks;
  WrittenMemory written;
  std::size_t slot_count = 0;
  bool has_averages = true, has_accumulators = true;
  std::int64_t update_bytes = 0;
  std::vector<char> received;
  std::vector<double> tiles, sums;
  std::unique_ptr<cuda::Backend> gpu;  // for arrays on a GPU

  explicit State(std::vector<Variable> variables);

  void check(const AnyRule& rule, const Options& options, std::size_t gradients) const;
  std::int64_t bind(std::span<const TensorView> gradients);
  void complete_window();
  double sum_squares(const Passes& passes);
  void find_clip_factors(const Options& options, double sum_of_all);
  StepReport step_on_cpu(AnyRule& rule, const Options& options, double learning_rate,
                         std::int64_t iteration, LossScale* loss_scale);
  StepReport step_on_gpu(AnyRule& rule, const Options& options, double learning_rate,
                         std::int64_t iteration, Stream stream, LossScale* loss_scale);
  cpu::Work work(std::int64_t bytes) const;
};

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
  tiles.resize(static_cast<std::size_t>(chunks.tiles));
  sums.resize(rows.size());
}

void Plan::State::check(const AnyRule& any_rule, const Options& options,
                        std::size_t gradients) const {
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
  if (gradients != rows.size()) {
    throw ArgumentError(
        "There must be one gradient for each variable: " + std::to_string(rows.size()) +
        ", with None for a missing one. Received: " + std::to_string(gradients) + ".");
  }
  if (options.use_ema && !has_averages) {
    throw ArgumentError("use_ema needs an average for each variable; the plan was built without.");
  }
  if (options.window() > 1 && !has_accumulators) {
    throw ArgumentError(
        "gradient_accumulation_steps needs an accumulator for each variable; the plan was built "
        "without.");
  }
}

/// Points the rows at these gradients; returns how many there are. May throw, writes no array.
std::int64_t Plan::State::bind(std::span<const TensorView> gradients) {
  std::int64_t present = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].updates = gradients[i].present;
    if (!gradients[i].present) continue;
    bindings[i].bind_gradient(gradients[i], written, rows[i]);
    ++present;
  }
  if (present == 0) throw ArgumentError("No gradient was given for any variable.");
  return present;
}

/// Calls `use` with each stream but that of the step on which gradients are made, at least once.
template <class Use>
void for_each_producer(std::span<const TensorView> gradients, Stream stream, const Use& use) {
  Stream last = stream;
  for (const TensorView& gradient : gradients) {
    if (!gradient.present || gradient.producer.value_or(last) == last) continue;
    last = *gradient.producer;
    if (last != stream) use(last);
  }
}

cpu::Work Plan::State::work(std::int64_t bytes) const {
  return {rows.data(), chunks.chunks.data(), chunks.items.data(),
          static_cast<std::int64_t>(chunks.items.size()) - 1, bytes};
}

/// At the end of a window of accumulation a gradient that is missing counts as zeros, if the
/// variable received one in the window.
void Plan::State::complete_window() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (received[i] && !rows[i].updates) bindings[i].bind_zeros(rows[i]);
  }
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
    cpu::backend().accumulate(passes, work(12 * chunks.elements));
    for (std::size_t i = 0; i < rows.size(); ++i) received[i] |= rows[i].updates;
    return {};
  }
  AnyRule advanced = rule;
  const std::int64_t t = iteration / options.window() + 1;
  std::visit([&](auto& next) { next.advance(t); }, advanced);
  cpu::backend().run(advanced, learning_rate, t, passes, work(update_bytes));
  rule = advanced;
  std::ranges::fill(received, 0);
  return {.updated = true};
}

StepReport Plan::State::step_on_gpu(AnyRule& rule, const Options& options, double learning_rate,
                                    std::int64_t iteration, Stream stream, LossScale* loss_scale) {
  const cpu::DefaultFloatingPoint mode;  // scalars are computed here
  const bool scales = loss_scale != nullptr;
  if (gpu->counts_in_step(rule, options, scales, iteration, stream)) {
    gpu->step(rule, options, learning_rate, scales, rows, stream);
    return {.updated = !scales && options.window() == 1};
  }
  if (!options.updates(iteration)) {
    gpu->accumulate(options.passes(learning_rate, iteration), rows, stream);
    for (std::size_t i = 0; i < rows.size(); ++i) received[i] |= rows[i].updates;
    return {};
  }
  if (options.window() > 1) complete_window();
  gpu->run(rule, options, learning_rate, iteration, rows, stream);
  std::ranges::fill(received, 0);
  return {.updated = true};
}

Plan::Plan(std::vector<Variable> variables)
    : state_(std::make_unique<State>(std::move(variables))) {}
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
Plan::~Plan() = default;

StepReport Plan::step(AnyRule& rule, const Options& options, double learning_rate,
                      std::int64_t iteration, std::span<const TensorView> gradients, Stream stream,
                      LossScale* loss_scale) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  state.check(rule, options, gradients.size());
  if (loss_scale != nullptr) loss_scale->check();
  if (iteration < 0 || iteration >= max_iterations) {
    throw ArgumentError("iteration must be at least 0 and below 2**62. Received: " +
                        std::to_string(iteration) + ".");
  }
  if (!std::isfinite(learning_rate)) throw ArgumentError("learning_rate must be finite.");
  const std::int64_t present = state.bind(gradients);
  StepReport report;
  if (!state.gpu) {
    report = state.step_on_cpu(rule, options, learning_rate, iteration, loss_scale);
  } else {
    for_each_producer(gradients, stream,
                      [&](Stream producer) { state.gpu->wait_for(producer, stream); });
    report = state.step_on_gpu(rule, options, learning_rate, iteration, stream, loss_scale);
    // What is made next where the gradients were may take their memory.
    for_each_producer(gradients, stream, [&](Stream producer) { state.gpu->let_wait(producer); });
  }
  report.gradients = present;
  return report;
}

void Plan::overwrite_with_averages(Stream stream) {
  std::vector<std::size_t> all(size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  overwrite_with_averages(all, stream);
}

void Plan::overwrite_with_averages(std::span<const std::size_t> indices, Stream stream) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  if (!state.has_averages) throw ArgumentError("The plan was built without averages.");
  for (Row& row : state.rows) row.updates = false;
  for (const std::size_t index : indices) state.rows.at(index).updates = true;
  if (state.gpu) return state.gpu->overwrite(state.rows, stream);
  const cpu::DefaultFloatingPoint mode;
  cpu::backend().overwrite(state.work(8 * state.chunks.elements));
}

void Plan::stream(const Options& options, std::span<const TensorView> gradients) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  if (state.gpu) {
    throw ArgumentError("stream() is for arrays of the CPU. On a GPU, time a copy of the arrays.");
  }
  state.bind(gradients);
  for (const Row& row : state.rows) {
    if (!row.updates || row.w.axis_count > 0 || row.g.axis_count > 0 ||
        row.w.dtype != row.g.dtype || (options.use_ema && !state.has_averages)) {
      throw ArgumentError(
          "stream() needs arrays without gaps and all gradients, of the types of their variables.");
    }
  }
  if (options.clipnorm || options.global_clipnorm) {
    cpu::backend().read_gradients(state.work(4 * state.chunks.elements), state.tiles.data());
  }
  cpu::backend().stream(state.work(state.update_bytes), static_cast<int>(state.slot_count),
                        options.use_ema);
}

void Plan::set_decays(std::size_t index, bool decays) {
  const std::lock_guard lock(state_->mutex);
  state_->rows.at(index).decays = decays;
}

bool Plan::received(std::size_t index) const {
  const std::lock_guard lock(state_->mutex);
  return state_->received.at(index) != 0;
}

void Plan::set_received(std::size_t index, bool received) {
  const std::lock_guard lock(state_->mutex);
  state_->received.at(index) = received;
}

std::size_t Plan::size() const { return state_->rows.size(); }
const Device& Plan::device() const { return state_->device; }

void Plan::prepare(const AnyRule& rule, std::int64_t iteration, const LossScale* loss_scale) {
  const std::lock_guard lock(state_->mutex);
  if (loss_scale != nullptr) loss_scale->check();
  if (state_->gpu) state_->gpu->prepare(rule, iteration, loss_scale, state_->received);
}

void Plan::set_learning_rate(double learning_rate, Stream stream) {
  if (!std::isfinite(learning_rate)) throw ArgumentError("learning_rate must be finite.");
  const std::lock_guard lock(state_->mutex);
  if (state_->gpu) state_->gpu->set_learning_rate(learning_rate, stream);
}

void Plan::set_learning_rates(std::int64_t begin, std::span<const double> rates, Stream stream) {
  if (rates.empty() || rates.size() > cuda::max_learning_rates ||
      !std::ranges::all_of(rates, [](double rate) { return std::isfinite(rate); })) {
    throw ArgumentError("There must be 1 to " + std::to_string(cuda::max_learning_rates) +
                        " learning rates, all finite. Received: " + std::to_string(rates.size()) +
                        ".");
  }
  const std::lock_guard lock(state_->mutex);
  if (state_->gpu) state_->gpu->set_learning_rates(begin, rates, stream);
}

void Plan::let_wait(Stream stream) {
  const std::lock_guard lock(state_->mutex);
  if (state_->gpu) state_->gpu->let_wait(stream);
}

const float* Plan::loss_scale() const { return state_->gpu ? state_->gpu->loss_scale() : nullptr; }

bool Plan::counts_on_device() const {
  const std::lock_guard lock(state_->mutex);
  return state_->gpu && state_->gpu->counts_on_device();
}

void Plan::read_progress(AnyRule& rule, std::int64_t& iteration, LossScale* loss_scale) {
  const std::lock_guard lock(state_->mutex);
  if (state_->gpu) state_->gpu->read_progress(rule, iteration, loss_scale, state_->received);
}

}  // namespace ravine
