#include "written_memory.hpp"

#include <algorithm>
#include <utility>

#include "ravine/error.hpp"

namespace ravine {

WrittenMemory::Entry::Entry(const TensorView& original, std::string text)
    : extent(ravine::extent(original)), view(original), label(std::move(text)) {
  if (original.shape != nullptr) shape.assign(original.shape, original.shape + original.rank);
  if (original.strides_bytes != nullptr) {
    strides.assign(original.strides_bytes, original.strides_bytes + original.rank);
  }
}

TensorView WrittenMemory::Entry::whole() const {
  TensorView result = view;
  result.shape = view.shape == nullptr ? nullptr : shape.data();
  result.strides_bytes = view.strides_bytes == nullptr ? nullptr : strides.data();
  return result;
}

void WrittenMemory::add(const TensorView& view, std::string label) {
  if (view.size > 0) entries_.emplace_back(view, std::move(label));
}

void WrittenMemory::sort() {
  if (begins_.size() == entries_.size()) return;
  std::ranges::sort(entries_, {}, [](const Entry& entry) { return entry.extent.begin; });
  begins_.clear();
  reach_.clear();
  for (const Entry& entry : entries_) {
    begins_.push_back(entry.extent.begin);
    reach_.push_back(std::max(reach_.empty() ? 0 : reach_.back(), entry.extent.end));
  }
}

void WrittenMemory::check() {
  sort();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const TensorView own = entries_[i].whole();
    if (overlaps_itself(own)) {
      throw ArgumentError("Elements of " + entries_[i].label +
                          " share memory with each other. Pass a copy.");
    }
    for (std::size_t j = i; j-- > 0 && reach_[j] > entries_[i].extent.begin;) {
      if (share_memory(entries_[j].whole(), own)) {
        throw ArgumentError("Two arrays that a step writes share memory: " + entries_[j].label +
                            " and " + entries_[i].label + ". Give each array once.");
      }
    }
  }
}

void WrittenMemory::check_gradient(const TensorView& gradient, const Extent& memory,
                                   std::size_t index, const std::string& name) const {
  // The last entry that begins before the gradient ends, then back as long as any can reach it.
  const auto after = std::ranges::lower_bound(begins_, memory.end);
  for (auto i = after - begins_.begin(); i-- > 0 && reach_[i] > memory.begin;) {
    if (share_memory(gradient, entries_[i].whole())) {
      throw ArgumentError("Gradient " + std::to_string(index) +
                          (name.empty() ? "" : " ('" + name + "')") + " shares memory with " +
                          entries_[i].label + ", which the step writes. Pass a copy.");
    }
  }
}

}  // namespace ravine
