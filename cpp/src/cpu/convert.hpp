// Elements of the four types to and from the type of the arithmetic. Included by loop.cpp alone,
// hence compiled for each instruction set.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "ravine/portable.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cpu {
namespace {

RAVINE_PORTABLE float from_bfloat16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// Rounds to nearest, ties to even. A NaN becomes 0x7fff, as on a GPU.
RAVINE_PORTABLE std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>(value != value ? 0x7fff : rounded);
}

/// Exact. Without branches, so that it vectorizes where the machine has no conversion of its own.
RAVINE_PORTABLE float from_float16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  // Shifted into a float's place the exponent is 112 too small, for subnormals as well.
  const float scaled = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000u);
  const std::uint32_t finite = std::bit_cast<std::uint32_t>(scaled);
  const std::uint32_t special = magnitude > 0x7bffu ? 0x7f800000u : 0u;
  return std::bit_cast<float>(finite | special | sign);
}

/// Rounds to nearest, ties to even. A NaN stays one, quiet.
RAVINE_PORTABLE std::uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // From the bias of a float to that of a half, rounded by the bits that fall off.
  const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 leaves a subnormal half's bits, rounded, at the end of the sum's.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  std::uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude > 0x477fffffu ? special : result;
  return static_cast<std::uint16_t>(result | sign);
}

/// Widens or rounds `count` raw elements of type `dtype` to `values`.
template <class T>
void load(DType dtype, const std::byte* raw, std::int64_t count, T* values) {
  const auto each = [&]<class Raw>(Raw, auto&& convert) {
    const Raw* const in = reinterpret_cast<const Raw*>(raw);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) values[i] = convert(in[i]);
  };
  switch (dtype) {
    case DType::float32:
      return each(float{}, [](float x) { return static_cast<T>(x); });
    case DType::float64:
      return each(double{}, [](double x) { return static_cast<T>(x); });
    case DType::bfloat16:
      return each(std::uint16_t{}, [](auto x) { return static_cast<T>(from_bfloat16(x)); });
    case DType::float16:
      break;
  }
  std::int64_t done = 0;
#if defined(__F16C__)
  const auto* const in = reinterpret_cast<const std::uint16_t*>(raw);
  if constexpr (sizeof(T) == 4) {
    for (; done + 8 <= count; done += 8) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + done));
      _mm256_storeu_ps(values + done, _mm256_cvtph_ps(half));
    }
  }
#endif
  raw += 2 * done;
  values += done;
  count -= done;
  each(std::uint16_t{}, [](auto x) { return static_cast<T>(from_float16(x)); });
}

/// Rounds `count` values to raw elements of type `dtype`.
template <class T>
void store(DType dtype, const T* values, std::int64_t count, std::byte* raw) {
  const auto each = [&]<class Raw>(Raw, auto&& convert) {
    Raw* const out = reinterpret_cast<Raw*>(raw);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) out[i] = convert(values[i]);
  };
  switch (dtype) {
    case DType::float32:
      return each(float{}, [](T x) { return static_cast<float>(x); });
    case DType::float64:
      return each(double{}, [](T x) { return static_cast<double>(x); });
    case DType::bfloat16:
      return each(std::uint16_t{}, [](T x) { return to_bfloat16(static_cast<float>(x)); });
    case DType::float16:
      break;
  }
  std::int64_t done = 0;
#if defined(__F16C__)
  auto* const out = reinterpret_cast<std::uint16_t*>(raw);
  if constexpr (sizeof(T) == 4) {
    for (; done + 8 <= count; done += 8) {
      const __m128i half =
          _mm256_cvtps_ph(_mm256_loadu_ps(values + done), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + done), half);
    }
  }
#endif
  raw += 2 * done;
  values += done;
  count -= done;
  each(std::uint16_t{}, [](T x) { return to_float16(static_cast<float>(x)); });
}

}  // namespace
}  // namespace ravine::cpu
