// From Python's arrays to TensorView: the only place that knows how an array looks in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ravine/tensor.hpp"

namespace ravine::python {

/// Which array a message is about. The text is made only for a message.
struct Which {
  const char* role;  ///< "Gradient", "variable", ...
  std::size_t index;
  const std::string& name;  ///< may be empty

  std::string text() const;
};

/// Shape and strides, in bytes, of an array that does not keep them itself.
struct ShapeStorage {
  std::vector<std::int64_t> shape, strides;

  /// An array without axes has pointers too: none would mean one axis.
  void show_in(TensorView& view) {
    shape.reserve(1);
    strides.reserve(1);
    view.shape = shape.data();
    view.strides_bytes = strides.data();
  }
};

/// The view of an array of NumPy or on a GPU. It points into `object` and `storage`, which must
/// outlive it.
///
/// Throws `TypeError` if `object` is no array of a supported type, `UnavailableError` if it lies on
/// a GPU that cannot be used.
TensorView view_of(pybind11::handle object, const Which& which, ShapeStorage& storage);

/// The type that a dtype of NumPy stands for; none if it is not supported.
std::optional<DType> known_dtype(pybind11::handle dtype);

/// Whether `object` is a scalar, a float of Python or any of NumPy's: what arithmetic on arrays
/// without axes gives.
bool is_scalar(pybind11::handle object);

/// Finds what is needed of NumPy. To be called once, when the extension is imported.
void prepare_arrays();

}  // namespace ravine::python
