// Mistakes in kernels are found in every order of threads, and leave the emulator usable.
#include "block.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fixtures.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ravine::test {
namespace {

using Block = Schedules;
INSTANTIATE_TEST_SUITE_P(All, Block, testing::Values(0, 1, 2, 3, 4));

constexpr unsigned full = ~0u;

/// The text of the fault, without line numbers, which change with every line above them.
std::string unnumbered_fault(unsigned threads, std::function<void()> kernel) {
  std::string text = fault(threads, std::move(kernel));
  for (std::size_t at = 0; (at = text.find(".cpp:", at)) != std::string::npos; at += 4) {
    text.erase(at + 4, text.find(')', at) - at - 4);
  }
  return text;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

__global__ void reverse_without_barrier(int* out) {
  __shared__ int values[64];
  values[threadIdx.x] = static_cast<int>(threadIdx.x) - 1000;
  out[threadIdx.x] = values[63 - threadIdx.x];
  values[threadIdx.x] = 0;  // for the next test
}

__global__ void rotate_twice_with_one_barrier_a_turn(int* out) {
  __shared__ int values[64];
  for (int turn = 0; turn < 2; ++turn) {
    values[threadIdx.x] = turn;
    __syncthreads();
    out[threadIdx.x] += values[(threadIdx.x + 32) % 64];
  }
}

TEST_P(Block, MissingBarrierGivesAWrongResult) {
  std::vector<int> reversed(64), expected(64);
  std::iota(expected.rbegin(), expected.rend(), -1000);
  run_now(1, 64, [&] { reverse_without_barrier(reversed.data()); });
  EXPECT_NE(reversed, expected);
  std::vector<int> sums(64);
  run_now(1, 64, [&] { rotate_twice_with_one_barrier_a_turn(sums.data()); });
  EXPECT_NE(sums, std::vector<int>(64, 1));
}

TEST_P(Block, MissingWarpBarrierGivesAWrongResult) {
  std::vector<int> values(32), out(32), expected(32);
  std::iota(expected.rbegin(), expected.rend(), 1);
  const auto reverse = [&](bool waits) {
    values.assign(32, 0);
    run_now(1, 32, [&, waits] {
      values[threadIdx.x] = static_cast<int>(threadIdx.x) + 1;
      if (waits) __syncwarp();
      out[threadIdx.x] = values[31 - threadIdx.x];
    });
    return out;
  };
  EXPECT_NE(reverse(false), expected);
  EXPECT_EQ(reverse(true), expected);
}

TEST_P(Block, BarrierAfterAReturnIsAFault) {
  EXPECT_EQ(unnumbered_fault(64,
                             [] {
                               if (threadIdx.x >= 32) return;
                               __syncthreads();
                             }),
            "Block 0: thread 0 waits in __syncthreads (test_block.cpp) for thread 32, which has "
            "returned.");
}

__global__ void wait_at_different_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST_P(Block, DifferentBarriersAreAFault) {
  EXPECT_EQ(unnumbered_fault(64, wait_at_different_barriers),
            "Block 0: thread 0 waits in __syncthreads (test_block.cpp) for thread 32, which waits "
            "in __syncthreads (test_block.cpp).");
}

TEST_P(Block, BarrierOfHalfAWarpIsAFault) {
  const std::string text = fault(64, [] {
    if (threadIdx.x % 32 < 16) __syncthreads();
    __syncwarp();
  });
  EXPECT_TRUE(contains(text, "__syncthreads")) << text;
  EXPECT_TRUE(contains(text, "__syncwarp")) << text;
}

TEST_P(Block, ShuffleThatNotAllNamedLanesReachIsAFault) {
  float value = 0;
  EXPECT_EQ(unnumbered_fault(64,
                             [&] {
                               if (threadIdx.x < 16) value = __shfl_xor_sync(full, value, 1);
                             }),
            "Block 0: thread 0 waits in __shfl_xor_sync (test_block.cpp) for thread 16, which has "
            "returned.");
  // The chain of those that wait leads to the one that does not.
  EXPECT_EQ(unnumbered_fault(64,
                             [&] {
                               if (threadIdx.x == 40) return;
                               if (threadIdx.x >= 32) value = __shfl_down_sync(full, value, 1);
                               __syncthreads();
                             }),
            "Block 0: thread 32 waits in __shfl_down_sync (test_block.cpp) for thread 40, which "
            "has returned.");
}

TEST_P(Block, DifferentWarpOperationsAreAFault) {
  const std::string text = fault(32, [] {
    if (threadIdx.x < 16) {
      __ballot_sync(full, 1);
    } else {
      __any_sync(full, 1);
    }
  });
  EXPECT_TRUE(contains(text, "__ballot_sync")) << text;
  EXPECT_TRUE(contains(text, "__any_sync")) << text;
  EXPECT_TRUE(contains(fault(32,
                             [] {
                               if (threadIdx.x < 16) __syncwarp(0xffff);
                               if (threadIdx.x >= 16) __syncwarp(0xfffffff0);
                             }),
                       "has returned"));
}

TEST_P(Block, MaskWithoutTheOwnLaneIsAFault) {
  EXPECT_EQ(unnumbered_fault(1, [] { __syncwarp(2); }),
            "Block 0: thread 0 calls __syncwarp (test_block.cpp) with a mask without its own "
            "lane.");
}

/// Counts the objects that live.
struct Counted {
  explicit Counted(int& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  int& count_;
};

TEST_P(Block, FailureEndsAllThreadsAndLeavesTheEmulatorUsable) {
  int alive = 0, most_alive = 0;
  const auto kernel = [&] {
    const Counted counted(alive);
    most_alive = std::max(most_alive, alive);
    __syncthreads();
    if (threadIdx.x == 20) throw std::runtime_error("from a kernel");
    __syncthreads();
  };
  for (int repeat = 0; repeat < 3; ++repeat) {
    EXPECT_THROW(run_now(3, 256, kernel), std::runtime_error);
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(most_alive, 256);
    unsigned sum = 0;
    run_now(1, 256, [&] {
      __syncthreads();
      atomicAdd(&sum, threadIdx.x);
    });
    EXPECT_EQ(sum, 255u * 128);
  }
}

TEST_P(Block, RunsOnWhicheverThread) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<std::thread> threads;
    std::vector<unsigned> sums(4);
    for (unsigned& sum : sums) {
      threads.emplace_back([&sum] {
        EXPECT_TRUE(contains(fault(64,
                                   [] {
                                     if (threadIdx.x > 5) __syncthreads();
                                   }),
                             "returned"));
        run_now(5, 100, [&sum] {
          __syncthreads();
          atomicAdd(&sum, 1u);
        });
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(sums, std::vector<unsigned>(4, 500));
  }
}

TEST_F(Emulator, TakesThreadsAndBlocksInTheOrderOfTheSchedule) {
  const auto order = [](std::uint64_t seed) {
    emulator::set_schedule(seed);
    std::vector<unsigned> result;
    run_now(3, 4, [&] { result.push_back(blockIdx.x * 4 + threadIdx.x); });
    return result;
  };
  std::vector<unsigned> ascending(12);
  std::iota(ascending.begin(), ascending.end(), 0u);
  EXPECT_EQ(order(0), ascending);
  EXPECT_EQ(order(1), std::vector<unsigned>(ascending.rbegin(), ascending.rend()));
  EXPECT_EQ(order(7), order(7));
  EXPECT_NE(order(7), ascending);
  EXPECT_NE(order(7), order(8));
}

#if defined(__x86_64__)
TEST_F(Emulator, KeepsSubnormalNumbersWhateverTheThreadDoes) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);  // flush to zero, take for zero
  volatile float smallest = std::numeric_limits<float>::min(), half = 0;
  run_now(1, 1, [&] { half = smallest * 0.5f; });
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  EXPECT_GT(half, 0.0f);
  EXPECT_EQ(after & 0x8040, 0x8040u);
}
#endif

#if defined(__SANITIZE_ADDRESS__)
__global__ void reverse_from(unsigned begin, int* out) {
  __shared__ int values[64];
  values[begin + threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void write_local(int* out) {
  int values[4] = {};
  __syncthreads();
  int* volatile pointer = values;
  pointer[threadIdx.x] = 1;
  out[threadIdx.x] = values[0];
}

TEST_F(Emulator, LetsAddressSanitizerSeeIntoKernels) {
  std::vector<int> out(64);
  int* const data = out.data();
  run_now(1, 64, [=] { reverse_from(0, data); });
  run_now(1, 4, [=] { write_local(data); });
  // UndefinedBehaviorSanitizer, if it is there too, sees some of them first.
  EXPECT_DEATH(run_now(1, 64, [=] { reverse_from(1, data); }),
               "global-buffer-overflow|out of bounds");
  EXPECT_DEATH(run_now(1, 65, [=] { data[threadIdx.x] = 1; }), "heap-buffer-overflow");
  EXPECT_DEATH(run_now(1, 5, [=] { write_local(data); }),
               "stack-buffer-overflow|insufficient space");
}
#endif

}  // namespace
}  // namespace ravine::test
