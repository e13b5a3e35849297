// In which order things happen that have no order: threads, blocks, streams.
#pragma once

#include <cstdint>
#include <vector>

namespace ravine::emulator {

/// 0: ascending. 1: descending. Any other seed: in orders drawn at random, the same at each run.
void set_schedule(std::uint64_t seed);

class Schedule {
 public:
  /// As it was set last.
  Schedule();

  /// The numbers below `size`, in the order in which they get their turn. `numbers` is empty or
  /// what this schedule has made of it before.
  void order(unsigned size, std::vector<unsigned>& numbers);

  /// Which of `size` things is next. `wanted` is the one that somebody waits for: the first if
  /// ascending, the last if descending.
  unsigned pick(unsigned size, unsigned wanted);

 private:
  unsigned random_below(unsigned limit);

  std::uint64_t seed_, state_;
};

}  // namespace ravine::emulator
