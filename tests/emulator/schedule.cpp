#include "schedule.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>

namespace ravine::emulator {
namespace {

std::atomic<std::uint64_t> current_seed{0}, schedules{0};

}  // namespace

void set_schedule(std::uint64_t seed) {
  current_seed = seed;
  schedules = 0;
}

Schedule::Schedule() : seed_(current_seed), state_(seed_ + (schedules++ << 32)) {}

void Schedule::order(unsigned size, std::vector<unsigned>& numbers) {
  if (seed_ <= 1 && numbers.size() == size) return;
  numbers.resize(size);
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (seed_ == 1) std::reverse(numbers.begin(), numbers.end());
  if (seed_ <= 1) return;
  for (unsigned i = size; i > 1; --i) std::swap(numbers[i - 1], numbers[random_below(i)]);
}

unsigned Schedule::pick(unsigned size, unsigned wanted) {
  if (seed_ == 0) return wanted < size ? wanted : 0;
  if (seed_ == 1) return size > 1 && wanted == size - 1 ? size - 2 : size - 1;
  return random_below(size);
}

// SplitMix64, https://prng.di.unimi.it/splitmix64.c
unsigned Schedule::random_below(unsigned limit) {
  state_ += 0x9e3779b97f4a7c15;
  std::uint64_t bits = state_;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  bits ^= bits >> 31;
  return static_cast<unsigned>(((bits >> 32) * limit) >> 32);
}

}  // namespace ravine::emulator
