#include "bindings.hpp"

#include <cstdint>

#include "emulator.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

Stream stream_of(std::uintptr_t handle) { return reinterpret_cast<Stream>(handle); }

const void* pointer_to(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

void bind_streams(py::module_& module) {
  // What runs kernels or waits for others that do leaves Python to other threads meanwhile.
  const py::call_guard<py::gil_scoped_release> unlocked;
  module.def("create_stream",
             [] { return reinterpret_cast<std::uintptr_t>(emulator::create_stream()); });
  module.def(
      "synchronize", [](std::uintptr_t stream) { emulator::synchronize(stream_of(stream)); },
      py::arg("stream"), unlocked);
  module.def("synchronize_all", &emulator::synchronize_all, unlocked);
  module.def("outstanding", &emulator::outstanding, unlocked,
             "How many kernels are on streams and have not run.");

  py::class_<emulator::Event>(module, "Event")
      .def(py::init<>())
      .def(
          "record",
          [](emulator::Event& self, std::uintptr_t stream) { self.record(stream_of(stream)); },
          py::arg("stream"), unlocked)
      .def(
          "let_wait",
          [](emulator::Event& self, std::uintptr_t stream) { self.let_wait(stream_of(stream)); },
          py::arg("stream"), unlocked);

  py::class_<emulator::Graph>(module, "Graph")
      .def(
          "launch",
          [](const emulator::Graph& self, std::uintptr_t stream) {
            self.launch(stream_of(stream));
          },
          py::arg("stream"), unlocked);
  module.def(
      "begin_capture", [](std::uintptr_t stream) { emulator::begin_capture(stream_of(stream)); },
      py::arg("stream"), unlocked);
  module.def(
      "end_capture", [](std::uintptr_t stream) { return emulator::end_capture(stream_of(stream)); },
      py::arg("stream"), unlocked);
}

void bind_devices(py::module_& module) {
  module.attr("NO_DEVICE") = emulator::no_device;
  module.def("current_device", &emulator::current_device);
  module.def("set_device", &emulator::set_device, py::arg("index"));
  module.def(
      "register_memory",
      [](std::uintptr_t address, std::size_t nbytes, int device) {
        emulator::register_memory(pointer_to(address), nbytes, device);
      },
      py::arg("address"), py::arg("nbytes"), py::arg("device"),
      "Lets memory belong to a device, or with NO_DEVICE to none.");
  module.def(
      "unregister_memory",
      [](std::uintptr_t address) { emulator::unregister_memory(pointer_to(address)); },
      py::arg("address"));
  module.def("fail_allocation_after", &emulator::fail_allocation_after, py::arg("count"),
             "Lets the `count`-th allocation from now on fail.");
  module.def("set_driver", &emulator::set_driver, py::arg("present"));
}

}  // namespace

void bind_emulator(py::module_& module) {
  py::module_ submodule = module.def_submodule("emulator", "A CUDA device on the CPU, for tests.");
  py::register_exception<emulator::Fault>(submodule, "Fault", PyExc_RuntimeError);
  submodule.def("set_schedule", &emulator::set_schedule, py::arg("seed"),
                "In which order threads, blocks and streams get their turn.");
  submodule.def("reset", &emulator::reset, "Forgets all that was set and has not run.");
  bind_streams(submodule);
  bind_devices(submodule);
}

}  // namespace ravine::python
