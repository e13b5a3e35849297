// The memory that a plan writes: no two arrays of it, and no gradient, may share any.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "layout.hpp"
#include "ravine/tensor.hpp"

namespace ravine {

class WrittenMemory {
 public:
  void add(const TensorView& view, std::string label);

  /// Throws `ArgumentError` if two of the arrays share memory, or if two elements of one do.
  void check();

  /// To be called between the last array and the first gradient; does nothing the second time.
  void sort();

  /// Throws `ArgumentError` if a gradient, which has this extent, shares memory with an array that
  /// is written.
  void check_gradient(const TensorView& gradient, const Extent& memory, std::size_t index,
                      const std::string& name) const;

 private:
  struct Entry {
    Extent extent;
    TensorView view;
    std::vector<std::int64_t> shape, strides;  ///< what `view` points to
    std::string label;

    Entry(const TensorView& original, std::string text);
    TensorView whole() const;
  };

  std::vector<Entry> entries_;          ///< by address, once sorted
  std::vector<std::uintptr_t> begins_;  ///< where each entry begins,
  std::vector<std::uintptr_t> reach_;   ///< and the furthest end of the entries up to it
};

}  // namespace ravine
