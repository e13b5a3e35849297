#include "bound_plan.hpp"

#include <pybind11/numpy.h>

#include <exception>
#include <utility>

#include "arrays.hpp"
#include "plan_over.hpp"
#include "ravine/cuda.hpp"
#include "ravine/error.hpp"
#include "timing.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

Stream stream_of(std::uintptr_t handle) { return reinterpret_cast<Stream>(handle); }

std::optional<LossScale> copied(const LossScale* scale) {
  return scale == nullptr ? std::nullopt : std::optional(*scale);
}

void take_scale(LossScale* scale, const std::optional<LossScale>& other) {
  const SettingsLock lock;
  if (other) *scale = *other;
}

void call(const py::object& function) {
  const auto result = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(function.ptr()));
  if (!result) throw py::error_already_set();
}

/// Whether a step keeps the interpreter's lock: if it takes a few microseconds at most. That is
/// what others wait then; given up, it comes back only after they had their turn of milliseconds.
/// Less than 4,096 elements are updated in that time, and what is done for each array takes as long
/// as 64.
bool keeps_lock([[maybe_unused]] const py::list& variables) {
#if defined(Py_GIL_DISABLED)
  return false;  // there is none
#else
  std::size_t elements = 0;
  for (const py::handle variable : variables) {
    elements += 64 + static_cast<std::size_t>(py::reinterpret_borrow<py::array>(variable).size());
  }
  return elements <= 4096;
#endif
}

/// Calls `use` with the interpreter's lock released. No guard does that: at the end of the
/// interpreter, taking it back ends a daemon thread by unwinding, which no destructor may do.
template <class Use>
void without_lock(py::list held, Use&& use) {
  PyObject* const kept = held.release().ptr();
  std::exception_ptr error;
  PyThreadState* const thread = PyEval_SaveThread();
  try {
    use();
  } catch (...) {
    error = std::current_exception();
  }
  PyEval_RestoreThread(thread);
  Py_DECREF(kept);
  if (error) std::rethrow_exception(error);
}

}  // namespace

BoundPlan::BoundPlan(std::vector<std::string> names, const py::list& variables,
                     const std::vector<py::list>& slots, const std::optional<py::list>& averages,
                     const std::optional<py::list>& accumulators)
    : names_(std::move(names)),
      plan_(plan_over(names_, variables, slots, averages, accumulators)),
      gradients_(names_, is_on_gpu()) {
  const auto keep = [](std::vector<py::object>& kept, const py::list& arrays) {
    for (const py::handle array : arrays) {
      kept.push_back(py::reinterpret_borrow<py::object>(array));
    }
  };
  keep(variables_, variables);
  for (const py::list& slot : slots) keep(state_, slot);
  if (averages) keep(state_, *averages);
  if (accumulators) keep(state_, *accumulators);
  if (is_on_gpu()) return;
  for (const py::object& variable : variables_) {
    memory_.emplace_back(variable.ptr());
  }
  keeps_lock_ = keeps_lock(variables);
}

void BoundPlan::step(BoundRule& bound, const Options& live_options, double learning_rate,
                     const py::object& gradients, const py::object& on_missing,
                     std::uintptr_t stream, std::optional<std::uintptr_t> producer,
                     std::optional<LossScale*> optional_scale) {
  LossScale* const loss_scale = optional_scale.value_or(nullptr);
  producer_ = stream_of(producer.value_or(stream));
  // By value: another thread may set something while this one steps.
  AnyRule rule = bound.rule;
  const Options options = live_options;
  const std::int64_t iteration = bound.calls;
  std::optional<LossScale> scale = copied(loss_scale);
  LossScale* const moved = scale ? &*scale : nullptr;
  const Stream on = stream_of(stream);
  StepReport report;
  const auto again = [&] {
    report = plan_.step_again(rule, options, learning_rate, iteration, on, producer_, moved);
  };
  const bool are_held = are_bound_ && plan_.holds_gradients();
  if (are_held && gradients_.are_last(gradients)) {
    again();
  } else if (are_held && keeps_lock_ && gradients_.lie_like_last(gradients)) {
    check_variables();
    again();
  } else {
    py::list held = held_list(gradients);
    if (are_held && gradients_.lie_like_last(held)) {
      run(std::move(held), again);
    } else {
      with_views(std::move(held), on_missing, [&](const std::vector<TensorView>& views) {
        report = plan_.step(rule, options, learning_rate, iteration, views, on, moved);
      });
    }
  }
  take_scale(loss_scale, scale);
  if (report.skipped) return;
  bound.take_state(rule, iteration + 1);
}

void BoundPlan::bind_step(const py::object& rule, const py::object& options,
                          const py::object& lock) {
  bound_rule_ = rule.cast<BoundRule*>();
  bound_options_ = options.cast<const Options*>();
  rule_ = rule;
  options_ = options;
  acquire_ = lock.attr("acquire");
  release_ = lock.attr("release");
}

bool BoundPlan::step_bound(const py::object& gradients, double learning_rate,
                           const py::object& on_missing) {
  if (!acquire_) return false;
  call(acquire_);
  const bool is_made = !is_suspended_;
  // Neither a guard nor `...`: see `without_lock`. That unwinding is no `std::exception`.
  try {
    if (is_made) {
      step(*bound_rule_, *bound_options_, learning_rate, gradients, on_missing, 0, {}, {});
    }
  } catch (const std::exception&) {
    call(release_);
    throw;
  }
  call(release_);
  return is_made;
}

double BoundPlan::time_steps(const BoundRule& bound, const Options& options, double learning_rate,
                             const py::object& gradients, int repeats) {
  AnyRule rule = bound.rule;
  return seconds_each(gradients, repeats, [&](const std::vector<TensorView>& views, int i) {
    plan_.step(rule, options, learning_rate, bound.calls + i, views);
  });
}

double BoundPlan::time_streams(const Options& options, const py::object& gradients, int repeats) {
  return seconds_each(gradients, repeats, [&](const std::vector<TensorView>& views, int) {
    plan_.stream(options, views);
  });
}

double BoundPlan::time_divisions(const BoundRule& bound, int repeats) {
  const AnyRule rule = bound.rule;
  const py::gil_scoped_release release;
  return python::seconds_each(repeats, [&](int) { plan_.divide(rule); });
}

void BoundPlan::overwrite_with_averages(const std::vector<std::size_t>& indices,
                                        std::uintptr_t stream) {
  check_variables();
  const py::gil_scoped_release release;
  plan_.overwrite_with_averages(indices, stream_of(stream));
}

std::optional<int> BoundPlan::device() const {
  return is_on_gpu() ? std::optional(plan_.device().index) : std::nullopt;
}

void BoundPlan::prepare(const BoundRule& bound, const LossScale* loss_scale) {
  const py::gil_scoped_release release;
  plan_.prepare(bound.rule, bound.calls, loss_scale);
}

void BoundPlan::read_progress(BoundRule& bound, LossScale* loss_scale) {
  AnyRule rule = bound.rule;
  std::int64_t calls = bound.calls;
  std::optional<LossScale> scale = copied(loss_scale);
  {
    const py::gil_scoped_release release;
    plan_.read_progress(rule, calls, scale ? &*scale : nullptr);
  }
  take_scale(loss_scale, scale);
  bound.take_state(rule, calls);
}

void BoundPlan::set_learning_rate(double learning_rate, std::uintptr_t stream) {
  plan_.set_learning_rate(learning_rate, stream_of(stream));
}

void BoundPlan::set_learning_rates(std::int64_t begin, const std::vector<double>& rates,
                                   std::uintptr_t stream) {
  plan_.set_learning_rates(begin, rates, stream_of(stream));
}

std::uintptr_t BoundPlan::loss_scale_address(std::uintptr_t stream) {
  plan_.let_wait(stream_of(stream));
  return reinterpret_cast<std::uintptr_t>(plan_.loss_scale());
}

bool BoundPlan::is_capturing(std::uintptr_t stream) const {
  return is_on_gpu() && ravine::is_capturing(stream_of(stream));
}

void BoundPlan::let_wait(std::uintptr_t stream) { plan_.let_wait(stream_of(stream)); }

void BoundPlan::touch_state() {
  const py::gil_scoped_release release;
  plan_.touch_state();
}

void BoundPlan::guard(const py::object& array, const std::string& label) {
  ShapeStorage storage;
  plan_.guard(view_of(array, {"Array", state_.size(), label}, storage), label);
  state_.push_back(array);
}

void BoundPlan::set_multipliers(const std::vector<std::pair<double, double>>& pairs) {
  std::vector<Multipliers> multipliers;
  multipliers.reserve(pairs.size());
  for (const auto& [learning_rate, weight_decay] : pairs) {
    multipliers.push_back({learning_rate, weight_decay});
  }
  const py::gil_scoped_release release;
  plan_.set_multipliers(multipliers);
}

std::vector<bool> BoundPlan::received() const {
  std::vector<bool> result(names_.size());
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = plan_.received(i);
  return result;
}

void BoundPlan::set_received(const std::vector<bool>& received) {
  for (std::size_t i = 0; i < names_.size(); ++i) plan_.set_received(i, received.at(i));
}

void BoundPlan::check_variables() const {
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    if (!memory_[i].is_writable_in(variables_[i].ptr())) {
      throw ArgumentError(Which{"Variable", i, names_[i]}.text() +
                          " was resized or made read-only after build(). Make a new optimizer.");
    }
  }
}

py::list BoundPlan::held_list(const py::object& gradients) const {
  check_variables();
  auto held = py::reinterpret_steal<py::list>(PySequence_List(gradients.ptr()));
  if (!held) throw py::error_already_set();
  if (held.size() != names_.size()) {
    throw ArgumentError("Expected " + std::to_string(names_.size()) +
                        " gradients, one for each variable given to build(), with None for a "
                        "missing one. Received: " +
                        std::to_string(held.size()) + ".");
  }
  return held;
}

template <class Use>
void BoundPlan::with_views(py::list held, const py::object& on_missing, Use&& use) {
  const bool are_known = std::exchange(are_bound_, false);
  // Taken out of this object for the time of the call, which may run Python code on the way.
  std::vector<TensorView> views = std::move(views_);
  views.resize(names_.size());
  const std::size_t present = gradients_.fill(held, views, are_known, producer_);
  if (present > 0 && present < names_.size() && !on_missing.is_none()) on_missing(held);

  run(std::move(held), [&] { use(std::as_const(views)); });
  views_ = std::move(views);
  are_bound_ = true;
}

template <class Use>
void BoundPlan::run(py::list held, Use&& use) const {
  if (keeps_lock_) {
    use();
  } else {
    without_lock(std::move(held), use);
  }
}

template <class Repeated>
double BoundPlan::seconds_each(const py::object& gradients, int repeats, Repeated&& repeated) {
  double seconds = 0;
  with_views(held_list(gradients), py::none(), [&](const std::vector<TensorView>& views) {
    seconds = python::seconds_each(repeats, [&](int i) { repeated(views, i); });
  });
  return seconds;
}

}  // namespace ravine::python
