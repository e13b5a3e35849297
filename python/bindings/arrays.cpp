#include "arrays.hpp"

#include <pybind11/numpy.h>

#include <atomic>
#include <cstdint>
#include <optional>

#include "cuda_arrays.hpp"
#include "ravine/error.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

PyObject* found(const char* module, const char* name) {
  return py::module_::import(module).attr(name).cast<py::object>().release().ptr();
}

/// What is needed of NumPy, found once, when the extension is imported. NumPy has one object for
/// each of its own dtypes, so that most arrays are told by a comparison of pointers. Nothing is
/// ever freed: the interpreter may be gone when this library is unloaded.
struct Numpy {
  PyObject* const float32 = py::dtype::of<float>().release().ptr();
  PyObject* const float64 = py::dtype::of<double>().release().ptr();
  PyObject* const float16 = py::dtype("float16").release().ptr();
  std::atomic<PyObject*> bfloat16{nullptr};  ///< once met: NumPy does not have it itself
  PyObject* const array = found("numpy", "ndarray");
  PyObject* const scalar = found("numpy", "generic");
  PyObject* const masked_array = found("numpy.ma", "MaskedArray");
};

Numpy& numpy() {
  static Numpy objects;
  return objects;
}

std::optional<DType> slow_dtype_of(const py::dtype& dtype) {
  if (!dtype.attr("isnative").cast<bool>()) return std::nullopt;
  for (const auto& [known, result] :
       {std::pair{numpy().float32, DType::float32}, std::pair{numpy().float64, DType::float64},
        std::pair{numpy().float16, DType::float16}}) {
    if (dtype.equal(py::handle(known))) return result;
  }
  // By name: the number of a user's type is not fixed, and kind and size fit other types too.
  if (dtype.itemsize() == 2 && dtype.attr("name").cast<std::string>() == "bfloat16") {
    PyObject* const found = py::object(dtype).release().ptr();
    PyObject* expected = nullptr;
    if (!numpy().bfloat16.compare_exchange_strong(expected, found)) Py_DECREF(found);
    return DType::bfloat16;
  }
  return std::nullopt;
}

bool is_instance(py::handle object, PyObject* type) {
  return PyObject_IsInstance(object.ptr(), type) == 1;
}

std::string type_name(py::handle object) {
  return py::type::handle_of(object).attr("__name__").cast<std::string>();
}

}  // namespace

std::string Which::text() const {
  return std::string(role) + " " + std::to_string(index) +
         (name.empty() ? "" : " ('" + name + "')");
}

std::optional<DType> known_dtype(py::handle dtype) {
  const PyObject* const type = dtype.ptr();
  Numpy& known = numpy();
  if (type == known.float32) return DType::float32;
  if (type == known.float64) return DType::float64;
  if (type == known.float16) return DType::float16;
  if (type == known.bfloat16.load(std::memory_order_relaxed)) return DType::bfloat16;
  return slow_dtype_of(py::reinterpret_borrow<py::dtype>(dtype));
}

TensorView view_of(py::handle object, const Which& which, ShapeStorage& storage) {
  if (!py::isinstance<py::array>(object)) {
    const py::object interface = cuda_interface(object);
    if (interface) return view_of_cuda(object, interface, which, storage);
    throw TypeError(which.text() +
                    " must be a NumPy or CuPy array. Received: " + type_name(object) + ".");
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) != numpy().array &&
      is_instance(object, numpy().masked_array)) {
    throw TypeError(which.text() + " must not be masked. Pass its data, or the filled array.");
  }
  const std::optional<DType> dtype = known_dtype(array.dtype());
  if (!dtype) {
    throw TypeError(which.text() +
                    " must have dtype float32, float64, float16 or bfloat16, in native byte order. "
                    "Received: " +
                    py::str(array.dtype()).cast<std::string>() + ".");
  }
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t));
  TensorView view;
  view.data = const_cast<void*>(array.data());
  view.dtype = *dtype;
  view.writable = array.writeable();
  view.rank = static_cast<int>(array.ndim());
  // NumPy has null pointers for an array without axes, where ours would mean one axis.
  static constexpr std::int64_t no_axes = 0;
  view.shape = reinterpret_cast<const std::int64_t*>(array.shape());
  view.strides_bytes = reinterpret_cast<const std::int64_t*>(array.strides());
  if (view.rank == 0) view.shape = view.strides_bytes = &no_axes;
  view.size = 1;
  for (int axis = 0; axis < view.rank; ++axis) view.size *= view.shape[axis];
  view.present = true;
  return view;
}

bool is_scalar(py::handle object) {
  return PyFloat_Check(object.ptr()) || is_instance(object, numpy().scalar);
}

void prepare_arrays() { numpy(); }

}  // namespace ravine::python
