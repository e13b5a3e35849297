// How the elements of an array lie in memory, and walking them in the order of another array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ravine/tensor.hpp"

namespace ravine {

struct Axis {
  std::int64_t size;
  std::int64_t stride_bytes;
};

/// An array reduced to what a loop needs: where it is, and how to walk it.
struct Array {
  std::byte* data = nullptr;
  const Axis* axes = nullptr;  ///< outermost first; not owned
  int axis_count = 0;          ///< 0: without gaps and aligned, one element after the other
  DType dtype = DType::float32;
};

/// The axes of `view`, of size above 1, in the order in which its elements lie in memory: by
/// decreasing stride. This is the order in which everything about a variable is walked.
std::vector<int> memory_order(const TensorView& view);

/// The axes of `view` in the order `axes`, those that can be walked as one joined. Empty if its
/// elements lie one after the other in that order, each aligned to its size.
std::vector<Axis> walk(const TensorView& view, const std::vector<int>& order);

/// Copies elements `begin` to `begin + count` of a strided array to `out`, or back.
void gather(const Array& array, std::int64_t begin, std::int64_t count, std::byte* out);
void scatter(const Array& array, std::int64_t begin, std::int64_t count, const std::byte* in);

/// The addresses from the first byte to behind the last of an array.
struct Extent {
  std::uintptr_t begin = 0, end = 0;

  bool meets(const Extent& other) const { return begin < other.end && other.begin < end; }
};
Extent extent(const TensorView& view);

/// Whether two arrays have a byte in common.
bool share_memory(const TensorView& a, const TensorView& b);

/// Whether two elements of an array do.
bool overlaps_itself(const TensorView& view);

}  // namespace ravine
