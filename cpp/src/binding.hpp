// One variable of a plan: what was bound at the start, checked, and the gradient of each step
// against it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chunks.hpp"
#include "layout.hpp"
#include "ravine/plan.hpp"
#include "written_memory.hpp"

namespace ravine {

/// How messages name a variable, and a device.
std::string label(std::size_t index, const std::string& name);
std::string text(const Device& device);

class Binding {
 public:
  /// Throws `ArgumentError` if the state does not fit the variable.
  Binding(std::size_t index, const Variable& variable);

  /// The row of the variable, without a gradient. It points into this object.
  Row row() const;

  /// All that is kept for the variable: slots, average, accumulator.
  std::vector<TensorView> state() const;

  /// Memory read and written by an update, about.
  std::int64_t update_bytes() const;

  /// Points the row at a gradient. A gradient that looks like the last one costs a few comparisons.
  void bind_gradient(const TensorView& gradient, const WrittenMemory& written, Row& row);

  /// Points the row at zeros: a gradient that is missing when the window of accumulation ends.
  void bind_zeros(Row& row) const;

 private:
  void check_state(const TensorView& state, const char* what) const;
  void check_gradient(const TensorView& gradient) const;
  bool looks_like_last(const TensorView& gradient) const;
  void take_gradient(const TensorView& gradient, const WrittenMemory& written);
  void move_gradient(const TensorView& gradient, const WrittenMemory& written);

  std::size_t index_;
  Variable variable_;
  std::vector<std::int64_t> shape_;
  std::vector<int> order_;
  std::vector<Axis> axes_;

  // The gradient of the last step.
  TensorView gradient_;
  Extent gradient_extent_;
  bool gradient_has_shape_ = true;
  bool gradient_is_c_order_ = true;
  std::vector<std::int64_t> gradient_strides_;
  std::vector<Axis> gradient_axes_;
};

}  // namespace ravine
