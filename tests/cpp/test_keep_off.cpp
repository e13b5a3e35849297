// Workers leave the CPU of their caller, and otherwise stay where others put them.
#include "cpu/keep_off.hpp"

#include <gtest/gtest.h>

#if defined(__linux__)
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "cpu/pool.hpp"

namespace ravine::test {
namespace {

cpu_set_t of(const std::vector<int>& cpus) {
  cpu_set_t result;
  CPU_ZERO(&result);
  for (const int cpu : cpus) CPU_SET(cpu, &result);
  return result;
}

std::vector<int> allowed() {
  cpu_set_t set;
  std::vector<int> result;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return result;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) result.push_back(cpu);
  }
  return result;
}

void allow(const std::vector<int>& cpus) {
  const cpu_set_t set = of(cpus);
  ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

std::vector<int> without(std::vector<int> cpus, int cpu) {
  std::erase(cpus, cpu);
  return cpus;
}

/// Runs on a thread of its own, whose CPUs are nobody else's affair.
class KeepOff : public testing::Test {
 protected:
  void SetUp() override {
    if (allowed().size() < 2) GTEST_SKIP() << "needs two CPUs";
  }
  static void on_a_thread(const std::function<void()>& body) { std::thread(body).join(); }
};

TEST_F(KeepOff, LeavesTheCpuThatItIsOn) {
  on_a_thread([] {
    const std::vector<int> all = allowed();
    cpu::AllowedCpus cpus;
    for (const int cpu : all) {
      allow({cpu});  // to be there
      allow(all);
      if (cpu::current_cpu() != cpu) continue;
      cpus.keep_off(cpu);
      EXPECT_EQ(allowed(), without(all, cpu));
      EXPECT_NE(cpu::current_cpu(), cpu);
    }
  });
}

TEST_F(KeepOff, StaysIfItIsElsewhere) {
  on_a_thread([] {
    const std::vector<int> all = allowed();
    allow({all[0]});
    cpu::AllowedCpus cpus;
    cpus.keep_off(all[1]);
    cpus.keep_off(-1);
    cpus.keep_off(1 << 20);
    EXPECT_EQ(allowed(), std::vector<int>{all[0]});
  });
}

TEST_F(KeepOff, StaysIfItMayRunNowhereElse) {
  on_a_thread([] {
    const int only = allowed()[1];
    allow({only});
    cpu::AllowedCpus cpus;
    cpus.keep_off(only);
    EXPECT_EQ(allowed(), std::vector<int>{only});
  });
}

TEST_F(KeepOff, ReturnsToOneThatItHasLeft) {
  on_a_thread([] {
    const std::vector<int> two{allowed()[0], allowed()[1]};
    allow(two);
    cpu::AllowedCpus cpus;
    const int first = cpu::current_cpu();
    cpus.keep_off(first);
    const int second = cpu::current_cpu();
    ASSERT_NE(first, second);
    cpus.keep_off(second);
    EXPECT_EQ(allowed(), std::vector<int>{first});
  });
}

TEST_F(KeepOff, KeepsToWhatOthersHaveSetSince) {
  on_a_thread([] {
    cpu::AllowedCpus cpus;
    const int left = cpu::current_cpu();
    cpus.keep_off(left);
    ASSERT_NE(cpu::current_cpu(), left);
    allow({left});
    cpus.keep_off(left);
    EXPECT_EQ(allowed(), std::vector<int>{left});
  });
}

TEST_F(KeepOff, SeparatesWorkersFromTheirCaller) {
  on_a_thread([] {
    const std::vector<int> all = allowed();
    cpu::Pool pool(1);
    const int caller = all[0];
    allow({caller});
    const std::thread::id caller_id = std::this_thread::get_id();
    std::atomic<int> begun{0};
    int worker = -1, meetings = 0;
    const auto body = [&](std::int64_t) {
      // Each item waits for the other, so that the worker takes one.
      for (const int seen = ++begun; seen == 1 && begun.load() == 1;) std::this_thread::yield();
      if (std::this_thread::get_id() == caller_id) return;
      if (worker == -1) {  // to where the caller is
        allow({caller});
        allow(all);
      }
      worker = cpu::current_cpu();
    };
    for (int loop = 0; loop < 100; ++loop) {
      begun = 0;
      pool.run(
          2,
          [](void* context, std::int64_t item) { (*static_cast<decltype(body)*>(context))(item); },
          const_cast<void*>(static_cast<const void*>(&body)));
      if (loop > 0 && worker == caller) ++meetings;
    }
    EXPECT_EQ(meetings, 0);
  });
}

}  // namespace
}  // namespace ravine::test
#endif
