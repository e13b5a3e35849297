// From Python's arrays to TensorView: the only place that knows how an array looks in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "ravine/tensor.hpp"

namespace ravine::python {

/// Which array a message is about. The text is made only for a message.
struct Which {
  const char* role;  ///< "Gradient", "variable", ...
  std::size_t index;
  const std::string& name;  ///< may be empty

  std::string text() const;
};

/// The view of a NumPy array. It points into `object`, which must outlive it.
///
/// Throws `TypeError` if `object` is no array of a supported type, `UnavailableError` if it lies on
/// a GPU.
TensorView view_of(pybind11::handle object, const Which& which);

/// Whether `object` is a scalar, a float of Python or any of NumPy's: what arithmetic on arrays
/// without axes gives.
bool is_scalar(pybind11::handle object);

/// Finds what is needed of NumPy. To be called once, when the extension is imported.
void prepare_arrays();

}  // namespace ravine::python
