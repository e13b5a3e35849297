#include "layout.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace ravine {
namespace {

std::int64_t axis_size(const TensorView& view, int axis) {
  return view.shape == nullptr ? view.size : view.shape[axis];
}

std::int64_t axis_stride(const TensorView& view, int axis) {
  if (view.strides_bytes != nullptr) return view.strides_bytes[axis];
  std::int64_t stride = size_bytes(view.dtype);
  for (int inner = view.rank - 1; inner > axis; --inner) stride *= axis_size(view, inner);
  return stride;
}

/// Calls `copy(offset, stride, first, count)` for each run along the innermost axis.
template <class Copy>
void for_each_run(const Array& array, std::int64_t begin, std::int64_t count, Copy&& copy) {
  const Axis& innermost = array.axes[array.axis_count - 1];
  for (std::int64_t done = 0; done < count;) {
    std::int64_t index = begin + done, offset = 0;
    const std::int64_t start = index % innermost.size;
    for (int axis = array.axis_count - 1; axis >= 0; --axis) {
      offset += index % array.axes[axis].size * array.axes[axis].stride_bytes;
      index /= array.axes[axis].size;
    }
    const std::int64_t run = std::min(count - done, innermost.size - start);
    copy(offset, innermost.stride_bytes, done, run);
    done += run;
  }
}

/// memcpy of a constant size becomes one move, aligned or not.
template <int bytes>
void gather_sized(const Array& array, std::int64_t begin, std::int64_t count, std::byte* out) {
  for_each_run(array, begin, count, [&](auto offset, auto stride, auto first, auto run) {
    for (std::int64_t i = 0; i < run; ++i) {
      std::memcpy(out + (first + i) * bytes, array.data + offset + i * stride, bytes);
    }
  });
}

template <int bytes>
void scatter_sized(const Array& array, std::int64_t begin, std::int64_t count,
                   const std::byte* in) {
  for_each_run(array, begin, count, [&](auto offset, auto stride, auto first, auto run) {
    for (std::int64_t i = 0; i < run; ++i) {
      std::memcpy(array.data + offset + i * stride, in + (first + i) * bytes, bytes);
    }
  });
}

/// The pieces of memory that the array consists of, joined where they touch.
std::vector<Extent> pieces(const TensorView& view) {
  const std::vector<Axis> axes = walk(view, memory_order(view));
  if (axes.empty()) return {extent(view)};
  Array array{static_cast<std::byte*>(view.data), axes.data(), static_cast<int>(axes.size()),
              view.dtype};
  const int item = size_bytes(view.dtype);
  std::vector<Extent> result;
  for_each_run(array, 0, view.size, [&](auto offset, auto stride, auto, auto run) {
    const auto start = reinterpret_cast<std::uintptr_t>(array.data) + offset;
    if (stride == item) {
      result.push_back({start, start + run * item});
    } else {
      for (std::int64_t i = 0; i < run; ++i) {
        result.push_back({start + i * stride, start + i * stride + item});
      }
    }
  });
  return result;
}

/// Whether each step along an axis passes over all that the axes inside it span: then no element
/// can lie upon another. So it is for slices of ordinary arrays.
bool is_nested(const std::vector<Axis>& axes, std::int64_t item) {
  std::int64_t span = item;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    if (std::abs(axis->stride_bytes) < span) return false;
    span += (axis->size - 1) * std::abs(axis->stride_bytes);
  }
  return true;
}

/// What all axes but the outermost span, in bytes.
std::int64_t inner_span(const std::vector<Axis>& axes, std::int64_t item) {
  std::int64_t span = item;
  for (std::size_t i = 1; i < axes.size(); ++i) {
    span += (axes[i].size - 1) * std::abs(axes[i].stride_bytes);
  }
  return span;
}

/// Whether both walk memory by the same long stride, each through its own part of every step: rows
/// or columns of one array. Decided by arithmetic, however many elements there are.
bool are_interleaved(const TensorView& a, const TensorView& b) {
  const std::vector<Axis> axes_a = walk(a, memory_order(a)), axes_b = walk(b, memory_order(b));
  if (axes_a.empty() || axes_b.empty()) return false;
  const std::int64_t stride = std::abs(axes_a.front().stride_bytes);
  if (stride == 0 || stride != std::abs(axes_b.front().stride_bytes)) return false;
  const std::int64_t span_a = inner_span(axes_a, size_bytes(a.dtype));
  const std::int64_t span_b = inner_span(axes_b, size_bytes(b.dtype));
  const auto distance = static_cast<std::int64_t>(extent(b).begin - extent(a).begin);
  const std::int64_t offset = ((distance % stride) + stride) % stride;
  return offset >= span_a && offset + span_b <= stride;
}

}  // namespace

std::vector<int> memory_order(const TensorView& view) {
  std::vector<int> order;
  for (int axis = 0; axis < view.rank; ++axis) {
    if (axis_size(view, axis) != 1) order.push_back(axis);
  }
  std::ranges::stable_sort(order, [&](int a, int b) {
    return std::abs(axis_stride(view, a)) > std::abs(axis_stride(view, b));
  });
  return order;
}

std::vector<Axis> walk(const TensorView& view, const std::vector<int>& order) {
  const int item = size_bytes(view.dtype);
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % item == 0;
  std::vector<Axis> axes;
  for (const int axis : order) {
    const Axis next{axis_size(view, axis), axis_stride(view, axis)};
    if (!axes.empty() && axes.back().stride_bytes == next.size * next.stride_bytes) {
      axes.back() = {axes.back().size * next.size, next.stride_bytes};
    } else {
      axes.push_back(next);
    }
  }
  if (axes.empty()) axes.push_back({1, item});
  const bool gapless = axes.size() == 1 && axes.front().stride_bytes == item;
  if (view.size == 0 || (gapless && aligned)) return {};
  return axes;
}

void gather(const Array& array, std::int64_t begin, std::int64_t count, std::byte* out) {
  switch (size_bytes(array.dtype)) {
    case 8:
      return gather_sized<8>(array, begin, count, out);
    case 4:
      return gather_sized<4>(array, begin, count, out);
    default:
      return gather_sized<2>(array, begin, count, out);
  }
}

void scatter(const Array& array, std::int64_t begin, std::int64_t count, const std::byte* in) {
  switch (size_bytes(array.dtype)) {
    case 8:
      return scatter_sized<8>(array, begin, count, in);
    case 4:
      return scatter_sized<4>(array, begin, count, in);
    default:
      return scatter_sized<2>(array, begin, count, in);
  }
}

Extent extent(const TensorView& view) {
  const auto start = reinterpret_cast<std::uintptr_t>(view.data);
  if (view.size == 0) return {start, start};
  Extent result{start, start + size_bytes(view.dtype)};
  for (int axis = 0; axis < view.rank; ++axis) {
    const std::int64_t reach = (axis_size(view, axis) - 1) * axis_stride(view, axis);
    (reach < 0 ? result.begin : result.end) += reach;
  }
  return result;
}

bool share_memory(const TensorView& a, const TensorView& b) {
  if (a.size == 0 || b.size == 0 || !extent(a).meets(extent(b)) || are_interleaved(a, b)) {
    return false;
  }
  std::vector<Extent> of_a = pieces(a), of_b = pieces(b);
  std::ranges::sort(of_a, {}, &Extent::begin);
  std::ranges::sort(of_b, {}, &Extent::begin);
  for (std::size_t i = 0, j = 0; i < of_a.size() && j < of_b.size();) {
    if (of_a[i].meets(of_b[j])) return true;
    of_a[i].end <= of_b[j].begin ? ++i : ++j;
  }
  return false;
}

bool overlaps_itself(const TensorView& view) {
  if (view.size == 0) return false;
  for (const Axis& axis : walk(view, memory_order(view))) {
    if (axis.stride_bytes == 0) return true;
  }
  if (is_nested(walk(view, memory_order(view)), size_bytes(view.dtype))) return false;
  std::vector<Extent> all = pieces(view);
  std::ranges::sort(all, {}, &Extent::begin);
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i - 1].end > all[i].begin) return true;
  }
  return false;
}

}  // namespace ravine
