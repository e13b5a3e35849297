// Touching state: each page of the right stretch is there afterwards, and no byte is another.
#include "cpu/first_touch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "backends.hpp"
#include "ravine/threads.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace ravine::test {
namespace {

/// A row of `size` elements whose state lies in `memory`, one array after the other.
Row row_in(std::byte* memory, DType dtype, std::int64_t size) {
  const std::int64_t bytes = size * size_bytes(arithmetic_dtype(dtype));
  Row row;
  row.w.dtype = dtype;
  row.size = size;
  row.slots[0] = memory;
  row.slots[1] = memory + bytes;
  row.average = memory + 2 * bytes;
  row.accumulator = memory + 3 * bytes;
  return row;
}

TEST(FirstTouch, ChangesNothing) {
  for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
    for (const std::int64_t size : {0, 1, 1023, 5000, 100000}) {
      std::vector<std::byte> memory(static_cast<std::size_t>(32 * size) + 1);
      for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = std::byte(i * 31 + 7);
      const std::vector<std::byte> before = memory;
      const Job job({row_in(memory.data(), dtype, size)});
      cpu::touch_state(job.work());
      EXPECT_TRUE(memory == before) << size;
    }
  }
}

#if defined(__linux__)

const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));

/// Zeros that nobody has written, in small pages.
class FreshMemory {
 public:
  explicit FreshMemory(std::size_t pages) : pages_(pages) {
    constexpr int access = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS;
    memory_ = mmap(nullptr, pages * page, access, kind, -1, 0);
    madvise(memory_, pages * page, MADV_NOHUGEPAGE);
  }
  ~FreshMemory() { munmap(memory_, pages_ * page); }
  FreshMemory(const FreshMemory&) = delete;
  FreshMemory& operator=(const FreshMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(memory_); }

  /// The pages that are there, by number.
  std::vector<std::size_t> present() const {
    std::vector<unsigned char> states(pages_);
    EXPECT_EQ(mincore(memory_, pages_ * page, states.data()), 0);
    std::vector<std::size_t> result;
    for (std::size_t i = 0; i < pages_; ++i) {
      if (states[i] & 1) result.push_back(i);
    }
    return result;
  }

 private:
  std::size_t pages_;
  void* memory_;
};

TEST(FirstTouch, ReachesThePagesOfTheChunkAndNoOthers) {
  const auto elements = static_cast<std::int64_t>(page / sizeof(float));
  const FreshMemory memory(40);  // ten for each of four arrays
  const Row row = row_in(memory.data(), DType::float32, 10 * elements);
  cpu::touch_state(row, {3 * elements, 2 * elements, 0});
  EXPECT_EQ(memory.present(), (std::vector<std::size_t>{3, 4, 13, 14, 23, 24, 33, 34}));
  cpu::touch_state(row, {7 * elements - 1, 2, 0});  // the last of a page and the first of the next
  EXPECT_EQ(memory.present(),
            (std::vector<std::size_t>{3, 4, 6, 7, 13, 14, 16, 17, 23, 24, 26, 27, 33, 34, 36, 37}));
  cpu::touch_state(row, {0, 0, 0});
  EXPECT_EQ(memory.present().size(), 16u);
}

TEST(FirstTouch, ReachesAllChunksOnAnyNumberOfThreads) {
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    const FreshMemory memory(4096);
    const auto size = static_cast<std::int64_t>(1024 * page / sizeof(float));
    const Job job({row_in(memory.data(), DType::float32, size)});
    cpu::touch_state(job.work(std::int64_t{1} << 30));
    EXPECT_EQ(memory.present().size(), 4096u) << threads;
  }
  set_num_threads(before);
}

#endif

}  // namespace
}  // namespace ravine::test
