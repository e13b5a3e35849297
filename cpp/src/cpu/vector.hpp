// Many numbers as one, for formulas to be called with, where vectors have 512 bits. Included by
// element_loop.hpp alone.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "ravine/portable.hpp"
#include "root.hpp"

namespace ravine::cpu {
namespace {

/// One number of each of 16 lanes a part, with the operators and choices that formulas use.
template <int parts>
struct Vector {
  static constexpr std::int64_t size = 16 * parts;

  /// Lanes of which something holds.
  struct Mask {
    __mmask16 part[parts];

    RAVINE_PORTABLE friend Mask operator||(Mask a, const Mask& b) {
      for (int i = 0; i < parts; ++i) a.part[i] = static_cast<__mmask16>(a.part[i] | b.part[i]);
      return a;
    }
  };

  __m512 part[parts];

  Vector() = default;
  template <class Number>
    requires std::is_arithmetic_v<Number>
  RAVINE_PORTABLE explicit Vector(Number value) {
    for (__m512& each : part) each = _mm512_set1_ps(static_cast<float>(value));
  }

  RAVINE_PORTABLE static Vector load(const float* from) {
    Vector result;
    for (int i = 0; i < parts; ++i) result.part[i] = _mm512_loadu_ps(from + 16 * i);
    return result;
  }
  RAVINE_PORTABLE void store(float* to) const {
    for (int i = 0; i < parts; ++i) _mm512_storeu_ps(to + 16 * i, part[i]);
  }
  /// The same of some lanes; the others are 0, and not written.
  RAVINE_PORTABLE static Vector load(const float* from, const Mask& lanes) {
    Vector result;
    for (int i = 0; i < parts; ++i) {
      result.part[i] = _mm512_maskz_loadu_ps(lanes.part[i], from + 16 * i);
    }
    return result;
  }
  RAVINE_PORTABLE void store(float* to, const Mask& lanes) const {
    for (int i = 0; i < parts; ++i) _mm512_mask_storeu_ps(to + 16 * i, lanes.part[i], part[i]);
  }
  RAVINE_PORTABLE static Mask first(std::int64_t count) {
    Mask result;
    for (int i = 0; i < parts; ++i, count -= 16) {
      result.part[i] = static_cast<__mmask16>(count < 16 ? (1 << (count < 0 ? 0 : count)) - 1 : -1);
    }
    return result;
  }

  RAVINE_PORTABLE friend Vector operator+(Vector a, const Vector& b) {
    for (int i = 0; i < parts; ++i) a.part[i] = _mm512_add_ps(a.part[i], b.part[i]);
    return a;
  }
  RAVINE_PORTABLE friend Vector operator-(Vector a, const Vector& b) {
    for (int i = 0; i < parts; ++i) a.part[i] = _mm512_sub_ps(a.part[i], b.part[i]);
    return a;
  }
  RAVINE_PORTABLE friend Vector operator*(Vector a, const Vector& b) {
    for (int i = 0; i < parts; ++i) a.part[i] = _mm512_mul_ps(a.part[i], b.part[i]);
    return a;
  }
  RAVINE_PORTABLE friend Vector operator/(Vector a, const Vector& b) {
    for (int i = 0; i < parts; ++i) a.part[i] = _mm512_div_ps(a.part[i], b.part[i]);
    return a;
  }
  RAVINE_PORTABLE friend Vector operator-(Vector a) {
    for (__m512& each : a.part) each = _mm512_xor_ps(each, _mm512_set1_ps(-0.0f));
    return a;
  }
  RAVINE_PORTABLE Vector& operator+=(const Vector& other) { return *this = *this + other; }
  RAVINE_PORTABLE Vector& operator-=(const Vector& other) { return *this = *this - other; }
  RAVINE_PORTABLE Vector& operator*=(const Vector& other) { return *this = *this * other; }

  /// The divider would hold up all else: every second part does without it.
  RAVINE_PORTABLE friend Vector sqrt(Vector a) {
    for (int i = 0; i < parts; ++i) {
      a.part[i] = i % 2 == 1 ? root(a.part[i]) : _mm512_maskz_sqrt_ps(all_lanes, a.part[i]);
    }
    return a;
  }

  RAVINE_PORTABLE friend Mask operator<(const Vector& a, const Vector& b) {
    return compare<_CMP_LT_OQ>(a, b);
  }
  RAVINE_PORTABLE friend Mask operator!=(const Vector& a, const Vector& b) {
    return compare<_CMP_NEQ_UQ>(a, b);
  }
  RAVINE_PORTABLE friend Vector select(const Mask& condition, const Vector& yes, Vector no) {
    for (int i = 0; i < parts; ++i) {
      no.part[i] = _mm512_mask_mov_ps(no.part[i], condition.part[i], yes.part[i]);
    }
    return no;
  }
  // Where one of the two is NaN the instructions give the second.
  RAVINE_PORTABLE friend Vector at_least(Vector value, const Vector& bound) {
    for (int i = 0; i < parts; ++i) {
      value.part[i] = _mm512_maskz_max_ps(all_lanes, bound.part[i], value.part[i]);
    }
    return value;
  }
  RAVINE_PORTABLE friend Vector at_most(Vector value, const Vector& bound) {
    for (int i = 0; i < parts; ++i) {
      value.part[i] = _mm512_maskz_min_ps(all_lanes, bound.part[i], value.part[i]);
    }
    return value;
  }

 private:
  template <int predicate>
  RAVINE_PORTABLE static Mask compare(const Vector& a, const Vector& b) {
    Mask result;
    for (int i = 0; i < parts; ++i) {
      result.part[i] = _mm512_cmp_ps_mask(a.part[i], b.part[i], predicate);
    }
    return result;
  }
};

}  // namespace
}  // namespace ravine::cpu
