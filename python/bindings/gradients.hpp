// The gradients of a step as views. What they were before is remembered: most are like that again.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "known.hpp"
#include "ravine/tensor.hpp"
#include "tensor_type.hpp"

namespace ravine::python {

/// What the gradients of a plan were in its last step. `names` must outlive it.
class Gradients {
 public:
  Gradients(const std::vector<std::string>& names, bool on_gpu);

  /// Lets gradients be tensors of a type, and what arrays can be made of.
  void take_tensors(TensorType type) { tensors_ = std::move(type); }

  /// Whether these, in a list that no one changes, lie where the last ones lie. Only on the CPU.
  bool lie_like_last(const pybind11::object& gradients) const;

  /// Whether these are the very last ones. Only on a GPU: NumPy lets an array be changed in place.
  bool are_last(const pybind11::object& gradients) const;

  /// Points the views at the gradients, of which those become arrays that have no views; returns
  /// how many there are. `are_known`: the views are those of the last step, of gradients that are
  /// remembered. CuPy's arrays are made on the stream `producer`.
  std::size_t fill(pybind11::list& held, std::vector<TensorView>& views, bool are_known,
                   Stream producer);

 private:
  void forget(std::size_t index);

  const std::vector<std::string>& names_;
  const bool on_gpu_;
  std::vector<ShapeStorage> storage_;
  std::vector<KnownArray> known_;     ///< those on a GPU,
  std::vector<KnownLayout> layouts_;  ///< and those of NumPy
  TensorType tensors_;                ///< none, unless taken
};

}  // namespace ravine::python
