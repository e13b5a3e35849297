// A model twice over the same numbers, in a plan on the CPU and in one on a GPU of the emulator:
// after the same steps the two must agree in every bit.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "emulator.hpp"
#include "fixtures.hpp"
#include "half.hpp"
#include "model.hpp"
#include "ravine/cuda.hpp"
#include "ravine/plan.hpp"

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

  /// As the runtime frees memory: when the work that may use it is done.
  struct Free {
    void operator()(std::byte* memory) const {
      emulator::synchronize_before_release();
      ::operator delete(memory, std::align_val_t{64});
    }
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

/// A model on one device.
class Side {
 public:
  Side(const std::vector<Spec>& specs, const AnyRule& its_rule, const Device& on)
      : rule(its_rule), device(on) {
    std::vector<Variable> variables;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      arrays.push_back(make(specs[i], plain_slot_count(rule), 100 * i));
      const std::vector<Elements>& all = arrays.back();
      Variable variable{"", all[0].view(on), {}, all[1].view(on), all[2].view(on)};
      for (std::size_t k = 3; k < all.size(); ++k) variable.slots.push_back(all[k].view(on));
      variables.push_back(std::move(variable));
    }
    plan.emplace(std::move(variables));
  }

  StepReport step(const Options& options, double learning_rate, std::int64_t iteration,
                  const Gradients& gradients, const Indices& missing = {},
                  Stream stream = nullptr) {
    return plan->step(rule, options, learning_rate, iteration, gradients.views(device, missing),
                      stream);
  }

  /// Variable, average, accumulator, slots.
  std::vector<std::vector<Elements>> arrays;
  AnyRule rule;
  Device device;
  std::optional<Plan> plan;

 private:
  static std::vector<Elements> make(const Spec& spec, std::size_t slots, std::uint64_t seed) {
    const DType state = arithmetic_dtype(spec.dtype);
    std::vector<Elements> all;
    all.emplace_back(spec.size, spec.dtype, spec.shifts[0]);
    all.emplace_back(spec.size, state, spec.shifts[2]);
    all.emplace_back(spec.size, state, spec.shifts[3]);
    for (std::size_t k = 0; k < slots; ++k) {
      all.emplace_back(spec.size, state, spec.shifts[4 + k]);
    }
    // Positive, as mean squares are; the accumulator is zero between windows.
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (k != 2) all[k].draw(seed + k, k == 0 ? -2.0 : 0.25, 2.0);
    }
    return all;
  }
};

/// The same model on both.
class Twins {
 public:
  Twins(std::vector<Spec> all, const AnyRule& rule, int index = 0)
      : specs(std::move(all)), cpu(specs, rule, {}), gpu(specs, rule, test::gpu(index)) {}

  /// One step of both, with gradients of its own, which stay until the work is done.
  void step(const Options& options, double learning_rate, std::int64_t iteration,
            const Indices& missing = {}, Stream stream = nullptr, double scale = 1.0) {
    held_.push_back(
        std::make_unique<Gradients>(specs, static_cast<std::uint64_t>(7 + 11 * iteration), scale));
    step(options, learning_rate, iteration, *held_.back(), missing, stream);
  }
  void step(const Options& options, double learning_rate, std::int64_t iteration,
            const Gradients& gradients, const Indices& missing = {}, Stream stream = nullptr) {
    const StepReport a = cpu.step(options, learning_rate, iteration, gradients, missing);
    const StepReport b = gpu.step(options, learning_rate, iteration, gradients, missing, stream);
    EXPECT_EQ(a.updated, b.updated);
    EXPECT_EQ(a.gradients, b.gradients);
  }

  void set_decays(std::size_t index, bool decays) {
    cpu.plan->set_decays(index, decays);
    gpu.plan->set_decays(index, decays);
  }

  /// Waits for the GPU.
  void expect_equal() {
    emulator::synchronize_all();
    for (const auto& gradients : held_) ASSERT_TRUE(gradients->intact());
    held_.clear();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      for (std::size_t k = 0; k < cpu.arrays[i].size(); ++k) {
        ASSERT_TRUE(gpu.arrays[i][k].same(cpu.arrays[i][k]))
            << "variable " << i << " of " << specs[i].size << " elements, array " << k;
        ASSERT_TRUE(gpu.arrays[i][k].intact()) << "variable " << i << ", array " << k;
      }
      ASSERT_EQ(gpu.plan->received(i), cpu.plan->received(i));
    }
    AnyRule there = gpu.rule;
    std::int64_t iteration = 0;
    gpu.plan->read_progress(there, iteration);
    if (const auto* nadam = std::get_if<Nadam>(&there)) {
      ASSERT_EQ(nadam->momentum_product, std::get<Nadam>(cpu.rule).momentum_product);
    }
  }

  std::vector<Spec> specs;
  Side cpu, gpu;

 private:
  std::vector<std::unique_ptr<Gradients>> held_;
};

/// Options that are as by default but for what `change` sets.
template <class Change>
Options options_with(const Change& change) {
  Options options;
  change(options);
  return options;
}

}  // namespace ravine::test
