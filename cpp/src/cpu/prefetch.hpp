// Asking for memory ahead of its use. Included by what loop.cpp includes alone.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#endif

namespace ravine::cpu {
namespace {

/// Asks for the cache lines of `count` elements that begin `distance` elements further on, which
/// may lie behind an array. Arithmetic keeps so many instructions in flight that the processor
/// alone does not look far enough. Inlined at once: GCC takes a function that does nothing else for
/// one without effect, and leaves its calls out.
template <class T>
[[gnu::always_inline]] inline void fetch_ahead(const T* elements, std::int64_t distance,
                                               std::int64_t count) {
  const auto ahead = reinterpret_cast<std::uintptr_t>(elements) +
                     static_cast<std::uintptr_t>(distance) * sizeof(T);
  const auto bytes = static_cast<std::uintptr_t>(count) * sizeof(T);
  for (std::uintptr_t line = 0; line < bytes; line += 64) {
    [[maybe_unused]] const auto* const address = reinterpret_cast<const char*>(ahead + line);
#if defined(_MSC_VER) && defined(_M_X64)
    _mm_prefetch(address, _MM_HINT_T0);
#elif defined(__GNUC__)
    __builtin_prefetch(address);
#endif
  }
}

}  // namespace
}  // namespace ravine::cpu
