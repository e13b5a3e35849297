#include "backend.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <typeindex>
#include <typeinfo>
#include <variant>

#include "device_tables.hpp"
#include "kernels.hpp"
#include "ravine/cuda.hpp"
#include "ravine/error.hpp"

namespace ravine::cuda {
namespace {

ArrayTypes types_of(std::span<const Row> rows) {
  bool is_float32 = true, has_single = false, has_double = false;
  for (const Row& row : rows) {
    is_float32 &= row.w.dtype == DType::float32 && (!row.updates || row.g.dtype == DType::float32);
    (arithmetic_dtype(row.w.dtype) == DType::float64 ? has_double : has_single) = true;
  }
  if (is_float32) return ArrayTypes::float32;
  if (!has_double) return ArrayTypes::single_precision;
  return has_single ? ArrayTypes::mixed : ArrayTypes::double_precision;
}

[[noreturn]] void refuse_accumulation() {
  throw ArgumentError(
      "Steps with gradient_accumulation_steps cannot be captured in a CUDA graph: not every one is "
      "an update.");
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

std::optional<NormBound> norm_bound(const Options& options) {
  if (options.clipnorm) return NormBound{*options.clipnorm, false};
  if (options.global_clipnorm) return NormBound{*options.global_clipnorm, true};
  return std::nullopt;
}

}  // namespace

void require(const Device& device) { runtime::require_device(device.index); }

struct Backend::State {
  int device;
  DeviceTables device_tables;
  runtime::Event event;
  std::optional<Stream> last_stream;      // none: all is done
  std::optional<std::size_t> rule_index;  // of the rule whose state is on the device
  std::type_index loaded = typeid(void);  // the formula whose kernels `prepare` has loaded
  bool counts_on_device = false;

  State(const Device& on, std::span<const Row> rows) : device(on.index), device_tables(rows) {}

  const Tables& tables() const { return device_tables.tables(); }

  /// Lets what is put on the stream wait for the last step, if that was on another. What is put
  /// there becomes the last when `last_stream` is set.
  void follow_last(Stream stream, bool capturing) {
    if (!last_stream || *last_stream == stream) return;
    event.record(*last_stream);
    // A graph cannot wait for what is not part of it.
    if (capturing) {
      event.synchronize();
    } else {
      event.let_wait(stream);
    }
  }

  void check_rule(const AnyRule& rule, bool capturing) const {
    if (((capturing || counts_on_device) && rule_index != rule.index()) ||
        (capturing && loaded != formula_of(rule))) {
      throw ArgumentError(
          "Only steps with the rule that the plan was prepared for can be captured in a CUDA "
          "graph. "
          "Call prepare() before.");
    }
  }
};

Backend::Backend(const Device& device, std::span<const Row> rows) {
  const runtime::CurrentDevice current(device.index);
  state_ = std::make_unique<State>(device, rows);
}

Backend::~Backend() {
  if (!state_) return;
  const runtime::CurrentDevice current(state_->device);
  state_.reset();
}

void Backend::prepare(const AnyRule& rule, std::int64_t iteration) {
  const runtime::CurrentDevice current(state_->device);
  load_kernels(rule);
  state_->loaded = formula_of(rule);
  write_progress(rule, iteration);
}

void Backend::wait_for(Stream producer, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  runtime::Event made;
  made.record(producer);
  made.let_wait(stream);
}

void Backend::run(AnyRule& rule, const Options& options, double learning_rate,
                  std::int64_t iteration, std::span<const Row> rows, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  const bool capturing = runtime::is_capturing(stream);
  if ((capturing || state_->counts_on_device) && options.window() > 1) refuse_accumulation();
  state_->check_rule(rule, capturing);
  state_->follow_last(stream, capturing);
  const Counting counting =
      capturing || state_->counts_on_device ? Counting::on_device : Counting::on_host;
  state_->device_tables.send_gradients(rows, capturing, stream);

  const Tables& tables = state_->tables();
  const Passes passes = options.passes(learning_rate, iteration);
  const std::int64_t t = iteration / options.window() + 1;
  AnyRule advanced = rule;
  if (counting == Counting::on_device) {
    advance(tables, rule, passes, capturing ? nullptr : &learning_rate, stream);
  } else {
    std::visit([&](auto& next) { next.advance(t); }, advanced);
  }
  const ArrayTypes types = types_of(rows);
  const std::optional<NormBound> bound = norm_bound(options);
  if (bound) find_clip_factors(tables, types, passes, *bound, stream);
  update(tables, types, counting, advanced, passes, learning_rate, t, iteration, bound.has_value(),
         stream);
  rule = advanced;
  state_->rule_index = rule.index();
  state_->counts_on_device |= capturing;
  state_->last_stream = stream;
}

void Backend::accumulate(const Passes& passes, std::span<const Row> rows, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  if (runtime::is_capturing(stream) || state_->counts_on_device) refuse_accumulation();
  state_->follow_last(stream, false);
  state_->device_tables.send_gradients(rows, false, stream);
  cuda::accumulate(state_->tables(), passes, stream);
  state_->last_stream = stream;
}

void Backend::overwrite(std::span<const Row> rows, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  const bool capturing = runtime::is_capturing(stream);
  state_->follow_last(stream, capturing);
  state_->device_tables.send_gradients(rows, capturing, stream);
  cuda::overwrite(state_->tables(), stream);
  state_->last_stream = stream;
}

bool Backend::counts_on_device() const { return state_->counts_on_device; }

void Backend::read_progress(AnyRule& any_rule, std::int64_t& iteration) const {
  if (!state_->counts_on_device) return;
  const runtime::CurrentDevice current(state_->device);
  Progress progress;
  runtime::copy_to_host(&progress, state_->tables().progress, sizeof progress);
  iteration = progress.iteration;
  std::visit(
      [&]<class Rule>(Rule& rule) {
        Rule there;
        std::memcpy(&there, progress.rule, sizeof there);
        rule.take_state(there);
      },
      any_rule);
}

void Backend::write_progress(const AnyRule& any_rule, std::int64_t iteration) {
  const runtime::CurrentDevice current(state_->device);
  Progress progress{};
  runtime::copy_to_host(&progress, state_->tables().progress, sizeof progress);
  progress.iteration = iteration;
  std::visit([&](const auto& rule) { std::memcpy(progress.rule, &rule, sizeof rule); }, any_rule);
  runtime::copy_to_device(state_->tables().progress, &progress, sizeof progress);
  state_->rule_index = any_rule.index();
  state_->last_stream.reset();  // all of the device's work is done
}

void Backend::set_learning_rate(double learning_rate, Stream stream) {
  const runtime::CurrentDevice current(state_->device);
  if (runtime::is_capturing(stream)) {
    throw ArgumentError(
        "learning_rate cannot be set while a CUDA graph is captured: set it between replays.");
  }
  static_assert(offsetof(Progress, learning_rate) == 0);
  const auto word = std::bit_cast<std::uint64_t>(learning_rate);
  state_->follow_last(stream, false);
  store(state_->tables().progress, {&word, 1}, stream);
  state_->last_stream = stream;
}

}  // namespace ravine::cuda

namespace ravine {

bool has_cuda() { return true; }
int cuda_device_of(const void* memory) { return cuda::runtime::device_of(memory); }
bool is_capturing(Stream stream) { return cuda::runtime::is_capturing(stream); }
CudaCounts cuda_counts() { return cuda::runtime::counts(); }

}  // namespace ravine
