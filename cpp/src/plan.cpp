#include "ravine/plan.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "cpu/floating_point.hpp"
#include "plan_state.hpp"
#include "ravine/error.hpp"

namespace ravine {
namespace {

/// Throws `ArgumentError` unless there is a variable of this number.
void require_index(std::size_t index, std::size_t size) {
  if (index < size) return;
  throw ArgumentError("The number of a variable must be below " + std::to_string(size) +
                      ". Received: " + std::to_string(index) + ".");
}

}  // namespace

/// With what is bound. `for_each_producer` calls what it is given with each stream but that of the
/// step on which gradients are made, at least once.
template <class ForEachProducer>
StepReport Plan::State::step(AnyRule& rule, const Options& options, double learning_rate,
                             std::int64_t iteration, Stream stream, LossScale* loss_scale,
                             const ForEachProducer& for_each_producer) {
  const std::int64_t present = gradients;
  StepReport report;
  if (!gpu) {
    report = step_on_cpu(rule, options, learning_rate, iteration, loss_scale);
  } else {
    for_each_producer([&](Stream producer) { gpu->wait_for(producer, stream); });
    report = step_on_gpu(rule, options, learning_rate, iteration, stream, loss_scale);
    // What is made next where the gradients were may take their memory.
    for_each_producer([&](Stream producer) { gpu->let_wait(producer); });
  }
  report.gradients = present;
  return report;
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
  state.check(rule, options, learning_rate, iteration, loss_scale);
  state.bind(gradients);
  const auto for_each_producer = [&](const auto& use) {
    Stream last = stream;
    for (const TensorView& gradient : gradients) {
      if (!gradient.present || gradient.producer.value_or(last) == last) continue;
      last = *gradient.producer;
      if (last != stream) use(last);
    }
  };
  return state.step(rule, options, learning_rate, iteration, stream, loss_scale, for_each_producer);
}

StepReport Plan::step_again(AnyRule& rule, const Options& options, double learning_rate,
                            std::int64_t iteration, Stream stream, std::optional<Stream> producer,
                            LossScale* loss_scale) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  state.check(rule, options, learning_rate, iteration, loss_scale);
  if (state.gradients == 0) throw ArgumentError("There are no gradients of a step before.");
  const auto for_each_producer = [&](const auto& use) {
    if (producer.value_or(stream) != stream) use(*producer);
  };
  return state.step(rule, options, learning_rate, iteration, stream, loss_scale, for_each_producer);
}

bool Plan::holds_gradients() const {
  const std::lock_guard lock(state_->mutex);
  return state_->gradients > 0;
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
  for (const std::size_t index : indices) require_index(index, state.rows.size());
  state.gradients = 0;
  state.rows_have_changed = true;
  for (Row& row : state.rows) row.updates = false;
  for (const std::size_t index : indices) state.rows[index].updates = true;
  if (state.gpu) {
    state.send_rows();
    return state.gpu->overwrite(stream);
  }
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

void Plan::divide(const AnyRule& rule) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  if (state.gpu) {
    throw ArgumentError("divide() is for arrays of the CPU. On a GPU, time a copy of the arrays.");
  }
  const cpu::DefaultFloatingPoint mode;
  cpu::backend().divide(rule, state.work(state.update_bytes));
}

void Plan::guard(const TensorView& array, const std::string& label) {
  const std::lock_guard lock(state_->mutex);
  state_->written.add(array, label);
}

void Plan::set_decays(std::size_t index, bool decays) {
  const std::lock_guard lock(state_->mutex);
  require_index(index, state_->rows.size());
  state_->rows[index].decays = decays;
  state_->rows_have_changed = true;
}

void Plan::set_multipliers(std::span<const Multipliers> multipliers) {
  const std::lock_guard lock(state_->mutex);
  state_->set_multipliers(multipliers);
}

bool Plan::received(std::size_t index) const {
  const std::lock_guard lock(state_->mutex);
  require_index(index, state_->received.size());
  return state_->received[index] != 0;
}

void Plan::set_received(std::size_t index, bool received) {
  const std::lock_guard lock(state_->mutex);
  require_index(index, state_->received.size());
  state_->received[index] = received;
}

void Plan::touch_state() {
  const std::lock_guard lock(state_->mutex);
  state_->touch_state();
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
