// Tensors of PyTorch, by DLPack's interface in C: asked by their methods in Python, they take
// longer than the rest of a small step.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>

#include "arrays.hpp"
#include "ravine/tensor.hpp"

namespace ravine::python {

/// A type whose objects are tensors, and what makes arrays of those that cannot be viewed, and of
/// anything else.
class TensorType {
 public:
  TensorType() = default;
  /// `type` may lack the interface, as it does in older versions: then no tensor can be viewed.
  TensorType(pybind11::object type, pybind11::object array_of);

  bool are_taken() const { return static_cast<bool>(type_); }
  bool is_that_of(pybind11::handle object) const {
    return are_taken() &&
           PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type_.ptr()));
  }

  /// Points a view at a tensor on the CPU; false, and no error, if that cannot be. Nor is it done
  /// for types derived from this one, whose memory may be elsewhere.
  bool view(pybind11::handle tensor, TensorView& view, ShapeStorage& storage) const;

  /// Where tensors lie, and how, to be compared; nothing if one of them cannot be asked.
  std::optional<pybind11::bytes> layouts(const pybind11::list& tensors) const;

  /// An array that stands for an object, or the error that says what is wrong with it.
  pybind11::object array_of(pybind11::handle object) const { return array_of_(object); }

 private:
  pybind11::object type_, array_of_;
  int (*read_)(void* tensor, void* result) = nullptr;
};

}  // namespace ravine::python
