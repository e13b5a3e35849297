// The extension module `ravine._core`.
#include <pybind11/pybind11.h>

#include <exception>

#include "arrays.hpp"
#include "bind.hpp"
#include "ravine/error.hpp"
#include "ravine/threads.hpp"
#include "ravine/version.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_core, module) {
  module.doc() = "The native part of ravine: rules, options, and plans over NumPy arrays.";
  module.attr("__version__") = RAVINE_VERSION;

  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const ravine::TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const ravine::ArgumentError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const ravine::Error& e) {
      PyErr_SetString(PyExc_RuntimeError, e.what());
    }
  });

  ravine::python::prepare_arrays();
  ravine::python::bind_rules(module);
  ravine::python::bind_plan(module);

  module.def("num_threads", &ravine::num_threads, "How many threads a step may use.");
  module.def("set_num_threads", &ravine::set_num_threads, py::arg("count"),
             "Sets how many threads a step may use.");
  module.def("instruction_set", &ravine::instruction_set,
             "The instruction set in use: \"v2\", \"v3\", \"v4\" or \"baseline\".");
}
