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
template <int part_count>
struct Vector {
  static constexpr int parts = part_count;
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

  RAVINE_PORTABLE friend float first_of(const Vector& a) { return _mm512_cvtss_f32(a.part[0]); }

  /// The divider would hold up all else: every second part does without it.
  RAVINE_PORTABLE friend Vector sqrt(Vector a) {
    for (int i = 0; i < parts; ++i) {
      a.part[i] = i % 2 == 1 ? root(a.part[i]) : _mm512_sqrt_ps(a.part[i]);
    }
    return a;
  }

  RAVINE_PORTABLE friend Mask operator<(const Vector& a, const Vector& b) {
    return compare<_CMP_LT_OQ>(a, b);
  }
  RAVINE_PORTABLE friend Mask operator!=(const Vector& a, const Vector& b) {
    return compare<_CMP_NEQ_UQ>(a, b);
  }
  RAVINE_PORTABLE friend bool has_nan(const Vector& a) {
    int result = 0;
    for (int i = 0; i < parts; i += 2) {  // a comparison sees the NaNs of both sides
      result |= _mm512_cmp_ps_mask(a.part[i], a.part[i + 1 < parts ? i + 1 : i], _CMP_UNORD_Q);
    }
    return result != 0;
  }
  RAVINE_PORTABLE friend Vector select(const Mask& condition, const Vector& yes, Vector no) {
    for (int i = 0; i < parts; ++i) {
      no.part[i] = _mm512_mask_mov_ps(no.part[i], condition.part[i], yes.part[i]);
    }
    return no;
  }
  // Where one of the two is NaN, or both are zero, the instructions give the second.
  RAVINE_PORTABLE friend Vector at_least(Vector value, const Vector& bound) {
    for (int i = 0; i < parts; ++i) {
      value.part[i] = _mm512_max_ps(bound.part[i], value.part[i]);
    }
    return value;
  }
  RAVINE_PORTABLE friend Vector at_most(Vector value, const Vector& bound) {
    for (int i = 0; i < parts; ++i) {
      value.part[i] = _mm512_min_ps(bound.part[i], value.part[i]);
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
