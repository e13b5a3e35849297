// The loop over elements, compiled once for each instruction set into a namespace of its own.
//
// Nothing in it may be shared with other objects: of two copies of an inline function the linker
// keeps one, and a copy made for a newer machine would crash an older one. Hence the unnamed
// namespaces, here and in the headers that only this file includes.
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

#include "backend.hpp"
#include "convert.hpp"
#include "divider.hpp"
#include "element_loop.hpp"
#include "first_touch.hpp"
#include "prefetch.hpp"
#include "ravine/step.hpp"
#include "stream.hpp"
#include "threads.hpp"

#if defined(__AVX512F__)
#include "wide_tile.hpp"
#else
#include "tile.hpp"
#endif

namespace ravine::cpu::RAVINE_ISA {
namespace {

/// Elements that are staged at a time where an array is strided or of another type: few enough for
/// the copies to stay in the first-level cache.
constexpr std::int64_t block_size = 512;

template <class Raw>
constexpr DType dtype_of = std::is_same_v<Raw, double>     ? DType::float64
                           : std::is_same_v<Raw, float>    ? DType::float32
                           : std::is_same_v<Raw, Bfloat16> ? DType::bfloat16
                                                           : DType::float16;

template <class T>
struct Staged {
  alignas(64) T w[block_size];
  alignas(64) T g[block_size];
  alignas(64) std::byte raw[block_size * sizeof(double)];
};

/// Elements of an array as values of type T: the array itself where that is what it holds.
template <class T>
T* read(const Array& array, std::int64_t begin, std::int64_t count, T* values, std::byte* raw) {
  const int item = size_bytes(array.dtype);
  std::byte* source = array.data + begin * item;
  if (array.axis_count > 0) {
    gather(array, begin, count, raw);
    source = raw;
  } else if (array.dtype == dtype_of<T>) {
    return reinterpret_cast<T*>(source);
  } else {
    fetch_ahead(source, distance * item, count * item);
  }
  load(array.dtype, source, count, values);
  return values;
}

/// The way back of `read`.
template <class T>
void write(const Array& array, std::int64_t begin, std::int64_t count, const T* values,
           std::byte* raw) {
  std::byte* const target = array.data + begin * size_bytes(array.dtype);
  if (array.axis_count > 0) {
    store(array.dtype, values, count, raw);
    scatter(array, begin, count, raw);
  } else if (reinterpret_cast<const std::byte*>(values) != target) {
    store(array.dtype, values, count, target);
  }
}

/// Whether the elements lie one beside the other and are of this type.
template <class Raw>
bool holds(const Array& array) {
  return array.axis_count == 0 && array.dtype == dtype_of<Raw>;
}

/// One chunk of one variable, T its arithmetic type.
template <class T>
struct Update {
  const Passes& passes;
  const Row& row;
  std::int64_t begin, count;

  T* average_slot() const { return static_cast<T*>(row.average); }

  template <class Kernel>
  void operator()(const Kernel& kernel) const {
    const auto step = make_step<T>(kernel, passes, row.clip_factor, row.decays);
    if (passes.averages        ? in_one_loop<true>(step)
        : step.is_rule_alone() ? in_one_loop<false>(step.rule)
                               : in_one_loop<false>(step)) {
      return;
    }
    const bool fused = row.w.dtype == dtype_of<T> && !passes.average_starts && !passes.overwrites;
    Staged<T> staged;
    for (std::int64_t done = 0; done < count; done += block_size) {
      const std::int64_t at = begin + done;
      const std::int64_t size = count - done < block_size ? count - done : block_size;
      const T* const g = gradient(at, size, staged);
      T* const w = read<T>(row.w, at, size, staged.w, staged.raw);
      if (passes.averages && fused) {
        apply<true>(step, at, size, w, g);
      } else {
        apply<false>(step, at, size, w, g);
      }
      write(row.w, at, size, w, staged.raw);
      if (passes.averages && !fused) average_block(at, size, staged);
    }
  }

  /// The whole chunk at once, if neither array must be staged. False: nothing was done.
  template <bool averages, class Step>
  bool in_one_loop(const Step& step) const {
    if (in_loop_of<T, averages>(step)) return true;
    if constexpr (std::is_same_v<T, float>) return in_loop_of<Bfloat16, averages>(step);
    return false;
  }
  template <class Raw, bool averages, class Step>
  bool in_loop_of(const Step& step) const {
    if (!holds<Raw>(row.w) || !holds<Raw>(row.g) || passes.accumulated > 1 ||
        (passes.averages && (passes.average_starts || passes.overwrites))) {
      return false;
    }
    apply<averages>(step, begin, count, reinterpret_cast<Raw*>(row.w.data) + begin,
                    reinterpret_cast<const Raw*>(row.g.data) + begin);
    return true;
  }

  template <bool averages, class Step, class Raw>
  void apply(const Step& step, std::int64_t at, std::int64_t size, Raw* w, const Raw* g) const {
    const auto with_slots = [&]<std::size_t... k>(std::index_sequence<k...>) {
      T* const mean = averages ? average_slot() + at : nullptr;
      loop<averages>(step, Average<T>(passes), size, w, g, mean, slot(k) + at...);
    };
    with_slots(std::make_index_sequence<Step::slot_count>{});
  }

  T* slot(std::size_t k) const { return static_cast<T*>(row.slots[k]); }

  /// The gradient as the step takes it: where micro-steps were accumulated, their mean.
  const T* gradient(std::int64_t at, std::int64_t size, Staged<T>& staged) const {
    const T* const g = read<T>(row.g, at, size, staged.g, staged.raw);
    if (passes.accumulated == 1) return g;
    const FinishAccumulation<T> finish{T(passes.gradient_scale), T(passes.accumulated)};
    T* const accumulator = static_cast<T*>(row.accumulator) + at;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) staged.g[i] = finish(g[i], accumulator[i]);
    return staged.g;
  }

  void average_block(std::int64_t at, std::int64_t size, Staged<T>& staged) const {
    const Average<T> average(passes);
    const T* const w = read<T>(row.w, at, size, staged.w, staged.raw);
    T* const mean = average_slot() + at;
    if (passes.average_starts) {
      for (std::int64_t i = 0; i < size; ++i) mean[i] = w[i];
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) average(w[i], mean[i]);
    }
    if (passes.overwrites) write(row.w, at, size, mean, staged.raw);
  }

  /// A variable without a gradient is only averaged.
  void average_only() const {
    Staged<T> staged;
    for (std::int64_t done = 0; done < count; done += block_size) {
      average_block(begin + done, count - done < block_size ? count - done : block_size, staged);
    }
  }
};

/// Calls `visit(row, chunk, T{})` for each chunk, on as many threads as pay.
template <class Visit>
void for_each_chunk(const Work& work, const Visit& visit) {
  parallel_for(work.item_count, work.bytes, [&](std::int64_t item) {
    for (std::int64_t i = work.items[item]; i < work.items[item + 1]; ++i) {
      const Chunk& chunk = work.chunks[i];
      const Row& row = work.rows[chunk.row];
      if (work.touches_state) touch_state(row, chunk);
      if (arithmetic_dtype(row.w.dtype) == DType::float64) {
        visit(row, chunk, double{});
      } else {
        visit(row, chunk, float{});
      }
    }
  });
}

void run(const AnyRule& any_rule, double learning_rate, std::int64_t t, const Passes& passes,
         const Work& work) {
  const auto with_kernel = [&](const auto& kernel) {
    for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
      const Update<T> update{passes, row, chunk.begin, chunk.size};
      if (row.updates) {
        update(kernel);
      } else if (passes.averages) {
        update.average_only();
      }
    });
  };
  std::visit([&](const auto& rule) { rule.visit_kernel(learning_rate, t, with_kernel); }, any_rule);
}

void accumulate(const Passes& passes, const Work& work) {
  for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
    if (!row.updates) return;
    Staged<T> staged;
    const Unscale<T> unscale{T(passes.gradient_scale)};
    for (std::int64_t done = 0; done < chunk.size; done += block_size) {
      const std::int64_t at = chunk.begin + done;
      const std::int64_t size = chunk.size - done < block_size ? chunk.size - done : block_size;
      const T* const g = read<T>(row.g, at, size, staged.g, staged.raw);
      T* const accumulator = static_cast<T*>(row.accumulator) + at;
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) accumulator[i] += unscale(g[i]);
    }
  });
}

void sum_squares(const Passes& passes, const Work& work, double* tiles) {
  for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
    if (!row.updates) return;
    const bool plain = passes.gradient_scale == 1.0 && passes.accumulated == 1;
    const FinishAccumulation<T> finish{T(passes.gradient_scale), T(passes.accumulated)};
    const Unscale<T> unscale{T(passes.gradient_scale)};
    Staged<T> staged;
    for (std::int64_t tile_begin = 0; tile_begin < chunk.size; tile_begin += tile_size) {
      const std::int64_t left = chunk.size - tile_begin;
      const std::int64_t tile_count = left < tile_size ? left : tile_size;
      Tile tile(tile_count);
      const std::int64_t first = chunk.begin + tile_begin;
      if (plain && holds<T>(row.g)) {
        tile.add(reinterpret_cast<const T*>(row.g.data) + first, tile_count);
      } else if (plain && holds<Bfloat16>(row.g)) {
        tile.add(reinterpret_cast<const Bfloat16*>(row.g.data) + first, tile_count);
      } else {
        for (std::int64_t done = 0; done < tile_count; done += block_size) {
          const std::int64_t at = first + done;
          const std::int64_t rest = tile_count - done;
          const std::int64_t size = rest < block_size ? rest : block_size;
          const T* const g = read<T>(row.g, at, size, staged.g, staged.raw);
          if (passes.accumulated == 1) {
#pragma omp simd
            for (std::int64_t i = 0; i < size; ++i) staged.g[i] = unscale(g[i]);
          } else {
            const T* const accumulator = static_cast<const T*>(row.accumulator) + at;
#pragma omp simd
            for (std::int64_t i = 0; i < size; ++i) {
              staged.g[i] = finish.mean_of(g[i], accumulator[i]);
            }
          }
          tile.add(staged.g, size);
        }
      }
      tiles[row.first_tile + first / tile_size] = tile.total();
    }
  });
}

void overwrite(const Work& work) {
  for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
    if (!row.updates) return;
    Staged<T> staged;
    for (std::int64_t done = 0; done < chunk.size; done += block_size) {
      const std::int64_t at = chunk.begin + done;
      const std::int64_t size = chunk.size - done < block_size ? chunk.size - done : block_size;
      write(row.w, at, size, static_cast<const T*>(row.average) + at, staged.raw);
    }
  });
}

void stream(const Work& work, int slot_count, bool averages) {
  for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
    if (row.w.dtype == dtype_of<T>) {
      stream_chunk<T, T>(row, chunk, slot_count, averages);
    } else {
      stream_chunk<std::uint16_t, T>(row, chunk, slot_count, averages);
    }
  });
}

void read_gradients(const Work& work, double* tiles) {
  for_each_chunk(work, [&]<class T>(const Row& row, const Chunk& chunk, T) {
    const bool narrow = row.g.dtype != dtype_of<T>;
    tiles[row.first_tile + chunk.begin / tile_size] =
        narrow ? static_cast<double>(read_chunk<std::uint16_t>(row, chunk))
               : static_cast<double>(read_chunk<T>(row, chunk));
  });
}

void divide(const AnyRule& any_rule, const Work& work) {
  const auto with_kernel = [&](const auto& kernel) {
    const Operations each = operations_of(kernel);
    if (each.divisions == 0 && each.roots == 0) return;
    for_each_chunk(work, [&]<class T>(const Row&, const Chunk& chunk, T) {
      divide_chunk<T>(each, chunk.size);
    });
  };
  std::visit([&](const auto& rule) { rule.visit_kernel(1.0, 1, with_kernel); }, any_rule);
}

}  // namespace

extern const Backend backend;
#define RAVINE_TEXT_OF(name) #name
#define RAVINE_TEXT(name) RAVINE_TEXT_OF(name)
const Backend backend{RAVINE_TEXT(RAVINE_ISA), run,   accumulate, sum_squares, overwrite, stream,
                      read_gradients,          divide};

}  // namespace ravine::cpu::RAVINE_ISA
