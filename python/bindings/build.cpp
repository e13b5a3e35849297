// How the extension was built, and what it finds of the machine.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <string>

#include "bind.hpp"
#include "build_config.hpp"
#include "ravine/threads.hpp"

namespace py = pybind11;

namespace ravine::python {

void bind_build(py::module_& module) {
  module.def(
      "build_info",
      [] {
        return std::map<std::string, std::string>{{"compiler", RAVINE_COMPILER},
                                                  {"build_type", RAVINE_BUILD_TYPE},
                                                  {"flags", RAVINE_FLAGS},
                                                  {"cuda", RAVINE_CUDA_COMPILER},
                                                  {"cuda_architectures", RAVINE_CUDA_ARCHITECTURES},
                                                  {"xla_ffi", RAVINE_XLA_FFI}};
      },
      "How this module was compiled. What is empty is not in it.");
  module.def("instruction_sets", &instruction_sets,
             "The instruction sets that this machine and this build have, the widest first.");
  module.def(
      "thread_limits",
      [] {
        const ThreadLimits limits = thread_limits();
        return std::map<std::string, std::optional<int>>{
            {"cpus", limits.cpus},
            {"quota", limits.quota},
            {"RAVINE_NUM_THREADS", limits.ravine_num_threads},
            {"OMP_NUM_THREADS", limits.omp_num_threads}};
      },
      "What may bound the number of threads; None where it does not.");
}

}  // namespace ravine::python
