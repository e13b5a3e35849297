#include "backend.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <typeindex>
#include <typeinfo>
#include <variant>
#include <vector>

#include "device_tables.hpp"
#include "kernels.hpp"
#include "ravine/cuda.hpp"
#include "ravine/error.hpp"

namespace ravine::cuda {
namespace {

ArrayTypes types_of(std::span<const Row> rows) {
  bool is_one = true, has_single = false, has_double = false;
  for (const Row& row : rows) {
    is_one &= row.w.dtype == rows[0].w.dtype && (!row.updates || row.g.dtype == row.w.dtype);
    (arithmetic_dtype(row.w.dtype) == DType::float64 ? has_double : has_single) = true;
  }
  if (has_double) return has_single ? ArrayTypes::mixed : ArrayTypes::double_precision;
  if (!is_one) return ArrayTypes::single_precision;
  const DType dtype = rows.empty() ? DType::float32 : rows[0].w.dtype;
  return dtype == DType::float32   ? ArrayTypes::float32
         : dtype == DType::float16 ? ArrayTypes::float16
                                   : ArrayTypes::bfloat16;
}

/// Which kernels a rule has: another for other formulas, whatever the numbers.
std::type_index formula_of(const AnyRule& any_rule) {
  std::type_index formula = typeid(void);
  std::visit(
      [&](const auto& rule) {
        rule.visit_kernel(0.0, 1, [&](const auto& kernel) { formula = typeid(kernel); });
      },
      any_rule);
  return formula;
}

NormBound norm_bound(const Options& options) {
  if (options.clipnorm) return {NormBound::of_each, *options.clipnorm};
  if (options.global_clipnorm) return {NormBound::of_all, *options.global_clipnorm};
  return {};
}

void refuse_rate_in_capture(Stream stream) {
  if (!runtime::is_capturing(stream)) return;
  throw ArgumentError(
      "learning_rate cannot be set while a CUDA graph is captured: set it between replays.");
}

/// Writes the head of `Progress`.
void send_rates(const Tables& tables, double learning_rate, std::int64_t begin, std::int64_t count,
                Stream stream) {
  static_assert(offsetof(Progress, rates_begin) == 8 && offsetof(Progress, rates_count) == 16);
  const std::uint64_t words[] = {std::bit_cast<std::uint64_t>(learning_rate),
                                 static_cast<std::uint64_t>(begin),
                                 static_cast<std::uint64_t>(count)};
  store(tables.progress, words, stream);
}

}  // namespace

void require(const Device& device) { runtime::require_device(device.index); }

struct Backend::State {
  int device;
  DeviceTables device_tables;
  ArrayTypes types{};
  runtime::Event event;
  std::optional<Stream> last_stream;      // none: all is done
  std::optional<std::size_t> rule_index;  // of the rule whose state is on the device
  bool scales = false;                    // by a loss scale that is there too
  std::type_index loaded = typeid(void);  // the formula whose kernels `prepare` has loaded
  bool was_captured = false;  // replays may leave other gradients in the tables at any time
  bool counts_on_device = false;

  State(const Device& on, std::span<const Row> rows) : device(on.index), device_tables(rows) {}

  const Tables& tables() const { return device_tables.tables(); }

  /// Lets what is put on the stream wait for the last step. Always, if the host may not wait: a
  /// stream that is gone may have left its handle to another.
  void follow_last(Stream stream, bool capturing) {
    if (!last_stream) return;
    // A graph cannot wait for what is not part of it.
    if (!capturing) {
      event.let_wait(stream);
    } else if (*last_stream != stream) {
      event.synchronize();
    }
  }

  /// To be called when a step has been put on the stream. What a graph holds is not awaited.
  void set_last(Stream stream, bool capturing) {
    if (!capturing) event.record(stream);
    if (!capturing || last_stream) last_stream = stream;
  }
};

Backend::Backend(const Device& device, std::span<const Row> rows) {
  const runtime::CurrentDevice current(device.index);
  state_ = std::make_unique<State>(device, rows);
}

Backend::~Backend() {
  // A forked child, or a process that ends, has no device to make current, and nothing to free.
  try {
    const runtime::CurrentDevice current(state_->device);
    state_.reset();
  } catch (const Error&) {
    state_.reset();
  }
}

void Backend::prepare(const AnyRule& any_rule, std::int64_t iteration, const LossScale* loss_scale,
                      std::span<const char> received) {
  const runtime::CurrentDevice current(state_->device);
  load_kernels(any_rule);
  const Tables& tables = state_->tables();
  Progress progress;
  runtime::copy_to_host(&progress, tables.progress, sizeof progress);
  progress.iteration = iteration;
  if (loss_scale != nullptr) progress.loss_scale = *loss_scale;
  std::visit([&](const auto& rule) { std::memcpy(progress.rule, &rule, sizeof rule); }, any_rule);
  runtime::copy_to_device(tables.progress, &progress, sizeof progress);
  state_->loaded = formula_of(any_rule);
  state_->last_stream.reset();  // all of the device's work is done
  state_->rule_index = any_rule.index();
  state_->scales = loss_scale != nullptr;
  state_->counts_on_device |= state_->scales;
  // Steps that the host counts would leave it there, and what is captured later begins a window.
  if (state_->counts_on_device) {
    runtime::copy_to_device(tables.received, received.data(), received.size());
  }
}

bool Backend::counts_in_step(const AnyRule& rule, const Options& options, bool scales,
                             std::int64_t iteration, Stream stream) const {
  const bool capturing = runtime::is_capturing(stream);
  if (!capturing && !scales && !state_->counts_on_device) return false;
  if (state_->rule_index != rule.index() || state_->scales != scales ||
      (capturing && state_->loaded != formula_of(rule))) {
    throw ArgumentError(
        "Steps that are captured in a CUDA graph or have a loss scale need the plan prepared for "
        "their rule and loss scale. Call prepare() before.");
  }
  if (!state_->counts_on_device && iteration % options.window() != 0) {
    throw ArgumentError(
        "The first step that is captured in a CUDA graph must begin a window of "
        "gradient_accumulation_steps. Make the steps that are left of this one.");
  }
  return true;
}

void Backend::wait_for(Stream producer, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  if (runtime::is_capturing(producer) != runtime::is_capturing(stream)) {
    throw ArgumentError(
        "Gradients are made on another stream than that of the step, and only one of the two is "
        "captured in a CUDA graph. Make both on the stream that is captured.");
  }
  runtime::Event made;
  made.record(producer);
  made.let_wait(stream);
}

void Backend::let_wait(Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  if (state_->last_stream && !runtime::is_capturing(stream)) state_->event.let_wait(stream);
}

void Backend::take(std::span<const Row> rows) {
  state_->types = types_of(rows);
  state_->device_tables.take(rows);
}

void Backend::regroup(std::span<const Row> rows) {
  const runtime::CurrentDevice current(state_->device);
  if (state_->was_captured) {
    throw ArgumentError(
        "The multipliers of variables cannot be changed once a step was captured in a CUDA graph: "
        "replays would take one variable for another. Set them before the capture.");
  }
  state_->device_tables.regroup(rows);
  state_->last_stream.reset();  // all of the device's work is done
}

void Backend::step(const AnyRule& rule, const Options& options, double learning_rate, bool scales,
                   Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  const bool capturing = runtime::is_capturing(stream);
  state_->follow_last(stream, capturing);
  // The device marks those gradients itself that are missing when a window ends.
  state_->was_captured |= capturing;
  state_->device_tables.send(state_->was_captured || options.window() > 1, stream);
  const Tables& tables = state_->tables();
  const ArrayTypes types = state_->types;
  const Passes passes = options.passes(learning_rate, 0);
  const NormBound bound = norm_bound(options);
  advance(tables, types, rule, passes, bound, scales, capturing ? nullptr : &learning_rate, stream);
  update(tables, state_->device_tables.groups(), types, Counting::on_device, rule, passes,
         learning_rate, 1, 0, bound.kind != NormBound::none, stream);
  state_->counts_on_device = true;
  state_->set_last(stream, capturing);
}

void Backend::run(AnyRule& rule, const Options& options, double learning_rate,
                  std::int64_t iteration, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  state_->follow_last(stream, false);
  state_->device_tables.send(state_->was_captured, stream);
  const Tables& tables = state_->tables();
  const ArrayTypes types = state_->types;
  const Passes passes = options.passes(learning_rate, iteration);
  const NormBound bound = norm_bound(options);
  if (bound.kind != NormBound::none) find_clip_factors(tables, types, passes, bound, stream);
  const std::int64_t t = iteration / options.window() + 1;
  AnyRule advanced = rule;
  std::visit([&](auto& next) { next.advance(t); }, advanced);
  update(tables, state_->device_tables.groups(), types, Counting::on_host, advanced, passes,
         learning_rate, t, iteration, bound.kind != NormBound::none, stream);
  rule = advanced;
  state_->rule_index = rule.index();
  state_->set_last(stream, false);
}

void Backend::accumulate(const Passes& passes, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  state_->follow_last(stream, false);
  state_->device_tables.send(state_->was_captured, stream);
  cuda::accumulate(state_->tables(), passes, stream);
  state_->set_last(stream, false);
}

void Backend::overwrite(Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  const bool capturing = runtime::is_capturing(stream);
  state_->follow_last(stream, capturing);
  state_->was_captured |= capturing;
  state_->device_tables.send(state_->was_captured, stream);
  cuda::overwrite(state_->tables(), stream);
  state_->set_last(stream, capturing);
}

bool Backend::counts_on_device() const { return state_->counts_on_device; }

void Backend::read_progress(AnyRule& any_rule, std::int64_t& iteration, LossScale* loss_scale,
                            std::span<char> received) const {
  if (!state_->counts_on_device) return;
  const runtime::CurrentDevice current(state_->device);
  Progress progress;
  runtime::copy_to_host(&progress, state_->tables().progress, sizeof progress);
  runtime::copy_to_host(received.data(), state_->tables().received, received.size());
  iteration = progress.iteration;
  if (loss_scale != nullptr) *loss_scale = progress.loss_scale;
  std::visit(
      [&]<class Rule>(Rule& rule) {
        Rule there;
        std::memcpy(&there, progress.rule, sizeof there);
        rule.take_state(there);
      },
      any_rule);
}

void Backend::set_learning_rate(double learning_rate, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  refuse_rate_in_capture(stream);
  state_->follow_last(stream, false);
  send_rates(state_->tables(), learning_rate, 0, 0, stream);
  state_->set_last(stream, false);
}

void Backend::set_learning_rates(std::int64_t begin, std::span<const double> rates, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  refuse_rate_in_capture(stream);
  std::vector<std::uint64_t> words(rates.size());
  std::ranges::transform(rates, words.begin(),
                         [](double rate) { return std::bit_cast<std::uint64_t>(rate); });
  state_->follow_last(stream, false);
  store(state_->tables().rates, words, stream);
  send_rates(state_->tables(), rates.front(), begin, static_cast<std::int64_t>(rates.size()),
             stream);
  state_->set_last(stream, false);
}

const float* Backend::loss_scale() const {
  return &state_->tables().progress->loss_scale.dynamic_scale;
}

}  // namespace ravine::cuda

namespace ravine {

bool has_cuda() { return true; }
int cuda_device_of(const void* memory) { return cuda::runtime::device_of(memory); }
bool is_capturing(Stream stream) { return cuda::runtime::is_capturing(stream); }
CudaCounts cuda_counts() { return cuda::runtime::counts(); }

}  // namespace ravine
