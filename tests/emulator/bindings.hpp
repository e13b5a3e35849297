// The emulator in Python, for a `_core` that is built for tests.
#pragma once

#include <pybind11/pybind11.h>

namespace ravine::python {

/// Adds `emulator`. Streams are integers, as CuPy's `ptr`.
void bind_emulator(pybind11::module_& module);

}  // namespace ravine::python
