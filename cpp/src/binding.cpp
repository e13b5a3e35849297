#include "binding.hpp"

#include <algorithm>
#include <limits>

#include "ravine/error.hpp"

namespace ravine {
namespace {

constexpr double zero = 0.0;
constexpr Axis repeated_axis{std::numeric_limits<std::int64_t>::max(), 0};

const char* text(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::float16:
      return "float16";
    default:
      return "bfloat16";
  }
}

bool is_aligned(const TensorView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % size_bytes(view.dtype) == 0;
}

Array array_of(const TensorView& view, const std::vector<Axis>& axes) {
  return {static_cast<std::byte*>(view.data), axes.data(), static_cast<int>(axes.size()),
          view.dtype};
}

std::vector<std::int64_t> shape_of(const TensorView& view) {
  if (view.shape == nullptr) return {view.size};
  return {view.shape, view.shape + view.rank};
}

std::string text(const std::vector<std::int64_t>& shape) {
  std::string result = "(";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    result += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return result + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

std::string label(std::size_t index, const std::string& name) {
  return "variable " + std::to_string(index) + (name.empty() ? "" : " ('" + name + "')");
}

std::string text(const Device& device) {
  return device.type == DeviceType::cpu ? "the CPU" : "GPU " + std::to_string(device.index);
}

Binding::Binding(std::size_t index, const Variable& variable)
    : index_(index),
      variable_(variable),
      shape_(shape_of(variable.value)),
      order_(memory_order(variable.value)),
      axes_(walk(variable.value, order_)) {
  if (!variable.value.writable) {
    throw ArgumentError("Variables are updated in place, and " + label(index, variable.name) +
                        " is read-only. Pass a writable array.");
  }
  if (variable.value.device.type == DeviceType::cuda && !axes_.empty()) {
    throw ArgumentError("On a GPU variables must be aligned and without gaps, and " +
                        label(index, variable.name) +
                        " is not. Pass the array that it is a view of, or a contiguous copy.");
  }
  for (const TensorView& slot : variable.slots) check_state(slot, "A slot");
  if (variable.average.present) check_state(variable.average, "The average");
  if (variable.accumulator.present) check_state(variable.accumulator, "The accumulator");
  // What the caller's view points to need not live on.
  variable_.value.shape = variable_.value.strides_bytes = nullptr;
}

void Binding::check_state(const TensorView& state, const char* what) const {
  const DType dtype = arithmetic_dtype(variable_.value.dtype);
  const std::string which = std::string(what) + " of " + label(index_, variable_.name);
  if (state.dtype != dtype) {
    throw TypeError(which + " must be of type " + text(dtype) + ". Received: " + text(state.dtype) +
                    ".");
  }
  if (state.size != variable_.value.size || state.device != variable_.value.device ||
      !state.writable || !state.present) {
    throw ArgumentError(which + " must be a writable array of " +
                        std::to_string(variable_.value.size) +
                        " elements on the device of the variable.");
  }
  if (!walk(state, memory_order(state)).empty()) {
    throw ArgumentError(which + " must be aligned and without gaps.");
  }
}

Row Binding::row() const {
  Row row;
  row.w = array_of(variable_.value, axes_);
  row.size = variable_.value.size;
  for (std::size_t i = 0; i < variable_.slots.size(); ++i) row.slots[i] = variable_.slots[i].data;
  row.average = variable_.average.data;
  row.accumulator = variable_.accumulator.data;
  return row;
}

std::vector<TensorView> Binding::state() const {
  std::vector<TensorView> all = variable_.slots;
  if (variable_.average.present) all.push_back(variable_.average);
  if (variable_.accumulator.present) all.push_back(variable_.accumulator);
  return all;
}

std::int64_t Binding::update_bytes() const {
  const std::int64_t state = size_bytes(arithmetic_dtype(variable_.value.dtype));
  const auto arrays =
      static_cast<std::int64_t>(variable_.slots.size()) + (variable_.average.present ? 1 : 0);
  return variable_.value.size * (3 * size_bytes(variable_.value.dtype) + 2 * arrays * state);
}

bool Binding::looks_like_last(const TensorView& gradient) const {
  if (!gradient_.present || gradient.dtype != gradient_.dtype || gradient.size != gradient_.size ||
      gradient.device != gradient_.device || is_aligned(gradient) != is_aligned(gradient_)) {
    return false;
  }
  const auto equals = [&](const std::int64_t* numbers, const std::vector<std::int64_t>& expected) {
    return gradient.rank == static_cast<int>(expected.size()) &&
           std::equal(expected.begin(), expected.end(), numbers);
  };
  if ((gradient.shape != nullptr) != gradient_has_shape_) return false;
  if (gradient.shape != nullptr && !equals(gradient.shape, shape_)) return false;
  if (gradient.strides_bytes == nullptr) return gradient_is_c_order_;
  return !gradient_is_c_order_ && equals(gradient.strides_bytes, gradient_strides_);
}

void Binding::check_gradient(const TensorView& gradient) const {
  const bool fits = gradient.shape == nullptr ? gradient.size == variable_.value.size
                                              : shape_of(gradient) == shape_;
  if (!fits) {
    throw ArgumentError("Gradient " + std::to_string(index_) + " has shape " +
                        text(shape_of(gradient)) + ", " + label(index_, variable_.name) +
                        " has shape " + text(shape_) +
                        ". Pass the gradients in the order of the variables.");
  }
  if (gradient.device != variable_.value.device) {
    throw ArgumentError("Gradient " + std::to_string(index_) + " is on " + text(gradient.device) +
                        ", " + label(index_, variable_.name) + " is on " +
                        text(variable_.value.device) +
                        ". Pass gradients on the device of the variables.");
  }
}

void Binding::bind_gradient(const TensorView& gradient, const WrittenMemory& written, Row& row) {
  if (!looks_like_last(gradient)) {
    take_gradient(gradient, written);
  } else if (gradient.data != gradient_.data) {
    move_gradient(gradient, written);
  }
  row.g = array_of(gradient_, gradient_axes_);
}

void Binding::take_gradient(const TensorView& gradient, const WrittenMemory& written) {
  check_gradient(gradient);
  // A view without a shape lists its elements in the order of the variable's memory.
  std::vector<Axis> axes = walk(gradient, gradient.shape == nullptr ? std::vector{0} : order_);
  if (gradient.device.type == DeviceType::cuda && !axes.empty()) {
    throw ArgumentError(
        "On a GPU gradients must be aligned, without gaps and in the order in memory of their "
        "variables, and "
        "gradient " +
        std::to_string(index_) + " is not as " + label(index_, variable_.name) +
        ". Pass a contiguous copy, as of cupy.ascontiguousarray().");
  }
  const Extent memory = extent(gradient);
  written.check_gradient(gradient, memory, index_, variable_.name);
  gradient_extent_ = memory;
  gradient_axes_ = std::move(axes);
  gradient_strides_.assign(gradient.strides_bytes, gradient.strides_bytes == nullptr
                                                       ? nullptr
                                                       : gradient.strides_bytes + gradient.rank);
  gradient_has_shape_ = gradient.shape != nullptr;
  gradient_is_c_order_ = gradient.strides_bytes == nullptr;
  gradient_ = gradient;
  gradient_.shape = gradient_.strides_bytes = nullptr;
}

void Binding::move_gradient(const TensorView& gradient, const WrittenMemory& written) {
  const auto distance = reinterpret_cast<std::uintptr_t>(gradient.data) -
                        reinterpret_cast<std::uintptr_t>(gradient_.data);
  const Extent memory{gradient_extent_.begin + distance, gradient_extent_.end + distance};
  written.check_gradient(gradient, memory, index_, variable_.name);
  gradient_extent_ = memory;
  gradient_.data = gradient.data;
}

void Binding::bind_zeros(Row& row) const {
  row.g = {reinterpret_cast<std::byte*>(const_cast<double*>(&zero)), &repeated_axis, 1,
           arithmetic_dtype(variable_.value.dtype)};
  row.updates = true;
}

}  // namespace ravine
