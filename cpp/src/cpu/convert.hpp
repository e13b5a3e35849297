// Elements of the four types to and from the type of the arithmetic. Included by loop.cpp alone,
// hence compiled for each instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "half.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cpu {
namespace {

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
