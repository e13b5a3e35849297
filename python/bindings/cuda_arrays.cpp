#include "cuda_arrays.hpp"

#include <optional>
#include <string>

#include "ravine/cuda.hpp"
#include "ravine/error.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

/// An attribute, or an entry of a dict, or None.
py::object attribute(py::handle object, const char* name) {
  py::object found = py::reinterpret_steal<py::object>(PyObject_GetAttrString(object.ptr(), name));
  if (found) return found;
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
  PyErr_Clear();
  return py::none();
}

py::object entry(const py::dict& interface, const char* name) {
  const py::str key(name);
  return interface.contains(key) ? py::object(interface[key]) : py::object(py::none());
}

std::optional<DType> dtype_of(const std::string& typestr, py::handle object) {
  if (typestr == "<f4" || typestr == "=f4") return DType::float32;
  if (typestr == "<f8" || typestr == "=f8") return DType::float64;
  if (typestr == "<f2" || typestr == "=f2") return DType::float16;
  // The interface has no name for bfloat16: two bytes of anything, and the object knows.
  const std::string name = py::str(attribute(object, "dtype")).cast<std::string>();
  if (typestr.ends_with("2") && name.ends_with("bfloat16")) return DType::bfloat16;
  return std::nullopt;
}

/// The stream on which the elements are still being made.
std::optional<Stream> producer_of(const py::dict& interface, const Which& which) {
  const py::object stream = entry(interface, "stream");
  if (stream.is_none()) return std::nullopt;
  const auto handle = stream.cast<std::uintptr_t>();
  if (handle == 0) {
    throw ArgumentError(which.text() +
                        " names the stream 0, which __cuda_array_interface__ does not allow: 1 is "
                        "the default stream, None is none.");
  }
  return handle == 1 ? nullptr : reinterpret_cast<Stream>(handle);
}

/// The GPU on which an array lies. One without elements need not be anywhere.
int device_of(const TensorView& view, py::handle object, const Which& which) {
  if (view.size > 0) {
    try {
      return cuda_device_of(view.data);
    } catch (const UnavailableError& error) {
      throw UnavailableError(which.text() + " is on a GPU. " + error.what());
    } catch (const ArgumentError&) {
      throw ArgumentError(which.text() +
                          " says that it is on a GPU, and its memory is not. Pass a NumPy or CuPy "
                          "array.");
    }
  }
  const py::object device = attribute(object, "device");
  for (const char* name : {"id", "index"}) {
    const py::object number = attribute(device, name);
    if (py::isinstance<py::int_>(number)) return number.cast<int>();
  }
  return 0;
}

}  // namespace

py::object cuda_interface(py::handle object) {
  const py::object found = attribute(object, "__cuda_array_interface__");
  return found.is_none() ? py::object() : found;
}

TensorView view_of_cuda(py::handle object, py::handle interface, const Which& which,
                        ShapeStorage& storage) {
  const auto fields = py::reinterpret_borrow<py::dict>(interface);
  if (!entry(fields, "mask").is_none()) {
    throw TypeError(which.text() + " must not be masked. Pass its data, or the filled array.");
  }
  const auto typestr = fields["typestr"].cast<std::string>();
  const std::optional<DType> dtype = dtype_of(typestr, object);
  if (!dtype) {
    throw TypeError(which.text() +
                    " must have dtype float32, float64, float16 or bfloat16, in native byte order. "
                    "Received: " +
                    typestr + ".");
  }
  const auto data = fields["data"].cast<py::tuple>();
  TensorView view;
  view.data = reinterpret_cast<void*>(data[0].cast<std::uintptr_t>());
  view.writable = !data[1].cast<bool>();
  view.dtype = *dtype;
  view.producer = producer_of(fields, which);
  view.present = true;

  storage.shape.clear();
  view.size = 1;
  for (const py::handle axis : fields["shape"].cast<py::tuple>()) {
    storage.shape.push_back(axis.cast<std::int64_t>());
    view.size *= storage.shape.back();
  }
  view.rank = static_cast<int>(storage.shape.size());
  view.device = {DeviceType::cuda, device_of(view, object, which)};
  const py::object strides = entry(fields, "strides");
  storage.strides.assign(storage.shape.size(), 0);
  if (strides.is_none()) {
    std::int64_t stride = size_bytes(*dtype);
    for (std::size_t axis = storage.shape.size(); axis-- > 0;) {
      storage.strides[axis] = stride;
      stride *= storage.shape[axis];
    }
  } else {
    std::size_t axis = 0;
    for (const py::handle stride : strides.cast<py::tuple>()) {
      storage.strides.at(axis++) = stride.cast<std::int64_t>();
    }
  }
  storage.show_in(view);
  return view;
}

}  // namespace ravine::python
