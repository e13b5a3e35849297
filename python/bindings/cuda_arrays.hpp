// Arrays on a GPU, as Python's libraries show them: `__cuda_array_interface__`.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "arrays.hpp"
#include "ravine/tensor.hpp"

namespace ravine::python {

/// What `object` says of itself as an array on a GPU; no object if it is none.
pybind11::object cuda_interface(pybind11::handle object);

/// The view of an array on a GPU. Shape and strides are kept in `storage`.
///
/// Throws `TypeError` if its type is not supported, `UnavailableError` if the GPU cannot be used.
TensorView view_of_cuda(pybind11::handle object, pybind11::handle interface, const Which& which,
                        ShapeStorage& storage);

}  // namespace ravine::python
