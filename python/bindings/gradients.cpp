#include "gradients.hpp"

#include <pybind11/numpy.h>

#include "cuda_arrays.hpp"
#include "cupy_arrays.hpp"

namespace py = pybind11;

namespace ravine::python {

Gradients::Gradients(const std::vector<std::string>& names, bool on_gpu)
    : names_(names),
      on_gpu_(on_gpu),
      storage_(names.size()),
      known_(names.size()),
      layouts_(names.size()) {}

bool Gradients::lie_like_last(const py::object& gradients) const {
  if (on_gpu_ || !PyList_CheckExact(gradients.ptr())) return false;
  const auto size = static_cast<std::size_t>(PyList_GET_SIZE(gradients.ptr()));
  if (size != layouts_.size()) return false;
  for (std::size_t i = 0; i < size; ++i) {
    PyObject* const gradient = PyList_GET_ITEM(gradients.ptr(), static_cast<py::ssize_t>(i));
    if (!layouts_[i].is_that_of(gradient)) return false;
  }
  return true;
}

bool Gradients::are_last(const py::object& gradients) const {
  if (!on_gpu_ || !PyList_CheckExact(gradients.ptr())) return false;
  const auto size = static_cast<std::size_t>(PyList_GET_SIZE(gradients.ptr()));
  if (size != known_.size()) return false;
  for (std::size_t i = 0; i < size; ++i) {
#if defined(Py_GIL_DISABLED)  // another thread may change the list
    const auto gradient = py::reinterpret_steal<py::object>(
        PyList_GetItemRef(gradients.ptr(), static_cast<py::ssize_t>(i)));
    if (!gradient) throw py::error_already_set();
#else
    const py::handle gradient = PyList_GET_ITEM(gradients.ptr(), static_cast<py::ssize_t>(i));
#endif
    if (!known_[i].is(gradient)) return false;
  }
  return true;
}

std::size_t Gradients::fill(py::list& held, std::vector<TensorView>& views, bool are_known,
                            Stream producer) {
  std::size_t present = 0;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    py::handle gradient = PyList_GET_ITEM(held.ptr(), static_cast<py::ssize_t>(i));
    if (gradient.is_none()) {
      forget(i);
      views[i].present = false;
      continue;
    }
    if (are_known && layouts_[i].lies_like(gradient.ptr())) {
      layouts_[i].move_to(gradient.ptr(), views[i]);
      ++present;
      continue;
    }
    if (!py::isinstance<py::array>(gradient)) {
      if (tensors_.is_that_of(gradient)) {
        if (tensors_.view(gradient, views[i], storage_[i])) {
          forget(i);
          ++present;
          continue;
        }
        held[i] = tensors_.array_of(gradient);
      } else if (on_gpu_ && is_cupy_array(gradient)) {
        if (!known_[i].is(gradient)) {
          known_[i].forget();
          known_[i].view = view_of_cupy(gradient, {"Gradient", i, names_[i]}, storage_[i]);
          known_[i].remember(gradient);
        }
        views[i] = known_[i].view;
        views[i].producer = producer;
        ++present;
        continue;
      } else if (is_scalar(gradient)) {
        held[i] = py::array::ensure(gradient);
      } else if (on_gpu_ && !cuda_interface(gradient) && py::hasattr(gradient, "__dlpack__")) {
        held[i] = py::module_::import("ravine._arrays").attr("from_dlpack")(gradient);
      } else if (tensors_.are_taken()) {
        held[i] = tensors_.array_of(gradient);
      }
      gradient = PyList_GET_ITEM(held.ptr(), static_cast<py::ssize_t>(i));
    }
    forget(i);
    views[i] = view_of(gradient, {"Gradient", i, names_[i]}, storage_[i]);
    if (!on_gpu_) layouts_[i].remember(gradient);
    ++present;
  }
  return present;
}

void Gradients::forget(std::size_t index) {
  known_[index].forget();
  layouts_[index].forget();
}

}  // namespace ravine::python
