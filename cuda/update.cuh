// One chunk of one variable in one update, by one block: the order of things is that of the CPU's
// loop.
#pragma once

#include <cstdint>
#include <utility>

#include "elements.cuh"
#include "ravine/step.hpp"
#include "tables.hpp"

namespace ravine::cuda {

/// What an update has beside clip, decay and the rule. Here nothing is left to be asked: all
/// variables and gradients are of one type, gradients are there and not accumulated, averages
/// neither start nor overwrite.
template <DType of_all, bool has_averages>
struct PlainPasses {
  static constexpr bool any_dtype = false;
  static constexpr DType dtype = of_all;
  __device__ static constexpr bool averages() { return has_averages; }
  __device__ static constexpr bool average_starts() { return false; }
  __device__ static constexpr bool overwrites() { return false; }
  __device__ static constexpr bool accumulated() { return false; }
  __device__ static constexpr Passes all() { return {}; }
};

/// All passes, and arrays of any type.
struct AllPasses {
  static constexpr bool any_dtype = true;
  static constexpr DType dtype{};
  const Passes& passes;

  __device__ bool averages() const { return passes.averages; }
  __device__ bool average_starts() const { return passes.average_starts; }
  __device__ bool overwrites() const { return passes.overwrites; }
  __device__ bool accumulated() const { return passes.accumulated > 1; }
  __device__ const Passes& all() const { return passes; }
};

/// The chunk from element `begin` on; T is the arithmetic type of its variable.
template <class T, class SomePasses, class Step>
class ChunkUpdate {
 public:
  __device__ ChunkUpdate(const Step& step, const Average<T>& average, const SomePasses& passes,
                         const RowTable& row, const void* gradient, Marks marks, std::int64_t begin)
      : step_(step),
        average_(average),
        passes_(passes),
        w_dtype_(row.dtype),
        marks_(marks),
        w_(static_cast<char*>(row.w) + begin * item_size(w_type())),
        average_slot_(static_cast<T*>(row.average) + begin),
        accumulator_(static_cast<T*>(row.accumulator) + begin) {
    if (gradient != nullptr) {
      gradient_ = static_cast<const char*>(gradient) + begin * item_size(g_type());
    }
#pragma unroll
    for (int k = 0; k < slot_count; ++k) slots_[k] = static_cast<T*>(row.slots[k]) + begin;
  }

  /// Vectors of 16 bytes where all addresses allow it, one element at a time at the end and
  /// elsewhere.
  __device__ void run(int size) const {
    if (marks_.updates) {
      for_each(size, [this]<int width>(unsigned index, Width<width>) { update<width>(index); });
    } else if (passes_.averages()) {
      for_each(size,
               [this]<int width>(unsigned index, Width<width>) { average_only<width>(index); });
    }
  }

 private:
  static constexpr int slot_count = decltype(Step::rule)::slot_count;
  template <int width>
  using Width = std::integral_constant<int, width>;

  template <class Visit>
  __device__ __forceinline__ void for_each(int size, const Visit& visit) const {
    constexpr int width = 16 / sizeof(T);
    const unsigned vectors = is_aligned<width>() ? size / width : 0;
#pragma unroll 1
    for (unsigned i = threadIdx.x * width; i < vectors * width; i += block_threads * width)
      visit(i, Width<width>{});
#pragma unroll 1
    for (unsigned i = vectors * width + threadIdx.x; i < unsigned(size); i += block_threads) {
      visit(i, Width<1>{});
    }
  }

  __device__ DType w_type() const { return SomePasses::any_dtype ? w_dtype_ : SomePasses::dtype; }
  __device__ DType g_type() const {
    return SomePasses::any_dtype ? static_cast<DType>(marks_.dtype) : SomePasses::dtype;
  }

  template <int width>
  __device__ bool is_aligned() const {
    const auto below = [](const void* address, unsigned bytes) {
      return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(address)) & (bytes - 1);
    };
    unsigned wrong = below(w_, width * item_size(w_type()));
    // Of more than 16 bytes there are two reads.
    const unsigned g_bytes = width * item_size(g_type());
    wrong |= below(gradient_, g_bytes < 16 ? g_bytes : 16);
#pragma unroll
    for (int k = 0; k < slot_count; ++k) wrong |= below(slots_[k], 16);
    if (passes_.averages()) wrong |= below(average_slot_, 16);
    if (passes_.accumulated()) wrong |= below(accumulator_, 16);
    return wrong == 0;
  }

  __device__ static unsigned item_size(DType dtype) {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
  }

  template <int width>
  __device__ __forceinline__ void update(unsigned index) const {
    Pack<T, width> slot[slot_count > 0 ? slot_count : 1], average{}, accumulator{};
    Undecoded<width> raw_g{};
    const Undecoded<width> raw_w = fetch<width>(w_type(), w_, index);
    if (!SomePasses::any_dtype || gradient_ != nullptr) {
      raw_g = fetch<width>(g_type(), gradient_, index);
    }
#pragma unroll
    for (int k = 0; k < slot_count; ++k) slot[k] = load<T, width>(slots_[k], index);
    if (passes_.averages()) average = load<T, width>(average_slot_, index);
    if (passes_.accumulated()) accumulator = load<T, width>(accumulator_, index);

    Pack<T, width> w = decode<T, width>(w_type(), raw_w);
    Pack<T, width> g = decode<T, width>(g_type(), raw_g);
    if (passes_.accumulated()) {
      const Passes& passes = passes_.all();
      const FinishAccumulation<T> finish{T(passes.gradient_scale), T(passes.accumulated)};
#pragma unroll
      for (int i = 0; i < width; ++i) g.at[i] = finish(g.at[i], accumulator.at[i]);
      store(accumulator_, index, accumulator);
    }
    apply(w, g, slot, std::make_index_sequence<slot_count>{});
#pragma unroll
    for (int k = 0; k < slot_count; ++k) store(slots_[k], index, slot[k]);
    encode(w_type(), w_, index, w);
    if (passes_.averages()) keep_average(index, w, average);
  }

  template <int width, std::size_t... k>
  __device__ __forceinline__ void apply(Pack<T, width>& w, const Pack<T, width>& g,
                                        Pack<T, width>* slot, std::index_sequence<k...>) const {
#pragma unroll
    for (int i = 0; i < width; ++i) step_(w.at[i], g.at[i], slot[k].at[i]...);
  }

  /// A variable without a gradient.
  template <int width>
  __device__ __forceinline__ void average_only(unsigned index) const {
    const Undecoded<width> raw_w = fetch<width>(w_type(), w_, index);
    Pack<T, width> average = load<T, width>(average_slot_, index);
    keep_average(index, decode<T, width>(w_type(), raw_w), average);
  }

  /// `w` is what the variable holds: rounded, where it has 16 bits.
  template <int width>
  __device__ __forceinline__ void keep_average(unsigned index, const Pack<T, width>& w,
                                               Pack<T, width>& average) const {
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (passes_.average_starts()) {
        average.at[i] = w.at[i];
      } else {
        average_(w.at[i], average.at[i]);
      }
    }
    store(average_slot_, index, average);
    if (passes_.overwrites()) encode(w_type(), w_, index, average);
  }

  const Step step_;
  const Average<T> average_;
  const SomePasses passes_;
  const DType w_dtype_;
  const Marks marks_;
  char* const w_;
  const char* gradient_ = nullptr;  // zeros
  T* slots_[slot_count > 0 ? slot_count : 1];
  T* const average_slot_;
  T* const accumulator_;
};

}  // namespace ravine::cuda
