// The pool: each item exactly once, whoever calls, from wherever, however often.
#include "cpu/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cpu/pool.hpp"
#include "ravine/threads.hpp"
#include "thrown.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace ravine::test {
namespace {

/// Traffic that is worth threads.
constexpr std::int64_t much = std::int64_t{1} << 30;

/// Restores the number of threads.
class Threads : public testing::Test {
 protected:
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};

/// Runs one loop; true if each item was run exactly once.
bool runs_each_item_once(std::int64_t count, std::int64_t bytes = much) {
  std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
  cpu::parallel_for(count, bytes,
                    [&](std::int64_t i) { calls[static_cast<std::size_t>(i)].fetch_add(1); });
  for (const auto& each : calls) {
    if (each.load() != 1) return false;
  }
  return true;
}

TEST_F(Threads, RunEachItemOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    for (const std::int64_t count : {0, 1, 2, 3, 7, 100, 10000}) {
      ASSERT_TRUE(runs_each_item_once(count)) << threads << " threads, " << count << " items";
      ASSERT_TRUE(runs_each_item_once(count, 0));
    }
  }
}

TEST_F(Threads, RunRapidLoopsOfChangingLength) {
  for (const int threads : {2, 5}) {
    set_num_threads(threads);
    for (int repeat = 0; repeat < 5000; ++repeat) {
      ASSERT_TRUE(runs_each_item_once(2 + repeat * 7919 % 61)) << repeat;
    }
  }
}

TEST_F(Threads, SeeWhatTheCallerWroteAndTheCallerSeesTheirs) {
  set_num_threads(4);
  std::vector<int> in(64), out(64);
  for (int repeat = 1; repeat < 2000; ++repeat) {
    for (int& value : in) value = repeat;
    cpu::parallel_for(64, much, [&](std::int64_t i) {
      out[static_cast<std::size_t>(i)] = in[static_cast<std::size_t>(i)] + 1;
    });
    for (const int value : out) ASSERT_EQ(value, repeat + 1);
  }
}

TEST_F(Threads, RunLittleWorkOnTheCaller) {
  set_num_threads(4);
  const auto caller = std::this_thread::get_id();
  cpu::parallel_for(100, 1000,
                    [&](std::int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST_F(Threads, ShareOutLongWork) {
  set_num_threads(2);
  // Two items that wait for each other: only two threads get through.
  std::atomic<int> arrived{0};
  cpu::parallel_for(2, much, [&](std::int64_t) {
    arrived.fetch_add(1);
    while (arrived.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

/// Counts up and waits until all of `count` have; false if they do not come.
bool meet(std::atomic<int>& arrived, int count) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  arrived.fetch_add(1);
  while (arrived.load() < count) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST_F(Threads, TakeTheSameItemsInEveryLoop) {
  constexpr int threads = 3, each = 5;
  set_num_threads(threads);
  std::vector<std::thread::id> first;
  for (int repeat = 0; repeat < 200; ++repeat) {
    // Item k of a share waits for item k of all others: nobody has the time to help.
    std::vector<std::atomic<int>> arrived(each);
    std::vector<std::thread::id> ids(threads * each);
    std::atomic<bool> met{true};
    cpu::parallel_for(threads * each, much, [&](std::int64_t i) {
      ids[static_cast<std::size_t>(i)] = std::this_thread::get_id();
      if (!meet(arrived[static_cast<std::size_t>(i % each)], threads)) met.store(false);
    });
    ASSERT_TRUE(met.load()) << "two items of one share ran at the same time";
    if (first.empty()) first = ids;
    ASSERT_EQ(ids, first) << repeat;
  }
  EXPECT_EQ(first[0], std::this_thread::get_id());
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i], first[i / each * each]) << i;
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), threads);
}

TEST_F(Threads, AreAsManyAsThereAreItems) {
  set_num_threads(8);
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::atomic<int> arrived{0};
    std::atomic<bool> met{true};
    cpu::parallel_for(2, much, [&](std::int64_t) {
      if (!meet(arrived, 2)) met.store(false);
    });
    ASSERT_TRUE(met.load());
  }
}

TEST_F(Threads, HelpOneThatIsHeldUp) {
  set_num_threads(2);
  constexpr std::int64_t count = 16;
  for (const std::int64_t slow : {std::int64_t{0}, count / 2}) {
    std::atomic<int> others{0};
    std::atomic<bool> met{true};
    cpu::parallel_for(count, much, [&](std::int64_t i) {
      if (i != slow) {
        others.fetch_add(1);
      } else if (!meet(others, count)) {  // with itself
        met.store(false);
      }
    });
    EXPECT_TRUE(met.load()) << slow;
  }
}

TEST_F(Threads, RunLoopsInsideLoopsOnTheSameThread) {
  set_num_threads(3);
  std::atomic<int> calls{0};
  cpu::parallel_for(20, much, [&](std::int64_t) {
    const auto outer = std::this_thread::get_id();
    cpu::parallel_for(20, much, [&](std::int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      calls.fetch_add(1);
    });
  });
  EXPECT_EQ(calls.load(), 400);
}

TEST_F(Threads, ServeManyCallersAtOnce) {
  set_num_threads(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 300; ++repeat) {
        if (!runs_each_item_once(2 + repeat % 50)) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(Threads, NumberCanChangeBetweenAndDuringLoops) {
  for (int repeat = 0; repeat < 100; ++repeat) {
    set_num_threads(1 + repeat % 5);
    EXPECT_EQ(num_threads(), 1 + repeat % 5);
    ASSERT_TRUE(runs_each_item_once(100));
  }
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int i = 0; !stop.load(); ++i) set_num_threads(1 + i % 4);
  });
  bool right = true;
  for (int repeat = 0; repeat < 200; ++repeat) right &= runs_each_item_once(64);
  stop.store(true);
  changer.join();
  EXPECT_TRUE(right);
}

TEST_F(Threads, NumberMustBePositive) {
  EXPECT_EQ(thrown<ArgumentError>([] { set_num_threads(0); }),
            "The number of threads must be at least 1. Received: 0.");
  EXPECT_EQ(thrown<ArgumentError>([] { set_num_threads(-2); }),
            "The number of threads must be at least 1. Received: -2.");
  EXPECT_GE(num_threads(), 1);
}

TEST_F(Threads, PassOnExceptionsOfALoopOnTheCaller) {
  set_num_threads(4);
  const auto fail = [](std::int64_t i) {
    if (i == 3) throw std::runtime_error("item 3");
  };
  EXPECT_EQ(thrown<std::runtime_error>([&] { cpu::parallel_for(10, 0, fail); }), "item 3");
  EXPECT_TRUE(runs_each_item_once(100));
}

TEST(Pool, RunsLoopsAndStopsAtOnce) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    cpu::Pool pool(3);
    EXPECT_EQ(pool.workers(), 3);
    std::atomic<int> calls{0};
    for (int loop = 0; loop < repeat % 4; ++loop) {
      pool.run(
          10,
          [](void* context, std::int64_t) {
            static_cast<std::atomic<int>*>(context)->fetch_add(1);
          },
          &calls);
    }
    EXPECT_EQ(calls.load(), 10 * (repeat % 4));
  }
}

TEST(Pool, NeverRunsAnItemOfAnotherLoop) {
  // Loops of two and of many items in turn: a worker that is late for one must not touch the next.
  struct Loop {
    std::atomic<int> calls[64]{};
    std::atomic<int> strangers{0};
    std::int64_t count = 0;
  };
  cpu::Pool pool(4);
  const auto body = [](void* context, std::int64_t item) {
    Loop& loop = *static_cast<Loop*>(context);
    if (item < loop.count) {
      loop.calls[item].fetch_add(1);
    } else {
      loop.strangers.fetch_add(1);
    }
  };
  for (int repeat = 0; repeat < 20000; ++repeat) {
    const auto loop = std::make_unique<Loop>();
    loop->count = repeat % 2 == 0 ? 2 : 64;
    pool.run(static_cast<std::uint32_t>(loop->count), body, loop.get());
    ASSERT_EQ(loop->strangers.load(), 0) << repeat;
    for (std::int64_t i = 0; i < loop->count; ++i) ASSERT_EQ(loop->calls[i].load(), 1) << repeat;
  }
}

#if !defined(_WIN32)

/// Exit status of a child that runs `call`.
template <class Call>
int status_of_child(const Call& call) {
  const pid_t child = fork();
  if (child == 0) _exit(call() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

#if defined(__SANITIZE_THREAD__)
#define RAVINE_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RAVINE_THREAD_SANITIZER
#endif
#endif

/// ThreadSanitizer does not support a child that starts threads after a process with several
/// threads forked: a lock of its own may be held for ever in the child.
bool can_fork_with_threads() {
#if defined(RAVINE_THREAD_SANITIZER)
  return false;
#else
  return true;
#endif
}

TEST_F(Threads, WorkInAForkedChild) {
  if (!can_fork_with_threads()) GTEST_SKIP() << "ThreadSanitizer cannot follow the child";
  set_num_threads(3);
  ASSERT_TRUE(runs_each_item_once(100));
  const auto child = [] {
    for (int repeat = 0; repeat < 100; ++repeat) {
      if (!runs_each_item_once(100)) return false;
    }
    return true;
  };
  EXPECT_EQ(status_of_child(child), 0);
  EXPECT_EQ(status_of_child([&] { return child() && status_of_child(child) == 0; }), 0);
  EXPECT_TRUE(runs_each_item_once(100));
}

/// As `runs_each_item_once`, without the heap: a thread that forks while another one holds a lock
/// of AddressSanitizer's heap has a child that waits for it for ever.
bool runs_32_items_once(std::array<std::atomic<int>, 32>& calls) {
  for (auto& each : calls) each.store(0);
  cpu::parallel_for(32, much, [&](std::int64_t i) { calls[static_cast<std::size_t>(i)] += 1; });
  return std::ranges::all_of(calls, [](const auto& each) { return each.load() == 1; });
}

TEST_F(Threads, WorkInAChildForkedDuringALoop) {
  if (!can_fork_with_threads()) GTEST_SKIP() << "ThreadSanitizer cannot follow the child";
  set_num_threads(3);
  static std::array<std::atomic<int>, 32> calls, calls_of_other;
  ASSERT_TRUE(runs_32_items_once(calls));  // makes the threads that both use
  std::atomic<bool> stop{false}, runs{false};
  std::thread other([&] {
    for (; !stop.load(); runs.store(true)) runs_32_items_once(calls_of_other);
  });
  while (!runs.load()) std::this_thread::yield();
  for (int repeat = 0; repeat < 20; ++repeat) {
    EXPECT_EQ(status_of_child([] { return runs_32_items_once(calls); }), 0);
  }
  stop.store(true);
  other.join();
}

#endif

}  // namespace
}  // namespace ravine::test
