// Which backend is picked, and what RAVINE_ISA does. The choice is made once in a process, hence
// each case runs in one of its own.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "backends.hpp"
#include "ravine/error.hpp"
#include "ravine/threads.hpp"

namespace ravine::test {
namespace {

/// Says on the error stream which instruction set is used, or why none is.
[[noreturn]] void report(const char* wanted) {
  if (wanted == nullptr) {
    unsetenv("RAVINE_ISA");
  } else {
    setenv("RAVINE_ISA", wanted, 1);
  }
  try {
    std::fprintf(stderr, "uses %s.", instruction_set());
  } catch (const UnavailableError& error) {
    std::fprintf(stderr, "throws %s", error.what());
  }
  std::_Exit(0);
}

class Dispatch : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

using DispatchDeathTest = Dispatch;

TEST_F(DispatchDeathTest, PicksTheWidestByItself) {
  const std::string expected = std::string("uses ") + backends().back()->name + "\\.";
  EXPECT_EXIT(report(nullptr), testing::ExitedWithCode(0), expected);
  EXPECT_EXIT(report(""), testing::ExitedWithCode(0), expected);
}

TEST_F(DispatchDeathTest, PicksWhatTheEnvironmentNames) {
  for (const cpu::Backend* const backend : backends()) {
    EXPECT_EXIT(report(backend->name), testing::ExitedWithCode(0),
                std::string("uses ") + backend->name + "\\.");
  }
}

TEST_F(Dispatch, NamesAllThatThereAreFromTheWidest) {
  const std::vector<const char*> names = instruction_sets();
  ASSERT_EQ(names.size(), backends().size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_STREQ(names[i], backends()[names.size() - 1 - i]->name);
  }
}

TEST_F(DispatchDeathTest, ThrowsForUnknownName) {
  std::string supported;
  for (const cpu::Backend* const backend : backends()) {
    supported = backend->name + (supported.empty() ? "" : ", " + supported);
  }
  EXPECT_EXIT(report("v9"), testing::ExitedWithCode(0),
              "throws RAVINE_ISA is \"v9\", which this machine or build lacks\\. "
              "Unset it or set it to one of: " +
                  supported + "\\.");
}

TEST_F(DispatchDeathTest, ThrowsAgainIfAskedAgain) {
  EXPECT_EXIT(
      {
        setenv("RAVINE_ISA", "v9", 1);
        int thrown = 0;
        for (int i = 0; i < 2; ++i) {
          try {
            instruction_set();
          } catch (const UnavailableError&) {
            ++thrown;
          }
        }
        std::_Exit(thrown);
      },
      testing::ExitedWithCode(2), "");
}

}  // namespace
}  // namespace ravine::test
