#include "cupy_arrays.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <vector>

namespace py = pybind11;

namespace ravine::python {
namespace {

/// Names of attributes, made once. Never freed, like what is kept of NumPy.
struct Names {
  PyObject* const data = PyUnicode_InternFromString("data");
  PyObject* const ptr = PyUnicode_InternFromString("ptr");
  PyObject* const device_id = PyUnicode_InternFromString("device_id");
  PyObject* const dtype = PyUnicode_InternFromString("dtype");
  PyObject* const shape = PyUnicode_InternFromString("shape");
  PyObject* const strides = PyUnicode_InternFromString("strides");
};

py::object attribute(py::handle object, PyObject* name) {
  auto found = py::reinterpret_steal<py::object>(PyObject_GetAttr(object.ptr(), name));
  if (!found) throw py::error_already_set();
  return found;
}

void read(py::handle numbers, std::vector<std::int64_t>& result) {
  result.clear();
  for (const py::handle number : py::reinterpret_borrow<py::tuple>(numbers)) {
    result.push_back(PyLong_AsLongLong(number.ptr()));
  }
}

}  // namespace

bool is_cupy_array(py::handle object) {
  // Never freed. CuPy may be imported at any time.
  static std::atomic<PyObject*> known{nullptr};
  PyObject* type = known.load(std::memory_order_relaxed);
  if (type == nullptr) {
    static PyObject* const name = PyUnicode_InternFromString("cupy");
    const auto cupy = py::reinterpret_steal<py::object>(PyImport_GetModule(name));
    if (!cupy) return false;
    type = PyObject_GetAttrString(cupy.ptr(), "ndarray");
    if (type == nullptr) {  // while it is being imported
      PyErr_Clear();
      return false;
    }
    known.store(type, std::memory_order_relaxed);
  }
  return reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) == type;
}

TensorView view_of_cupy(py::handle array, const Which& which, ShapeStorage& storage) {
  static const Names names;
  const std::optional<DType> dtype = known_dtype(attribute(array, names.dtype));
  if (!dtype) return view_of(array, which, storage);  // which says what is wrong with it
  const py::object data = attribute(array, names.data);
  TensorView view;
  view.data = PyLong_AsVoidPtr(attribute(data, names.ptr).ptr());
  view.dtype = *dtype;
  view.device = {DeviceType::cuda,
                 static_cast<int>(PyLong_AsLong(attribute(data, names.device_id).ptr()))};
  view.present = true;
  read(attribute(array, names.shape), storage.shape);
  read(attribute(array, names.strides), storage.strides);
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  view.rank = static_cast<int>(storage.shape.size());
  view.size = std::accumulate(storage.shape.begin(), storage.shape.end(), std::int64_t{1},
                              std::multiplies<>());
  storage.show_in(view);
  return view;
}

}  // namespace ravine::python
