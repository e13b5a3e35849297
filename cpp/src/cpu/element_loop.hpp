// A step's formula for each element of arrays that lie in memory as they are needed. Included by
// loop.cpp alone.
#pragma once

#include <cstdint>
#include <type_traits>

#include "convert.hpp"
#include "prefetch.hpp"
#include "ravine/passes.hpp"

#if defined(__AVX512F__)
#include "vector.hpp"
#include "vector_memory.hpp"
#include "vector_passes.hpp"
#endif

namespace ravine::cpu {
namespace {

/// Elements between two looks ahead, and how far each looks: 256 bytes and a page of float32. It
/// costs nothing in the cache, and out of it a tenth to a third of the time on some processors.
constexpr std::int64_t stride = 64, distance = 1024;

/// Asks for the stride of each array that is so far ahead. Inlined like `fetch_ahead`.
template <class... T>
[[gnu::always_inline]] inline void look_ahead(const T*... array) {
  (fetch_ahead(array, distance, stride), ...);
}

// Each array is a parameter of its own, so that `restrict` tells the compiler what the plan has
// checked: no two of them overlap. The numbers come by reference and are not copied: a copy reads
// many at a time right after they were written one by one, and that takes as long as 64 elements.

template <bool averages, class T, class Raw, class Step, class... Slot>
[[gnu::noinline]] void loop(const Step& step, const Average<T>& average, std::int64_t count,
                            Raw* __restrict w, const Raw* __restrict g, T* __restrict mean,
                            Slot* __restrict... slot) {
  const auto update = [&](std::int64_t i) {
    T value = widened<T>(w[i]);
    step(value, widened<T>(g[i]), slot[i]...);
    w[i] = rounded<Raw>(value);
    // What moves the average is what the variable holds.
    if constexpr (averages) average(widened<T>(w[i]), mean[i]);
  };
  std::int64_t begin = 0;
  for (; begin + stride <= count; begin += stride) {
    look_ahead(w + begin, g + begin, slot + begin...);
    if constexpr (averages) look_ahead(mean + begin);
#pragma omp simd
    for (std::int64_t i = begin; i < begin + stride; ++i) update(i);
  }
#pragma omp simd
  for (std::int64_t i = begin; i < count; ++i) update(i);
}

#if defined(__AVX512F__)

/// The same for T of float with vectors of our own, whose roots do not all wait for the divider.
template <bool averages, class Raw, class Step, class... Slot>
[[gnu::noinline]] void loop(const Step& step, const Average<float>& average, std::int64_t count,
                            Raw* __restrict w, const Raw* __restrict g, float* __restrict mean,
                            Slot* __restrict... slot) {
  const auto update = [&]<class V>(const auto& step_of, const Average<V>& average_of,
                                   std::int64_t i, const auto&... lanes) {
    const auto update_loaded = [&](V value, const V& gradient, auto... state) {
      step_of(value, gradient, state...);
      value = rounded_to<Raw>(value);
      store(value, w + i, lanes...);
      (store(state, slot + i, lanes...), ...);
      if constexpr (averages) {
        V moved = load<V>(mean + i, lanes...);
        average_of(held<Raw>(value), moved);
        store(moved, mean + i, lanes...);
      }
    };
    update_loaded(load<V>(w + i, lanes...), load<V>(g + i, lanes...),
                  load<V>(slot + i, lanes...)...);
  };
  using Wide = Vector<4>;
  static_assert(Wide::size == stride);
  const auto wide_step = step.template rounded<Wide>();
  const Average<Wide> wide_average(average);
  std::int64_t begin = 0;
  for (; begin + stride <= count; begin += stride) {
    look_ahead(w + begin, g + begin, slot + begin...);
    if constexpr (averages) look_ahead(mean + begin);
    update(wide_step, wide_average, begin);
  }
  using Narrow = Vector<1>;
  const auto narrow_step = step.template rounded<Narrow>();
  const Average<Narrow> narrow_average(average);
  for (; begin < count; begin += Narrow::size) {
    update(narrow_step, narrow_average, begin, lanes_of<Narrow>(count - begin));
  }
}

#endif

}  // namespace
}  // namespace ravine::cpu
