// Elements of the four types to and from the type of the arithmetic. Included by loop.cpp alone,
// hence compiled for each instruction set.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "half.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cpu {
namespace {

/// The 16-bit types, told apart. Enumerations: of structures compilers make scalar code.
enum class Float16 : std::uint16_t {};
enum class Bfloat16 : std::uint16_t {};

/// One element to the type of the arithmetic, and back.
template <class T, class Raw>
inline T widened(Raw raw) {
  if constexpr (std::is_same_v<Raw, Float16>) {
    return static_cast<T>(from_float16(static_cast<std::uint16_t>(raw)));
  } else if constexpr (std::is_same_v<Raw, Bfloat16>) {
    return static_cast<T>(from_bfloat16(static_cast<std::uint16_t>(raw)));
  } else {
    return static_cast<T>(raw);
  }
}
template <class Raw, class T>
inline Raw rounded(T value) {
  if constexpr (std::is_same_v<Raw, Float16>) {
    return static_cast<Raw>(to_float16(static_cast<float>(value)));
  } else if constexpr (std::is_same_v<Raw, Bfloat16>) {
    return static_cast<Raw>(to_bfloat16(static_cast<float>(value)));
  } else {
    return static_cast<Raw>(value);
  }
}

/// Widens or rounds `count` raw elements of type `dtype` to `values`.
template <class T>
void load(DType dtype, const std::byte* raw, std::int64_t count, T* values) {
  const auto each = [&]<class Raw>(Raw) {
    const Raw* const in = reinterpret_cast<const Raw*>(raw);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) values[i] = widened<T>(in[i]);
  };
  switch (dtype) {
    case DType::float32:
      return each(float{});
    case DType::float64:
      return each(double{});
    case DType::bfloat16:
      return each(Bfloat16{});
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
  each(Float16{});
}

/// Rounds `count` values to raw elements of type `dtype`.
template <class T>
void store(DType dtype, const T* values, std::int64_t count, std::byte* raw) {
  const auto each = [&]<class Raw>(Raw) {
    Raw* const out = reinterpret_cast<Raw*>(raw);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) out[i] = rounded<Raw>(values[i]);
  };
  switch (dtype) {
    case DType::float32:
      return each(float{});
    case DType::float64:
      return each(double{});
    case DType::bfloat16:
      return each(Bfloat16{});
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
  each(Float16{});
}

}  // namespace
}  // namespace ravine::cpu
