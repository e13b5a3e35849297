// Reads and writes of 2 to 16 bytes at a time. The addresses come from tables, so the compiler
// cannot know that they are of global memory and would test for it at each access: hence the
// instructions by name.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "platform.cuh"

namespace ravine::cuda {

/// So many bytes as they come; of 2, the second half of the word is 0.
template <int bytes>
struct Words {
  static constexpr int count = bytes < 4 ? 1 : bytes / 4;
  using Word = std::conditional_t<bytes == 2, std::uint16_t, std::uint32_t>;
  Word at[count];
};

template <int bytes>
__device__ __forceinline__ Words<bytes> read(const void* address) {
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes % 16 == 0);
  Words<bytes> words;
#if defined(__CUDA_ARCH__)
  const std::size_t global = __cvta_generic_to_global(address);
  if constexpr (bytes == 2) {
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(words.at[0]) : "l"(global));
  } else if constexpr (bytes == 4) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(words.at[0]) : "l"(global));
  } else if constexpr (bytes == 8) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];"
                 : "=r"(words.at[0]), "=r"(words.at[1])
                 : "l"(global));
  } else {
#pragma unroll
    for (int i = 0; i < words.count; i += 4) {
      asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words.at[i]), "=r"(words.at[i + 1]), "=r"(words.at[i + 2]),
                     "=r"(words.at[i + 3])
                   : "l"(global + 4 * i));
    }
  }
#else
  struct alignas(std::min(bytes, 16)) Aligned {
    Words<bytes> words;
  };
  words = static_cast<const Aligned*>(address)->words;
#endif
  return words;
}

template <int bytes>
__device__ __forceinline__ void write(void* address, const Words<bytes>& words) {
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16);
#if defined(__CUDA_ARCH__)
  const std::size_t global = __cvta_generic_to_global(address);
  if constexpr (bytes == 2) {
    asm volatile("st.global.u16 [%0], %1;" ::"l"(global), "h"(words.at[0]) : "memory");
  } else if constexpr (bytes == 4) {
    asm volatile("st.global.u32 [%0], %1;" ::"l"(global), "r"(words.at[0]) : "memory");
  } else if constexpr (bytes == 8) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(global), "r"(words.at[0]),
                 "r"(words.at[1])
                 : "memory");
  } else {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(global), "r"(words.at[0]),
                 "r"(words.at[1]), "r"(words.at[2]), "r"(words.at[3])
                 : "memory");
  }
#else
  struct alignas(std::min(bytes, 16)) Aligned {
    Words<bytes> words;
  };
  static_cast<Aligned*>(address)->words = words;
#endif
}

}  // namespace ravine::cuda
