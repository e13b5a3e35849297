// What the tests of the emulator share: launches that run at once, and the emulator as it was.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "emulator.hpp"

namespace ravine::test {

/// Leaves the emulator as it is at the start.
class Emulator : public testing::Test {
 protected:
  void TearDown() override { emulator::reset(); }
};

/// Each test for threads in several orders.
class Schedules : public Emulator, public testing::WithParamInterface<std::uint64_t> {
 protected:
  void SetUp() override { emulator::set_schedule(GetParam()); }
};

inline void run_now(unsigned blocks, unsigned threads, std::function<void()> kernel) {
  emulator::enqueue(nullptr, blocks, threads, std::move(kernel));
}

/// The text of the fault.
inline std::string fault(unsigned threads, std::function<void()> kernel) {
  try {
    run_now(1, threads, std::move(kernel));
  } catch (const emulator::Fault& fault) {
    return fault.what();
  }
  return "(no fault)";
}

}  // namespace ravine::test
