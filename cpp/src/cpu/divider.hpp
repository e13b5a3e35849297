// The divisions and roots of a rule and nothing else, on data in the first-level cache: no step in
// the cache can be faster than these. Included by loop.cpp alone.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace ravine::cpu {
namespace {

struct Operations {
  int divisions = 0, roots = 0;
};

/// A number that counts what is asked of the divider, for a formula to be called with.
struct Counting {
  Operations* counts = nullptr;

  Counting() = default;
  explicit Counting(double) {}
  explicit Counting(Operations& to) : counts(&to) {}

  Counting& operator+=(const Counting& other) { return *this = *this + other; }
  Counting& operator-=(const Counting& other) { return *this = *this + other; }

  friend Counting operator+(const Counting& a, const Counting& b) { return a.counts ? a : b; }
  friend Counting operator-(const Counting& a, const Counting& b) { return a + b; }
  friend Counting operator*(const Counting& a, const Counting& b) { return a + b; }
  friend Counting operator/(const Counting& a, const Counting& b) {
    const Counting both = a + b;
    if (both.counts) ++both.counts->divisions;
    return both;
  }
  friend Counting sqrt(const Counting& a) {
    if (a.counts) ++a.counts->roots;
    return a;
  }
  friend bool operator<(const Counting&, const Counting&) { return false; }
  friend bool operator!=(const Counting&, const Counting&) { return false; }
};

/// What the formula does with one element, not counting what depends on numbers alone.
template <class Kernel>
Operations operations_of(const Kernel& kernel) {
  Operations result;
  const auto rounded = kernel.template rounded<Counting>();
  const auto call = [&]<std::size_t... k>(std::index_sequence<k...>) {
    Counting arrays[] = {Counting(result), (static_cast<void>(k), Counting(result))...};
    rounded(arrays[0], Counting(result), arrays[1 + k]...);
  };
  call(std::make_index_sequence<Kernel::slot_count>{});
  return result;
}

/// Numbers for the divider: of a type of its own, so that the compiler knows how they are aligned.
template <class T>
struct alignas(64) Numbers {
  static constexpr std::int64_t rows = 8, width = 64;
  T of[rows][width];
};

template <class T>
struct Operands {
  Numbers<T> dividend{}, square{};

  constexpr Operands() {
    T next = 1;
    for (std::int64_t row = 0; row < Numbers<T>::rows; ++row) {
      for (std::int64_t i = 0; i < Numbers<T>::width; ++i, next += T(1) / 64) {
        dividend.of[row][i] = next / 1000;
        square.of[row][i] = next;
      }
    }
  }
};
template <class T>
constexpr Operands<T> operands;

/// Volatile, lest the compiler know the numbers and compute ahead.
template <class T>
const Operands<T>* const volatile operands_to_read = &operands<T>;

/// `count` times, rounded up to whole rows.
template <bool divides, bool takes_root, class T>
[[gnu::noinline]] void divide(std::int64_t count, const Operands<T>& from,
                              Numbers<T>& __restrict quotient) {
  std::int64_t row = 0;
  for (; count > 0; count -= Numbers<T>::width, row = (row + 1) % Numbers<T>::rows) {
#pragma omp simd
    for (std::int64_t i = 0; i < Numbers<T>::width; ++i) {
      const T square = from.square.of[row][i];
      const T divisor = takes_root ? std::sqrt(square) : square;
      quotient.of[row][i] = divides ? from.dividend.of[row][i] / divisor : divisor;
    }
  }
}

/// What `count` elements need.
template <class T>
void divide_chunk(const Operations& each, std::int64_t count) {
  const Operands<T>& from = *operands_to_read<T>;
  Numbers<T> quotient;
  for (int i = 0; i < each.divisions || i < each.roots; ++i) {
    if (i >= each.roots) {
      divide<true, false>(count, from, quotient);
    } else if (i >= each.divisions) {
      divide<false, true>(count, from, quotient);
    } else {
      divide<true, true>(count, from, quotient);
    }
    // Read, so that all this is of use to somebody.
    static_cast<void>(*const_cast<const volatile T*>(quotient.of[0]));
  }
}

}  // namespace
}  // namespace ravine::cpu
