// Arrays in the memory of the emulated GPU: of any type, at any place, with guards around them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "emulator.hpp"
#include "half.hpp"
#include "ravine/slots.hpp"
#include "ravine/tensor.hpp"

namespace ravine::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr std::size_t guard_bytes = 0;  // the sanitizer sees the first byte behind the end
#else
inline constexpr std::size_t guard_bytes = 64;
#endif

inline const std::vector<DType> dtypes{DType::float32, DType::float64, DType::float16,
                                       DType::bfloat16};

inline Device gpu(int index = 0) { return {DeviceType::cuda, index}; }

/// An array of any type, `shift` bytes behind a multiple of 64, with guards on both sides.
class Elements {
 public:
  Elements(std::int64_t size, DType dtype, std::size_t shift = 0)
      : size_(size),
        dtype_(dtype),
        before_(guard_bytes + shift),
        bytes_(static_cast<std::size_t>(size * size_bytes(dtype))),
        memory_(static_cast<std::byte*>(::operator new(all_bytes(), std::align_val_t{64}))) {
    std::memset(memory_.get(), pattern, all_bytes());
    std::memset(data(), 0, bytes_);
  }

  std::byte* data() const { return memory_.get() + before_; }
  std::int64_t size() const { return size_; }

  TensorView view(const Device& device = {}) const {
    TensorView result(data(), size_, dtype_);
    result.device = device;
    return result;
  }

  double get(std::int64_t index) const {
    if (dtype_ == DType::float32) return at<float>(index);
    if (dtype_ == DType::float64) return at<double>(index);
    const auto bits = at<std::uint16_t>(index);
    return dtype_ == DType::float16 ? from_float16(bits) : from_bfloat16(bits);
  }

  void set(std::int64_t index, double value) {
    const auto single = static_cast<float>(value);
    if (dtype_ == DType::float32) return put(index, single);
    if (dtype_ == DType::float64) return put(index, value);
    put(index, dtype_ == DType::float16 ? to_float16(single) : to_bfloat16(single));
  }

  /// Numbers between `low` and `high`, always the same for the same seed.
  void draw(std::uint64_t seed, double low, double high) {
    std::uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
    for (std::int64_t i = 0; i < size_; ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      set(i, low + (high - low) * std::ldexp(static_cast<double>(state >> 11), -53));
    }
  }

  void copy(const Elements& from) { std::memcpy(data(), from.data(), bytes_); }

  /// Whether all bits are the same; the sign and payload of a NaN are not promised.
  bool same(const Elements& other) const {
    if (std::memcmp(data(), other.data(), bytes_) == 0) return true;
    for (std::int64_t i = 0; i < size_; ++i) {
      const double a = get(i), b = other.get(i);
      if (std::isnan(a) ? !std::isnan(b) : a != b || std::signbit(a) != std::signbit(b))
        return false;
    }
    return true;
  }

  /// Whether nothing was written on either side.
  bool intact() const {
    for (std::size_t i = 0; i < all_bytes(); ++i) {
      const bool is_inside = i >= before_ && i < before_ + bytes_;
      if (!is_inside && memory_[i] != static_cast<std::byte>(pattern)) return false;
    }
    return true;
  }

 private:
  static constexpr unsigned char pattern = 0xa5;

  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };

  std::size_t all_bytes() const { return before_ + bytes_ + guard_bytes; }

  template <class T>
  T at(std::int64_t index) const {
    T value;
    std::memcpy(&value, data() + index * static_cast<std::int64_t>(sizeof value), sizeof value);
    return value;
  }
  template <class T>
  void put(std::int64_t index, T value) {
    std::memcpy(data() + index * static_cast<std::int64_t>(sizeof value), &value, sizeof value);
  }

  std::int64_t size_;
  DType dtype_;
  std::size_t before_, bytes_;
  std::unique_ptr<std::byte[], Free> memory_;
};

/// A variable to be made.
struct Spec {
  std::int64_t size = 0;
  DType dtype = DType::float32, gradient = DType::float32;
  /// Bytes behind an aligned address: of the variable, gradient, average, accumulator and slots.
  std::array<std::size_t, 4 + max_slots> shifts{};
};

using Indices = std::vector<std::size_t>;

/// The gradients of a step, which both sides read.
class Gradients {
 public:
  Gradients(const std::vector<Spec>& specs, std::uint64_t seed, double scale = 1.0) {
    for (const Spec& spec : specs) arrays_.emplace_back(spec.size, spec.gradient, spec.shifts[1]);
    draw(seed, scale);
  }
  /// Waits for the work that may use them, as the runtime does where memory is freed.
  ~Gradients() { emulator::synchronize_before_release(); }
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  /// Other numbers at the same place.
  void draw(std::uint64_t seed, double scale = 1.0) {
    for (Elements& array : arrays_) array.draw(seed++ * 1000, -scale, scale);
  }

  std::vector<TensorView> views(const Device& device, const Indices& missing = {}) const {
    std::vector<TensorView> result;
    for (const Elements& array : arrays_) result.push_back(array.view(device));
    for (const std::size_t index : missing) result[index] = {};
    return result;
  }

  Elements& at(std::size_t index) { return arrays_[index]; }
  bool intact() const {
    return std::all_of(arrays_.begin(), arrays_.end(), std::mem_fn(&Elements::intact));
  }

 private:
  std::vector<Elements> arrays_;
};

}  // namespace ravine::test
