// Plan: the variables of one optimizer, bound once, and its step without the interpreter's lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "bind.hpp"
#include "ravine/error.hpp"
#include "ravine/plan.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

class BoundPlan {
 public:
  BoundPlan(std::vector<std::string> names, const py::list& variables,
            const std::vector<py::list>& slots, const std::optional<py::list>& averages,
            const std::optional<py::list>& accumulators)
      : names_(std::move(names)),
        arrays_(py::make_tuple(variables, slots, averages, accumulators)),
        gradients_(names_.size()),
        plan_(describe(variables, slots, averages, accumulators)) {}

  std::int64_t step(BoundRule& rule, const Options& options, double learning_rate,
                    std::int64_t iteration, const py::object& gradients) {
    return with_gradients(gradients, [&] {
      return plan_.step(rule.rule, options, learning_rate, iteration, gradients_).gradients;
    });
  }

  /// Seconds of one of `repeats` steps, without Python in between.
  double time_steps(BoundRule& rule, const Options& options, double learning_rate,
                    std::int64_t iteration, const py::object& gradients, int repeats) {
    return with_gradients(gradients, [&] {
      return seconds_each(repeats, [&](int i) {
        plan_.step(rule.rule, options, learning_rate, iteration + i, gradients_);
      });
    });
  }

  /// Seconds of one of `repeats` streams over the same arrays.
  double time_streams(const Options& options, const py::object& gradients, int repeats) {
    return with_gradients(gradients, [&] {
      return seconds_each(repeats, [&](int) { plan_.stream(options, gradients_); });
    });
  }

  void overwrite_with_averages() {
    const py::gil_scoped_release release;
    plan_.overwrite_with_averages();
  }

  void set_decays(std::size_t index, bool decays) { plan_.set_decays(index, decays); }

  std::vector<bool> received() const {
    std::vector<bool> result(names_.size());
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = plan_.received(i);
    return result;
  }

  void set_received(const std::vector<bool>& received) {
    for (std::size_t i = 0; i < names_.size(); ++i) plan_.set_received(i, received.at(i));
  }

 private:
  /// Calls `use` with the gradients in place and the interpreter's lock released.
  template <class Use>
  std::invoke_result_t<Use&> with_gradients(const py::object& gradients, Use&& use) {
    // Waiting with the interpreter's lock could wait for ever: the thread that steps may want it.
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) {
      const py::gil_scoped_release release;
      lock.lock();
    }
    // A tuple of our own: another thread may change a list while the lock is released.
    const auto held = py::reinterpret_steal<py::tuple>(PySequence_Tuple(gradients.ptr()));
    if (!held) throw py::error_already_set();
    if (held.size() != names_.size()) {
      throw ArgumentError("Expected " + std::to_string(names_.size()) +
                          " gradients, one for each variable given to build(), with None for a "
                          "missing one. Received: " +
                          std::to_string(held.size()) + ".");
    }
    std::vector<py::object> converted;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      py::handle gradient = PyTuple_GET_ITEM(held.ptr(), static_cast<py::ssize_t>(i));
      if (gradient.is_none()) {
        gradients_[i].present = false;
        continue;
      }
      if (!py::isinstance<py::array>(gradient) && is_scalar(gradient)) {
        gradient = converted.emplace_back(py::array::ensure(gradient));
      }
      gradients_[i] = view_of(gradient, {"Gradient", i, names_[i]});
    }
    const py::gil_scoped_release release;
    return use();
  }

  template <class Repeated>
  static double seconds_each(int repeats, Repeated&& repeated) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) repeated(i);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
           repeats;
  }

  std::vector<Variable> describe(const py::list& variables, const std::vector<py::list>& slots,
                                 const std::optional<py::list>& averages,
                                 const std::optional<py::list>& accumulators) const {
    std::vector<Variable> result;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      Variable variable{names_[i], view_of(variables[i], {"Variable", i, names_[i]}), {}, {}, {}};
      for (const py::list& slot : slots) {
        variable.slots.push_back(view_of(slot[i], {"Slot of variable", i, names_[i]}));
      }
      if (averages) variable.average = view_of((*averages)[i], {"Average", i, names_[i]});
      if (accumulators) {
        variable.accumulator = view_of((*accumulators)[i], {"Accumulator", i, names_[i]});
      }
      result.push_back(std::move(variable));
    }
    return result;
  }

  std::mutex mutex_;  ///< of `gradients_`: two threads may step one optimizer
  std::vector<std::string> names_;
  py::tuple arrays_;  ///< kept alive
  std::vector<TensorView> gradients_;
  Plan plan_;
};

}  // namespace

void bind_plan(py::module_& module) {
  py::class_<BoundPlan>(module, "Plan")
      .def(py::init<std::vector<std::string>, const py::list&, const std::vector<py::list>&,
                    const std::optional<py::list>&, const std::optional<py::list>&>(),
           py::arg("names"), py::arg("variables"), py::arg("slots"), py::arg("averages"),
           py::arg("accumulators"))
      .def("step", &BoundPlan::step, py::arg("rule"), py::arg("options"), py::arg("learning_rate"),
           py::arg("iteration"), py::arg("gradients"))
      .def("time_steps", &BoundPlan::time_steps, py::arg("rule"), py::arg("options"),
           py::arg("learning_rate"), py::arg("iteration"), py::arg("gradients"), py::arg("repeats"))
      .def("time_streams", &BoundPlan::time_streams, py::arg("options"), py::arg("gradients"),
           py::arg("repeats"))
      .def("overwrite_with_averages", &BoundPlan::overwrite_with_averages)
      .def("set_decays", &BoundPlan::set_decays, py::arg("index"), py::arg("decays"))
      .def_property("received", &BoundPlan::received, &BoundPlan::set_received);
}

}  // namespace ravine::python
