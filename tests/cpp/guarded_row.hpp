// A variable for the loop alone, in guarded memory, and the update of it as a plain loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "chunks.hpp"
#include "guarded.hpp"
#include "plain_step.hpp"

namespace ravine::test {

/// The update that all make, and the rules as they are then.
inline constexpr std::int64_t update = 3;
inline const std::vector<AnyRule> advanced_rules = [] {
  std::vector<AnyRule> result = rules;
  for (AnyRule& rule : result) {
    for (std::int64_t t = 1; t <= update; ++t) plain_advance(rule, t);
  }
  return result;
}();

/// The widest vector, in elements.
template <class T>
constexpr std::size_t lanes = 64 / sizeof(T);

template <class T>
constexpr DType dtype_of = sizeof(T) == 8 ? DType::float64 : DType::float32;

/// A variable in guarded memory, its arrays at different places within a vector.
template <class T>
struct GuardedRow {
  std::vector<std::unique_ptr<Guarded<T>>> arrays;  ///< w, g, average, accumulator, slots
  std::vector<Axis> axes;                           ///< of w and g, where they are strided
  Row row;

  GuardedRow(std::size_t size, std::size_t shift, std::size_t slot_count, unsigned seed = 1) {
    for (std::size_t k = 0; k < 4 + slot_count; ++k) {
      std::vector<T> values = random_values<T>(size, seed + static_cast<unsigned>(k));
      // A mean square is not negative, and not below the square of the mean.
      if (k >= 4) {
        for (T& value : values) value = value * value;
      }
      arrays.push_back(std::make_unique<Guarded<T>>(values, (shift + 5 * k) % lanes<T>));
    }
    row.w = {bytes(0), nullptr, 0, dtype_of<T>};
    row.g = {bytes(1), nullptr, 0, dtype_of<T>};
    row.average = arrays[2]->data();
    row.accumulator = arrays[3]->data();
    for (std::size_t k = 0; k < slot_count; ++k) row.slots[k] = arrays[4 + k]->data();
    row.size = static_cast<std::int64_t>(size);
    row.updates = true;
  }

  std::byte* bytes(std::size_t k) { return reinterpret_cast<std::byte*>(arrays[k]->data()); }

  PlainVariable<T> plain() const {
    PlainVariable<T> result(arrays[0]->values(), arrays.size() - 4);
    for (std::size_t k = 4; k < arrays.size(); ++k) result.slots[k - 4] = arrays[k]->values();
    result.average = arrays[2]->values();
    result.accumulator = arrays[3]->values();
    return result;
  }

  bool equals(const PlainVariable<T>& expected) const {
    bool result = same_bits(arrays[0]->values(), expected.w) &&
                  same_bits(arrays[2]->values(), expected.average) &&
                  same_bits(arrays[3]->values(), expected.accumulator);
    for (std::size_t k = 4; k < arrays.size(); ++k) {
      result = result && same_bits(arrays[k]->values(), expected.slots[k - 4]);
    }
    return result;
  }

  bool intact() const {
    for (const auto& array : arrays) {
      if (!array->intact()) return false;
    }
    return true;
  }
};

/// One update by the rule alone, with or without an average. `rounded` gives what the variable can
/// hold of a value.
template <class T, class Rounded = std::identity>
PlainVariable<T> plain_update(const AnyRule& rule, const Passes& passes, const GuardedRow<T>& row,
                              double clip_factor = 1.0, const Rounded& rounded = {}) {
  PlainVariable<T> result = row.plain();
  std::vector<T> gradient = row.arrays[1]->values();
  const PlainRule<T> apply = plain_rule<T>(rule, 0.01, update);
  const T mu = T(passes.ema_momentum), rest = T(1 - passes.ema_momentum);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    T& g = gradient[i];
    g = g * T(passes.gradient_scale);
    if (passes.accumulated > 1) {
      g = (g + result.accumulator[i]) / T(passes.accumulated);
      result.accumulator[i] = 0;
    }
    g = g * T(clip_factor);
    if (g < -T(passes.clip_value)) g = -T(passes.clip_value);
    if (g > T(passes.clip_value)) g = T(passes.clip_value);
    if (passes.decay != 0) result.w[i] = result.w[i] - result.w[i] * T(passes.decay);
  }
  apply(result.w, gradient, result.slots);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    result.w[i] = rounded(result.w[i]);
    if (!passes.averages) continue;
    T& mean = result.average[i];
    mean = passes.average_starts ? result.w[i] : mu * mean + rest * result.w[i];
    if (passes.overwrites) result.w[i] = rounded(mean);
  }
  return result;
}

/// All combinations that take another way through the loop.
inline std::vector<Passes> all_passes() {
  std::vector<Passes> result;
  for (int bits = 0; bits < 64; ++bits) {
    Passes passes;
    if (bits & 1) passes.gradient_scale = 1.0 / 3;
    if (bits & 2) passes.accumulated = 3;
    if (bits & 4) passes.clip_value = 0.25;
    if (bits & 8) passes.decay = 0.01;
    passes.averages = (bits & 16) != 0;
    passes.overwrites = (bits & 48) == 48;
    result.push_back(passes);
    if (passes.averages) {
      passes.average_starts = true;
      result.push_back(passes);
    }
  }
  return result;
}

}  // namespace ravine::test
