// Arrays as they were before, to know them again: asking one what it is costs more than the rest of
// a small step.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "ravine/tensor.hpp"

namespace ravine::python {

/// The memory of a variable of NumPy, which can be taken from it, made smaller or read-only.
class KnownMemory {
 public:
  explicit KnownMemory(PyObject* variable)
      : data_(pybind11::detail::array_proxy(variable)->data), size_(size_of(variable)) {}

  bool is_writable_in(PyObject* variable) const {
    const auto* const array = pybind11::detail::array_proxy(variable);
    return array->data == data_ && size_of(variable) == size_ &&
           (array->flags & pybind11::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0;
  }

 private:
  static pybind11::ssize_t size_of(PyObject* variable) {
    const auto* const array = pybind11::detail::array_proxy(variable);
    return std::accumulate(array->dimensions, array->dimensions + array->nd, pybind11::ssize_t{1},
                           std::multiplies<>());
  }

  const void* data_;
  pybind11::ssize_t size_;
};

/// A gradient on a GPU, by its identity.
class KnownArray {
 public:
  bool is(pybind11::handle gradient) const {
    if (!weak_ || gradient.is_none()) return false;  // a weak reference to nothing leads to None
#if defined(Py_GIL_DISABLED)
    PyObject* known = nullptr;
    PyWeakref_GetRef(weak_.ptr(), &known);
    Py_XDECREF(known);
    return known == gradient.ptr();
#else
    // The caller holds the object, so that it need not be looked at to see whether it lives.
    return reinterpret_cast<const PyWeakReference*>(weak_.ptr())->wr_object == gradient.ptr();
#endif
  }
  void remember(pybind11::handle gradient) { weak_ = pybind11::weakref(gradient); }
  void forget() { weak_ = pybind11::object(); }

  TensorView view;

 private:
  pybind11::object weak_;
};

/// A gradient of NumPy, by where it is and how it lies there: that may change under the same
/// object, and is all that matters of another.
class KnownLayout {
 public:
  bool is_that_of(PyObject* gradient) const {
    return lies_like(gradient) && pybind11::detail::array_proxy(gradient)->data == data_;
  }
  /// Whether at most the place is another.
  bool lies_like(PyObject* gradient) const {
    if (!dtype_ || Py_TYPE(gradient) != type_) return false;
    const auto* const array = pybind11::detail::array_proxy(gradient);
    return array->descr == dtype_.ptr() &&
           2 * static_cast<std::size_t>(array->nd) == lengths_.size() &&
           std::equal(array->dimensions, array->dimensions + array->nd, lengths_.begin()) &&
           std::equal(array->strides, array->strides + array->nd, lengths_.begin() + array->nd);
  }
  /// Points a view of the gradient that was remembered at one that lies like it.
  void move_to(PyObject* gradient, TensorView& view) {
    const auto* const array = pybind11::detail::array_proxy(gradient);
    data_ = view.data = array->data;
    if (array->nd == 0) return;
    view.shape = reinterpret_cast<const std::int64_t*>(array->dimensions);
    view.strides_bytes = reinterpret_cast<const std::int64_t*>(array->strides);
  }
  /// Nothing, if it is no array of NumPy.
  void remember(pybind11::handle gradient) {
    if (!pybind11::isinstance<pybind11::array>(gradient)) return;
    const auto* const array = pybind11::detail::array_proxy(gradient.ptr());
    type_ = Py_TYPE(gradient.ptr());
    data_ = array->data;
    lengths_.assign(array->dimensions, array->dimensions + array->nd);
    lengths_.insert(lengths_.end(), array->strides, array->strides + array->nd);
    if (dtype_.ptr() != array->descr) {
      dtype_ = pybind11::reinterpret_borrow<pybind11::object>(array->descr);
    }
  }
  void forget() { dtype_ = pybind11::object(); }

 private:
  const PyTypeObject* type_ = nullptr;
  const void* data_ = nullptr;
  pybind11::object dtype_;                  ///< none: nothing is known
  std::vector<pybind11::ssize_t> lengths_;  ///< the shape, then the strides
};

}  // namespace ravine::python
