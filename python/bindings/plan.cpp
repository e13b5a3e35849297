// Plan: the variables of one optimizer, bound once, and its step without the interpreter's lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "arrays.hpp"
#include "bind.hpp"
#include "gradients.hpp"
#include "known.hpp"
#include "plan_over.hpp"
#include "ravine/cuda.hpp"
#include "ravine/error.hpp"
#include "ravine/plan.hpp"
#include "tensor_type.hpp"
#include "timing.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

std::optional<LossScale> copied(const LossScale* scale) {
  return scale == nullptr ? std::nullopt : std::optional(*scale);
}

void take_scale(LossScale* scale, const std::optional<LossScale>& other) {
  const SettingsLock lock;
  if (other) *scale = *other;
}

class BoundPlan {
 public:
  BoundPlan(std::vector<std::string> names, const py::list& variables,
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
  }

  /// One call of `apply`. `on_missing` is called, if it is not None, with the gradients when some
  /// are missing, before anything is written. Counts the step, so that no interrupt can come
  /// between. On a GPU the step is put on `stream`, and waits for `producer`, the stream on which
  /// CuPy's arrays are made. With a loss scale, a step that is left out is not counted. That is
  /// optional: of a plain pointer pybind11 asks None whether it comes from another module, which
  /// takes longer than all else of a small step.
  void step(BoundRule& bound, const Options& live_options, double learning_rate,
            const py::object& gradients, const py::object& on_missing, std::uintptr_t stream,
            std::optional<std::uintptr_t> producer, std::optional<LossScale*> optional_scale) {
    LossScale* const loss_scale = optional_scale.value_or(nullptr);
    producer_ = reinterpret_cast<Stream>(producer.value_or(stream));
    // By value: another thread may set something while this one steps.
    AnyRule rule = bound.rule;
    const Options options = live_options;
    const std::int64_t iteration = bound.calls;
    std::optional<LossScale> scale = copied(loss_scale);
    LossScale* const moved = scale ? &*scale : nullptr;
    const auto on = reinterpret_cast<Stream>(stream);
    StepReport report;
    const auto again = [&] {
      report = plan_.step_again(rule, options, learning_rate, iteration, on, producer_, moved);
    };
    const bool are_held = are_bound_ && plan_.holds_gradients();
    if (are_held && gradients_.are_last(gradients)) {
      again();
    } else {
      const py::list held = held_list(gradients);
      if (are_held && gradients_.lie_like_last(held)) {
        without_lock(held, again);
      } else {
        with_views(held, on_missing, [&](const std::vector<TensorView>& views) {
          report = plan_.step(rule, options, learning_rate, iteration, views, on, moved);
        });
      }
    }
    take_scale(loss_scale, scale);
    if (report.skipped) return;
    bound.take_state(rule, iteration + 1);
  }

  /// Seconds of one of `repeats` steps, without Python in between. They are not counted.
  double time_steps(const BoundRule& bound, const Options& options, double learning_rate,
                    const py::object& gradients, int repeats) {
    AnyRule rule = bound.rule;
    return seconds_each(gradients, repeats, [&](const std::vector<TensorView>& views, int i) {
      plan_.step(rule, options, learning_rate, bound.calls + i, views);
    });
  }

  /// Seconds of one of `repeats` streams over the same arrays.
  double time_streams(const Options& options, const py::object& gradients, int repeats) {
    return seconds_each(gradients, repeats, [&](const std::vector<TensorView>& views, int) {
      plan_.stream(options, views);
    });
  }

  /// Seconds of one of `repeats` rounds of the divisions and roots of a step.
  double time_divisions(const BoundRule& bound, int repeats) {
    const AnyRule rule = bound.rule;
    const py::gil_scoped_release release;
    return python::seconds_each(repeats, [&](int) { plan_.divide(rule); });
  }

  void overwrite_with_averages(const std::vector<std::size_t>& indices, std::uintptr_t stream) {
    check_variables();
    const py::gil_scoped_release release;
    plan_.overwrite_with_averages(indices, reinterpret_cast<Stream>(stream));
  }

  /// The index of the GPU; nothing for the CPU.
  std::optional<int> device() const {
    return is_on_gpu() ? std::optional(plan_.device().index) : std::nullopt;
  }

  void prepare(const BoundRule& bound, const LossScale* loss_scale) {
    const py::gil_scoped_release release;
    plan_.prepare(bound.rule, bound.calls, loss_scale);
  }
  bool counts_on_device() const { return plan_.counts_on_device(); }
  void read_progress(BoundRule& bound, LossScale* loss_scale) {
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
  void set_learning_rate(double learning_rate, std::uintptr_t stream) {
    plan_.set_learning_rate(learning_rate, reinterpret_cast<Stream>(stream));
  }
  void set_learning_rates(std::int64_t begin, const std::vector<double>& rates,
                          std::uintptr_t stream) {
    plan_.set_learning_rates(begin, rates, reinterpret_cast<Stream>(stream));
  }
  /// Where the loss scale is on the GPU, for what is put on the stream to read.
  std::uintptr_t loss_scale_address(std::uintptr_t stream) {
    plan_.let_wait(reinterpret_cast<Stream>(stream));
    return reinterpret_cast<std::uintptr_t>(plan_.loss_scale());
  }
  bool is_capturing(std::uintptr_t stream) const {
    return is_on_gpu() && ravine::is_capturing(reinterpret_cast<Stream>(stream));
  }

  /// Lets what is put on the stream wait for the last step.
  void let_wait(std::uintptr_t stream) { plan_.let_wait(reinterpret_cast<Stream>(stream)); }

  void touch_state() {
    const py::gil_scoped_release release;
    plan_.touch_state();
  }
  /// The array is kept alive.
  void guard(const py::object& array, const std::string& label) {
    ShapeStorage storage;
    plan_.guard(view_of(array, {"Array", state_.size(), label}, storage), label);
    state_.push_back(array);
  }
  void take_tensors(const TensorType& type) { gradients_.take_tensors(type); }
  void set_decays(std::size_t index, bool decays) { plan_.set_decays(index, decays); }

  /// Pairs of learning rate and weight decay.
  void set_multipliers(const std::vector<std::pair<double, double>>& pairs) {
    std::vector<Multipliers> multipliers;
    multipliers.reserve(pairs.size());
    for (const auto& [learning_rate, weight_decay] : pairs) {
      multipliers.push_back({learning_rate, weight_decay});
    }
    const py::gil_scoped_release release;
    plan_.set_multipliers(multipliers);
  }

  std::vector<bool> received() const {
    std::vector<bool> result(names_.size());
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = plan_.received(i);
    return result;
  }

  void set_received(const std::vector<bool>& received) {
    for (std::size_t i = 0; i < names_.size(); ++i) plan_.set_received(i, received.at(i));
  }

  /// NumPy lets an array be resized or made read-only behind our back.
  void check_variables() const {
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (!memory_[i].is_writable_in(variables_[i].ptr())) {
        throw ArgumentError(Which{"Variable", i, names_[i]}.text() +
                            " was resized or made read-only after build(). Make a new optimizer.");
      }
    }
  }

 private:
  /// A list of our own: another thread may change the caller's while the lock is released.
  py::list held_list(const py::object& gradients) const {
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

  /// Calls `use` with views of the gradients and the interpreter's lock released.
  template <class Use>
  void with_views(py::list held, const py::object& on_missing, Use&& use) {
    const bool are_known = std::exchange(are_bound_, false);
    // Taken out of this object for the time of the call, which may run Python code on the way.
    std::vector<TensorView> views = std::move(views_);
    views.resize(names_.size());
    const std::size_t present = gradients_.fill(held, views, are_known, producer_);
    if (present > 0 && present < names_.size() && !on_missing.is_none()) on_missing(held);

    without_lock(std::move(held), [&] { use(std::as_const(views)); });
    views_ = std::move(views);
    are_bound_ = true;
  }

  /// Calls `use` with the interpreter's lock released. No guard does that: at the end of the
  /// interpreter, taking it back ends a daemon thread by unwinding, which no destructor may do.
  template <class Use>
  static void without_lock(py::list held, Use&& use) {
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

  template <class Repeated>
  double seconds_each(const py::object& gradients, int repeats, Repeated&& repeated) {
    double seconds = 0;
    with_views(held_list(gradients), py::none(), [&](const std::vector<TensorView>& views) {
      seconds = python::seconds_each(repeats, [&](int i) { repeated(views, i); });
    });
    return seconds;
  }

  bool is_on_gpu() const { return plan_.device().type == DeviceType::cuda; }

  std::vector<std::string> names_;
  std::vector<py::object> variables_, state_;  ///< kept alive
  std::vector<KnownMemory> memory_;            ///< of the variables, when they were bound
  std::vector<TensorView> views_;              ///< kept for its storage: a step allocates nothing
  bool are_bound_ = false;                     ///< what is known is what the plan holds
  Stream producer_ = nullptr;
  Plan plan_;
  Gradients gradients_;
};

}  // namespace

void bind_plan(py::module_& module) {
  py::class_<BoundPlan>(module, "Plan")
      .def(py::init<std::vector<std::string>, const py::list&, const std::vector<py::list>&,
                    const std::optional<py::list>&, const std::optional<py::list>&>(),
           py::arg("names"), py::arg("variables"), py::arg("slots"), py::arg("averages"),
           py::arg("accumulators"))
      .def("step", &BoundPlan::step, py::arg("rule"), py::arg("options"), py::arg("learning_rate"),
           py::arg("gradients"), py::arg("on_missing"), py::arg("stream") = 0,
           py::arg("producer") = py::none(), py::arg("loss_scale") = py::none())
      .def("time_steps", &BoundPlan::time_steps, py::arg("rule"), py::arg("options"),
           py::arg("learning_rate"), py::arg("gradients"), py::arg("repeats"))
      .def("time_divisions", &BoundPlan::time_divisions, py::arg("rule"), py::arg("repeats"))
      .def("time_streams", &BoundPlan::time_streams, py::arg("options"), py::arg("gradients"),
           py::arg("repeats"))
      .def("overwrite_with_averages", &BoundPlan::overwrite_with_averages, py::arg("indices"),
           py::arg("stream") = 0)
      .def_property_readonly("device", &BoundPlan::device)
      .def("prepare", &BoundPlan::prepare, py::arg("rule"), py::arg("loss_scale") = nullptr)
      .def_property_readonly("counts_on_device", &BoundPlan::counts_on_device)
      .def("read_progress", &BoundPlan::read_progress, py::arg("rule"),
           py::arg("loss_scale") = nullptr)
      .def("write_progress", &BoundPlan::prepare, py::arg("rule"), py::arg("loss_scale") = nullptr)
      .def("set_learning_rate", &BoundPlan::set_learning_rate, py::arg("learning_rate"),
           py::arg("stream") = 0)
      .def("set_learning_rates", &BoundPlan::set_learning_rates, py::arg("begin"), py::arg("rates"),
           py::arg("stream") = 0)
      .def("loss_scale_address", &BoundPlan::loss_scale_address, py::arg("stream"))
      .def("is_capturing", &BoundPlan::is_capturing, py::arg("stream"))
      .def("let_wait", &BoundPlan::let_wait, py::arg("stream"))
      .def("check_variables", &BoundPlan::check_variables)
      .def("touch_state", &BoundPlan::touch_state)
      .def("guard", &BoundPlan::guard, py::arg("array"), py::arg("label"))
      .def("take_tensors", &BoundPlan::take_tensors, py::arg("type"))
      .def("set_decays", &BoundPlan::set_decays, py::arg("index"), py::arg("decays"))
      .def("set_multipliers", &BoundPlan::set_multipliers, py::arg("multipliers"))
      .def_property("received", &BoundPlan::received, &BoundPlan::set_received);
}

}  // namespace ravine::python
