// What a thread of a block is doing, and why none of them can go on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "block.hpp"
#include "fiber.hpp"

namespace ravine::emulator {

enum class State : std::uint8_t { not_started, running, waiting, ready, returned };

struct Thread {
  State state = State::not_started;
  Operation operation{};  ///< in which it waits
  Place place{};
  unsigned mask = 0, source = 0;
  std::uint64_t value = 0;  ///< what it gives, then what it gets
  Fiber* fiber = nullptr;   ///< on whose stack it waits
};

/// Whether both wait in the same `__syncthreads`.
bool at_same_barrier(const Thread& a, const Thread& b);

/// Whether both wait in the same operation of their warp.
bool in_same_exchange(const Thread& a, const Thread& b);

/// The operation and the line of it.
std::string describe(const Thread& thread);

/// Which thread waits for which other, and what that one does instead. At least one waits, and all
/// others wait too or have returned.
std::string describe_deadlock(const std::vector<Thread>& threads);

}  // namespace ravine::emulator
