// How many threads there are, by the environment and the affinity of the process.
#include "cpu/thread_limit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "ravine/error.hpp"
#include "ravine/threads.hpp"
#include "thrown.hpp"

#if !defined(_WIN32)
#include <sched.h>
#endif

namespace ravine::test {
namespace {

#if !defined(_WIN32)

/// Sets variables of the environment for as long as it lives.
class Environment {
 public:
  Environment(const char* ours, const char* openmp) {
    set("RAVINE_NUM_THREADS", ours);
    set("OMP_NUM_THREADS", openmp);
  }
  ~Environment() {
    set("RAVINE_NUM_THREADS", nullptr);
    set("OMP_NUM_THREADS", nullptr);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static void set(const char* name, const char* value) {
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  }
};

TEST(ThreadLimit, FollowsTheEnvironment) {
  const int all = [] {
    const Environment environment(nullptr, nullptr);
    return cpu::thread_limit();
  }();
  ASSERT_GE(all, 1);
  const auto limit = [](const char* ours, const char* openmp) {
    const Environment environment(ours, openmp);
    return cpu::thread_limit();
  };
  EXPECT_EQ(limit("1", nullptr), 1);
  EXPECT_EQ(limit(nullptr, "1"), 1);
  EXPECT_EQ(limit(nullptr, "1,4"), 1);
  EXPECT_EQ(limit("100000", "1"), all);
  EXPECT_EQ(limit("", nullptr), all);
  EXPECT_EQ(limit("", "1"), 1);
  for (const char* const nothing : {"", "0", "-1", "many", "99999999999999999999"}) {
    EXPECT_EQ(limit(nullptr, nothing), all) << nothing;
    EXPECT_EQ(limit("1", nothing), 1) << nothing;
  }
}

TEST(ThreadLimit, RefusesWhatIsNoNumberOfThreads) {
  for (const std::string wrong : {"0", "-1", "many", "2 threads", "1,4", "99999999999999999999"}) {
    const Environment environment(wrong.c_str(), "1");
    const std::string expected =
        "The environment variable RAVINE_NUM_THREADS must be a positive whole number. Received: "
        "\"" +
        wrong + "\". Set it to one, or unset it.";
    EXPECT_EQ(thrown<ArgumentError>([] { cpu::thread_limit(); }), expected);
    EXPECT_EQ(thrown<ArgumentError>([] { thread_limits(); }), expected);
  }
}

TEST(ThreadLimit, IsTheLeastOfTheBounds) {
  {
    const Environment environment(nullptr, "zero");
    const ThreadLimits limits = thread_limits();
    EXPECT_EQ(cpu::thread_limit(), std::min(limits.cpus, limits.quota.value_or(limits.cpus)));
    EXPECT_FALSE(limits.ravine_num_threads || limits.omp_num_threads);
  }
  const Environment environment("3", "2,1");
  EXPECT_EQ(thread_limits().ravine_num_threads, 3);
  EXPECT_EQ(thread_limits().omp_num_threads, 2);
}

#if defined(__linux__)
TEST(ThreadLimit, FollowsTheAffinity) {
  const Environment environment(nullptr, nullptr);
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(thread_limits().cpus, 1);
  EXPECT_EQ(cpu::thread_limit(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(thread_limits().cpus, CPU_COUNT(&before));
}
#endif

#endif

}  // namespace
}  // namespace ravine::test
