#include "tensor_type.hpp"

#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "bind.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

/// DLTensor of DLPack's ABI, https://dmlc.github.io/dlpack/latest/c_api.html. Strides are elements.
struct DLTensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t rank;
  std::uint8_t type_code, type_bits;
  std::uint16_t type_lanes;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

/// DLPackExchangeAPI, of which only one function is used here. It may be null.
struct ExchangeInterface {
  std::uint32_t major, minor;
  void* older;
  void* others[3];
  int (*read)(void* tensor, void* result);
  void* current_stream;
};

constexpr std::int32_t on_cpu = 1;
constexpr std::uint8_t floating = 2, brain_floating = 4;

std::optional<DType> dtype_of(const DLTensor& tensor) {
  if (tensor.type_lanes != 1) return std::nullopt;
  if (tensor.type_code == brain_floating && tensor.type_bits == 16) return DType::bfloat16;
  if (tensor.type_code != floating) return std::nullopt;
  switch (tensor.type_bits) {
    case 64:
      return DType::float64;
    case 32:
      return DType::float32;
    case 16:
      return DType::float16;
    default:
      return std::nullopt;
  }
}

/// Whether PyTorch has put off the negation of a tensor until it is read: DLPack does not tell.
bool is_to_be_negated(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  const auto answer =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(tensor.ptr(), name));
  if (!answer) throw py::error_already_set();
  return answer.ptr() != Py_False;
}

}  // namespace

TensorType::TensorType(py::object type, py::object array_of)
    : type_(std::move(type)), array_of_(std::move(array_of)) {
  const py::object capsule = py::getattr(type_, "__dlpack_c_exchange_api__", py::none());
  if (capsule.is_none()) return;
  const void* const found = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
  if (found == nullptr) throw py::error_already_set();
  const auto* const interface = static_cast<const ExchangeInterface*>(found);
  if (interface->major == 1) read_ = interface->read;
}

bool TensorType::view(py::handle tensor, TensorView& view, ShapeStorage& storage) const {
  if (read_ == nullptr || !py::type::handle_of(tensor).is(type_)) return false;
  DLTensor read;
  if (read_(tensor.ptr(), &read) != 0) {  // such as one without dense memory
    PyErr_Clear();
    return false;
  }
  const std::optional<DType> dtype = dtype_of(read);
  if (!dtype || read.device_type != on_cpu || is_to_be_negated(tensor)) return false;
  view = TensorView();
  view.data = static_cast<char*>(read.data) + read.byte_offset;
  view.dtype = *dtype;
  view.present = true;
  view.rank = read.rank;
  view.size = 1;
  storage.shape.assign(read.shape, read.shape + read.rank);
  storage.strides.clear();
  for (int axis = 0; axis < read.rank; ++axis) {
    view.size *= read.shape[axis];
    storage.strides.push_back(read.strides[axis] * size_bytes(*dtype));
  }
  storage.show_in(view);
  return true;
}

std::optional<py::bytes> TensorType::layouts(const py::list& tensors) const {
  if (read_ == nullptr) return std::nullopt;
  std::vector<std::int64_t> numbers;
  numbers.reserve(8 * tensors.size());
  for (const py::handle tensor : tensors) {
    DLTensor read;
    if (!is_that_of(tensor) || read_(tensor.ptr(), &read) != 0) {
      PyErr_Clear();
      return std::nullopt;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(read.data) + read.byte_offset;
    numbers.push_back(static_cast<std::int64_t>(address));
    numbers.push_back(256 * read.type_code + read.type_bits);
    numbers.push_back(read.rank);
    numbers.insert(numbers.end(), read.shape, read.shape + read.rank);
    numbers.insert(numbers.end(), read.strides, read.strides + read.rank);
  }
  return py::bytes(reinterpret_cast<const char*>(numbers.data()),
                   numbers.size() * sizeof(std::int64_t));
}

void bind_tensor_type(py::module_& module) {
  py::class_<TensorType>(module, "TensorType")
      .def(py::init<py::object, py::object>(), py::arg("type"), py::arg("array_of"))
      .def("layouts", &TensorType::layouts, py::arg("tensors"));
}

}  // namespace ravine::python
