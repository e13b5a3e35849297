#include "first_touch.hpp"

#include <cstddef>
#include <cstdint>

#include "threads.hpp"

#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace ravine::cpu {
namespace {

/// The smallest of any system.
constexpr std::uintptr_t page = 4096;

/// Not a constant, lest the compiler find that nothing is to be written.
const volatile char no_bits = 0;

/// Atomic, for others may read; and one access: a page that is read first is mapped to zeros that
/// all share, and some kernels then replace it by a small page where a large one was to be had.
void touch(std::uintptr_t address) {
#if defined(_MSC_VER)
  _InterlockedOr8(reinterpret_cast<volatile char*>(address), no_bits);
#else
  __atomic_fetch_or(reinterpret_cast<char*>(address), no_bits, __ATOMIC_RELAXED);
#endif
}

void touch(const void* array, std::int64_t begin, std::int64_t size, int item) {
  if (array == nullptr) return;
  std::uintptr_t address =
      reinterpret_cast<std::uintptr_t>(array) + static_cast<std::uintptr_t>(begin * item);
  const std::uintptr_t end = address + static_cast<std::uintptr_t>(size * item);
  for (; address < end; address = (address / page + 1) * page) touch(address);
}

}  // namespace

void touch_state(const Row& row, const Chunk& chunk) {
  const int item = size_bytes(arithmetic_dtype(row.w.dtype));
  for (const void* const slot : row.slots) touch(slot, chunk.begin, chunk.size, item);
  touch(row.average, chunk.begin, chunk.size, item);
  touch(row.accumulator, chunk.begin, chunk.size, item);
}

void touch_state(const Work& work) {
  parallel_for(work.item_count, work.bytes, [&](std::int64_t item) {
    for (std::int64_t i = work.items[item]; i < work.items[item + 1]; ++i) {
      touch_state(work.rows[work.chunks[i].row], work.chunks[i]);
    }
  });
}

}  // namespace ravine::cpu
