// The extension module `ravine._core`.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <map>
#include <string>

#include "arrays.hpp"
#include "bind.hpp"
#include "errors.hpp"
#include "ravine/cuda.hpp"
#include "ravine/threads.hpp"
#include "ravine/version.hpp"

#if defined(RAVINE_EMULATOR)
#include "tests/emulator/bindings.hpp"
#endif

namespace py = pybind11;

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  module.doc() = "The native part of ravine: rules, options, and plans over arrays.";
  module.attr("__version__") = RAVINE_VERSION;

  py::register_exception_translator(ravine::python::set_library_error);
  ravine::python::prepare_arrays();
  ravine::python::bind_rules(module);
  ravine::python::bind_tensor_type(module);
  ravine::python::bind_plan(module);
  ravine::python::bind_build(module);
#if defined(RAVINE_JAX)
  ravine::python::bind_jax(module);
#else
  module.attr("jax_handlers") = py::dict();
#endif
#if defined(RAVINE_EMULATOR)
  ravine::python::bind_emulator(module);
#endif

  module.def("num_threads", &ravine::num_threads, "How many threads a step may use.");
  module.def("set_num_threads", &ravine::set_num_threads, py::arg("count"),
             "Sets how many threads a step may use.");
  module.def("has_cuda", &ravine::has_cuda, "Whether this build has a CUDA backend.");
  module.def(
      "cuda_counts",
      [] {
        const ravine::CudaCounts counts = ravine::cuda_counts();
        return std::map<std::string, std::int64_t>{{"launches", counts.launches},
                                                   {"synchronizations", counts.synchronizations},
                                                   {"allocations", counts.allocations}};
      },
      "What this process has asked of the CUDA runtime so far.");
  module.def("instruction_set", &ravine::instruction_set,
             "The instruction set in use: \"v2\", \"v3\", \"v4\" or \"baseline\".");
}
