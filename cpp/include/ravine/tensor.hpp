// TensorView: an array of the caller's, by pointer; nothing is owned and nothing is copied.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>

namespace ravine {

enum class DType : std::uint8_t { float32, float64, float16, bfloat16 };

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool operator==(const Device&) const = default;
};

/// A CUDA stream, `cudaStream_t`; nullptr is the default one. The CPU has none.
using Stream = void*;

constexpr int size_bytes(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return 8;
    case DType::float32:
      return 4;
    default:
      return 2;
  }
}

/// The type in which a variable of type `dtype` is updated, and of its slots: its own, but float32
/// for the 16-bit types, whose second moments would underflow.
constexpr DType arithmetic_dtype(DType dtype) {
  return dtype == DType::float64 ? DType::float64 : DType::float32;
}

/// An array of the caller's. `shape` and `strides_bytes` are not owned: they must live as long as
/// the call that gets the view (a `Plan` copies what it keeps).
struct TensorView {
  void* data = nullptr;
  std::int64_t size = 0;
  DType dtype = DType::float32;
  Device device{};
  bool writable = true;
  int rank = 1;
  const std::int64_t* shape = nullptr;          ///< nullptr: one axis of `size` elements
  const std::int64_t* strides_bytes = nullptr;  ///< nullptr: C order, no gaps
  bool present = false;                         ///< false: no array at all
  /// The stream on which its elements are still being computed, if not that of the step.
  std::optional<Stream> producer;

  TensorView() = default;

  /// A contiguous array of float or double.
  template <class T>
  TensorView(T* elements, std::int64_t count)
      : data(const_cast<std::remove_const_t<T>*>(elements)),
        size(count),
        dtype(std::is_same_v<std::remove_const_t<T>, double> ? DType::float64 : DType::float32),
        writable(!std::is_const_v<T>),
        present(true) {
    static_assert(std::is_same_v<std::remove_const_t<T>, double> ||
                  std::is_same_v<std::remove_const_t<T>, float>);
  }

  /// A contiguous array of any type, float16 and bfloat16 as raw 16-bit words.
  TensorView(void* elements, std::int64_t count, DType type)
      : data(elements), size(count), dtype(type), present(true) {}
};

}  // namespace ravine
