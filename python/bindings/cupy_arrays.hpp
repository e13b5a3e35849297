// CuPy's own arrays, by their attributes: a step asks them of every gradient that is new.
#pragma once

#include <pybind11/pybind11.h>

#include "arrays.hpp"
#include "ravine/tensor.hpp"

namespace ravine::python {

/// Whether an object is CuPy's own array, which shows the same memory for as long as it lives.
bool is_cupy_array(pybind11::handle object);

/// The view of such an array, as `view_of` gives it in several times as long. Shape and strides are
/// kept in `storage`.
TensorView view_of_cupy(pybind11::handle array, const Which& which, ShapeStorage& storage);

}  // namespace ravine::python
