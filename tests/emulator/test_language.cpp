// The words of CUDA C++ do what CUDA's programming guide says, whatever the order of threads.
#include "language.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "fixtures.hpp"

namespace ravine::test {
namespace {

using Language = Schedules;
INSTANTIATE_TEST_SUITE_P(All, Language, testing::Values(0, 1, 2, 3, 4));

constexpr unsigned full = ~0u;

__global__ void number_threads(unsigned* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] += i + 1 + 1000000 * gridDim.x;
}

TEST_P(Language, EveryThreadOfEveryBlockRunsOnce) {
  for (const unsigned threads : {1u, 2u, 31u, 32u, 33u, 100u, 256u, 1024u}) {
    for (const unsigned blocks : {1u, 2u, 7u}) {
      std::vector<unsigned> out(threads * blocks);
      run_now(blocks, threads, [&] { number_threads(out.data()); });
      for (unsigned i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i + 1 + 1000000 * blocks);
    }
  }
}

__global__ void reverse(const int* in, int* out) {
  __shared__ int values[1024];
  values[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = -1;
}

TEST_P(Language, BarriersSeparateWritesFromReads) {
  for (const int threads : {1, 2, 31, 33, 256, 1023, 1024}) {
    std::vector<int> in(static_cast<std::size_t>(threads)), out(in.size());
    std::iota(in.begin(), in.end(), 1);
    run_now(1, static_cast<unsigned>(threads), [&] { reverse(in.data(), out.data()); });
    for (int i = 0; i < threads; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], threads - i);
  }
}

/// What each thread of a block gets from `value`.
template <class T, class Value>
std::vector<T> each(unsigned threads, const Value& value) {
  std::vector<T> out(threads);
  run_now(1, threads, [&] { out[threadIdx.x] = value(threadIdx.x % 32); });
  return out;
}

TEST_P(Language, ShuffleReadsTheLaneNamed) {
  const auto rotated = each<int>(96, [](unsigned lane) {
    return __shfl_sync(full, static_cast<int>(threadIdx.x), static_cast<int>(lane + 5));
  });
  for (unsigned i = 0; i < 96; ++i) EXPECT_EQ(rotated[i], i / 32 * 32 + (i + 5) % 32);
  const auto sections =
      each<double>(32, [](unsigned lane) { return __shfl_sync(full, lane + 0.5, 3, 8); });
  for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(sections[i], i / 8 * 8 + 3.5);
}

TEST_P(Language, ShuffleXorReadsThePartner) {
  for (const int partner : {1, 7, 16, 31}) {
    const auto out = each<float>(64, [&](unsigned lane) {
      return __shfl_xor_sync(full, static_cast<float>(lane), partner);
    });
    for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(out[i], i % 32 ^ static_cast<unsigned>(partner));
  }
  // Of other sections only the earlier ones can be read.
  const auto out =
      each<unsigned>(32, [](unsigned lane) { return __shfl_xor_sync(full, lane, 8, 8); });
  for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(out[i], i % 16 < 8 ? i : i - 8);
}

TEST_P(Language, ShuffleDownKeepsTheOwnValueBeyondTheSection) {
  for (const unsigned delta : {0u, 1u, 5u, 16u, 31u, 32u, 100u}) {
    for (const int width : {32, 16, 4}) {
      const auto out = each<std::uint64_t>(32, [&](unsigned lane) {
        return __shfl_down_sync(full, std::uint64_t{lane} << 40, delta, width);
      });
      for (unsigned i = 0; i < 32; ++i) {
        const bool inside = i % static_cast<unsigned>(width) + delta < static_cast<unsigned>(width);
        EXPECT_EQ(out[i] >> 40, inside ? i + delta : i) << delta << " of " << width;
      }
    }
  }
}

TEST_P(Language, ShufflesInARowKeepTheirValuesApart) {
  const auto sums = each<int>(256, [](unsigned) {
    int sum = static_cast<int>(threadIdx.x);
    for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(full, sum, half);
    return sum;
  });
  for (unsigned i = 0; i < 256; ++i) EXPECT_EQ(sums[i], i / 32 * 1024 + 496);
}

TEST_P(Language, PartsOfAWarpShuffleByThemselves) {
  const auto out = each<int>(32, [](unsigned lane) {
    int value = static_cast<int>(lane);
    if (lane < 8) {
      for (int half = 4; half > 0; half /= 2) value += __shfl_xor_sync(0xffu, value, half);
    } else {
      value = __shfl_sync(0xffffff00u, value, 31);
    }
    __syncwarp();
    return value + __shfl_sync(full, value, 8);
  });
  for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(out[i], (i < 8 ? 28 : 31) + 31);
}

TEST_P(Language, LastWarpMayBePartial) {
  const auto votes =
      each<unsigned>(37, [](unsigned lane) { return __ballot_sync(full, lane % 2 == 0); });
  for (unsigned i = 0; i < 37; ++i) EXPECT_EQ(votes[i], i < 32 ? 0x55555555u : 0x15u);
  // A lane that is not there has no value; the emulator sets all bits of it.
  const auto beyond = each<unsigned>(37, [](unsigned lane) { return __shfl_sync(full, lane, 5); });
  EXPECT_EQ(beyond[0], 5u);
  EXPECT_EQ(beyond[36], ~0u);
}

TEST_P(Language, VotesCountTheLanesNamed) {
  const auto ballots = each<unsigned>(64, [](unsigned lane) {
    return lane < 4 ? __ballot_sync(0xfu, threadIdx.x != 2) : __ballot_sync(~0xfu, lane == 31);
  });
  EXPECT_EQ(ballots[0], 0xbu);
  EXPECT_EQ(ballots[32], 0xfu);
  EXPECT_EQ(ballots[20], 1u << 31);
  const auto any = each<int>(64, [](unsigned) { return __any_sync(full, threadIdx.x == 40); });
  EXPECT_EQ(any[7], 0);
  EXPECT_EQ(any[60], 1);
}

__global__ void count_with_atomics(int* sum, unsigned* next, double* real, float* exchanged,
                                   unsigned long long* most) {
  atomicAdd(sum, -1);
  atomicAdd(real, 0.5);
  atomicInc(next, 9);
  atomicExch(exchanged, 2.5f);
  const unsigned long long mine = threadIdx.x;
  for (unsigned long long seen = *most; seen < mine;) seen = atomicCAS(most, seen, mine);
  __threadfence();
}

TEST_P(Language, AtomicsReturnTheOldValueAndStoreTheNew) {
  int sum = 0;
  unsigned next = 0;
  double real = 0;
  float exchanged = 0;
  unsigned long long most = 0;
  run_now(4, 256, [&] { count_with_atomics(&sum, &next, &real, &exchanged, &most); });
  EXPECT_EQ(sum, -1024);
  EXPECT_EQ(next, 1024u % 10);
  EXPECT_EQ(real, 512.0);
  EXPECT_EQ(exchanged, 2.5f);
  EXPECT_EQ(most, 255u);
  unsigned value = 7;
  EXPECT_EQ(atomicAdd(&value, 3), 7u);
  EXPECT_EQ(atomicInc(&value, 10), 10u);
  EXPECT_EQ(value, 0u);
  EXPECT_EQ(atomicCAS(&value, 1, 5), 0u);
  EXPECT_EQ(value, 0u);
  EXPECT_EQ(atomicExch(&value, 4), 0u);
  int largest = std::numeric_limits<int>::max();
  atomicAdd(&largest, 1);
  EXPECT_EQ(largest, std::numeric_limits<int>::min());
}

}  // namespace
}  // namespace ravine::test
