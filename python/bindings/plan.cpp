// Plan: the variables of one optimizer, bound once, and its step.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "bind.hpp"
#include "bound_plan.hpp"
#include "errors.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

/// `Plan.step_bound(gradients, learning_rate, on_missing)`. By hand: pybind11 takes a third of a
/// small step to find out what it is called with.
PyObject* step_bound(PyObject* plan, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 3) {
    PyErr_SetString(PyExc_TypeError, "step_bound(gradients, learning_rate, on_missing)");
    return nullptr;
  }
  const double learning_rate = PyFloat_AsDouble(arguments[1]);
  if (learning_rate == -1 && PyErr_Occurred() != nullptr) return nullptr;
  try {
    const auto object = [&](int i) { return py::reinterpret_borrow<py::object>(arguments[i]); };
    auto& bound = py::cast<BoundPlan&>(py::handle(plan));
    return PyBool_FromLong(bound.step_bound(object(0), learning_rate, object(2)) ? 1 : 0);
  } catch (const std::exception&) {  // not `...`: the end of a daemon thread goes on
    set_error(std::current_exception());
    return nullptr;
  }
}

void add_step_bound(const py::object& type) {
  // All methods are given as of one type; the flag says of which this one is.
  static PyMethodDef method{"step_bound",
                            reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&step_bound)),
                            METH_FASTCALL, nullptr};
  auto* const of = reinterpret_cast<PyTypeObject*>(type.ptr());
  const auto made = py::reinterpret_steal<py::object>(PyDescr_NewMethod(of, &method));
  if (!made) throw py::error_already_set();
  type.attr("step_bound") = made;
}

}  // namespace

void bind_plan(py::module_& module) {
  py::class_<BoundPlan> plan(module, "Plan");
  plan.def(py::init<std::vector<std::string>, const py::list&, const std::vector<py::list>&,
                    const std::optional<py::list>&, const std::optional<py::list>&>(),
           py::arg("names"), py::arg("variables"), py::arg("slots"), py::arg("averages"),
           py::arg("accumulators"))
      .def("step", &BoundPlan::step, py::arg("rule"), py::arg("options"), py::arg("learning_rate"),
           py::arg("gradients"), py::arg("on_missing"), py::arg("stream") = 0,
           py::arg("producer") = py::none(), py::arg("loss_scale") = py::none())
      .def("bind_step", &BoundPlan::bind_step, py::arg("rule"), py::arg("options"), py::arg("lock"))
      .def_property("suspended", &BoundPlan::is_suspended, &BoundPlan::set_suspended)
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
  add_step_bound(plan);
}

}  // namespace ravine::python
