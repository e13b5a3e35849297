// Elements of the four types between memory and registers, several side by side.
#pragma once

#include <bit>
#include <cstdint>

#include "half.hpp"
#include "memory.cuh"
#include "ravine/tensor.hpp"

namespace ravine::cuda {

/// `count` values of one type, in registers.
template <class T, int count>
struct Pack {
  T at[count];
};

/// Where element `index` is. In bytes, so that arrays of one type share the product: an index of 32
/// bits is enough inside a chunk, and takes half the registers.
template <int size, class Index>
__device__ __forceinline__ const char* address(const void* array, Index index) {
  return static_cast<const char*>(array) + index * static_cast<Index>(size);
}

/// Elements of type T itself.
template <class T, int count, class Index>
__device__ __forceinline__ Pack<T, count> load(const void* array, Index index) {
  return std::bit_cast<Pack<T, count>>(read<count * sizeof(T)>(address<sizeof(T)>(array, index)));
}

template <class T, int count, class Index>
__device__ __forceinline__ void store(void* array, Index index, const Pack<T, count>& values) {
  write<count * sizeof(T)>(const_cast<char*>(address<sizeof(T)>(array, index)),
                           std::bit_cast<Words<count * sizeof(T)>>(values));
}

__device__ __forceinline__ float widen_float16(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<std::uint16_t>(bits)));
  return value;
#else
  return from_float16(static_cast<std::uint16_t>(bits));
#endif
}

__device__ __forceinline__ std::uint16_t round_to_float16(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  return to_float16(value);
#endif
}

/// Elements of any type as they lie in memory, to be decoded later: so that all arrays are asked
/// for before the first is waited for.
template <int count>
struct Undecoded {
  std::uint32_t words[2 * count] = {};
};

template <int count, class Index>
__device__ __forceinline__ Undecoded<count> fetch(DType dtype, const void* array, Index index) {
  Undecoded<count> result;
  const auto read_as = [&]<int size>(std::integral_constant<int, size>) {
    const auto read_words = read<count * size>(address<size>(array, index));
#pragma unroll
    for (int i = 0; i < read_words.count; ++i) result.words[i] = read_words.at[i];
  };
  switch (dtype) {
    case DType::float64:
      read_as(std::integral_constant<int, 8>{});
      break;
    case DType::float32:
      read_as(std::integral_constant<int, 4>{});
      break;
    default:
      read_as(std::integral_constant<int, 2>{});
  }
  return result;
}

/// What was fetched, as values of the type of the arithmetic.
template <class T, int count>
__device__ __forceinline__ Pack<T, count> decode(DType dtype, const Undecoded<count>& from) {
  Pack<T, count> values;
  const auto half = [&](int i) { return from.words[i / 2] >> (16 * (i % 2)) & 0xffff; };
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (dtype == DType::float32) {
      values.at[i] = static_cast<T>(std::bit_cast<float>(from.words[i]));
    } else if (dtype == DType::float64) {
      values.at[i] = static_cast<T>(
          std::bit_cast<double>(std::uint64_t{from.words[2 * i + 1]} << 32 | from.words[2 * i]));
    } else if (dtype == DType::float16) {
      values.at[i] = static_cast<T>(widen_float16(half(i)));
    } else {
      values.at[i] = static_cast<T>(from_bfloat16(static_cast<std::uint16_t>(half(i))));
    }
  }
  return values;
}

/// Rounds values to the type of an array and stores them; they become what the array then holds.
template <class T, int count, class Index>
__device__ __forceinline__ void encode(DType dtype, void* array, Index index,
                                       Pack<T, count>& values) {
  if constexpr (sizeof(T) == 4) {
    if (dtype != DType::float32) {
      Pack<std::uint16_t, count> rounded;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if (dtype == DType::float16) {
          rounded.at[i] = round_to_float16(values.at[i]);
          values.at[i] = widen_float16(rounded.at[i]);
        } else {
          rounded.at[i] = to_bfloat16(values.at[i]);
          values.at[i] = from_bfloat16(rounded.at[i]);
        }
      }
      return store(array, index, rounded);
    }
  }
  store(array, index, values);
}

}  // namespace ravine::cuda
