// Square roots without the divider, with the same bits. Included by vector.hpp alone.
#pragma once

#include <immintrin.h>

namespace ravine::cpu {
namespace {

/// The square roots of `x`, rounded to nearest as `_mm512_sqrt_ps` does.
///
/// From an approximation of 1 / sqrt(x) to 14 bits, one step of Goldschmidt's iteration leads to g,
/// sqrt(x) to about a unit in the last place, and to h, 1 / (2 sqrt(x)). As fused multiply-adds
/// lose nothing of x - g * g, g + (x - g * g) * h is rounded right (Markstein 1990, "Computation of
/// elementary functions on the IBM RISC System/6000 processor"). tests/cpp/test_root.cpp shows that
/// it is for all mantissas and exponents, whatever a processor takes for an approximation.
inline __m512 root(__m512 x) {
  // Below 2^-102 x - g * g has bits beneath the smallest subnormal; above are infinity, NaN and all
  // numbers with a sign.
  constexpr int lowest = (127 - 100) << 23, infinity = 0x7f800000;
  const __m512i height = _mm512_sub_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(lowest));
  const __mmask16 plain = _mm512_cmplt_epu32_mask(height, _mm512_set1_epi32(infinity - lowest));
  if (plain != 0xffff) [[unlikely]] {
    const auto rest = static_cast<__mmask16>(~plain);
    if (_mm512_mask_cmp_ps_mask(rest, x, _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0) {
      return _mm512_sqrt_ps(x);
    }
  }
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 y = _mm512_maskz_rsqrt14_ps(plain, x);  // with 0 for y, 0 becomes 0, sign and all
  __m512 g = _mm512_mul_ps(x, y), h = _mm512_mul_ps(half, y);
  const __m512 error = _mm512_fnmadd_ps(g, h, half);
  g = _mm512_fmadd_ps(g, error, g);
  h = _mm512_fmadd_ps(h, error, h);
  return _mm512_fmadd_ps(_mm512_fnmadd_ps(g, g, x), h, g);
}

}  // namespace
}  // namespace ravine::cpu
