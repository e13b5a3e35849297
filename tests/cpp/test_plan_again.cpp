// Plan: a step with the gradients of the last one, of which nothing is asked again.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "guarded.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/plan.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

/// Two variables in a plan, with all state that options may ask for.
struct Small {
  std::vector<float> w[2]{{1, -2, 3}, {4}};
  std::vector<float> average[2]{{0, 0, 0}, {0}}, accumulator[2]{{0, 0, 0}, {0}};
  std::vector<float> momentum[2]{{0, 0, 0}, {0}};
  std::vector<float> g[2]{{0.5f, 7, -1}, {-3}};
  AnyRule rule = SGD{.momentum = 0.9};
  Plan plan{bound()};

  static TensorView view(std::vector<float>& values) {
    return {values.data(), static_cast<std::int64_t>(values.size())};
  }
  std::vector<Variable> bound() {
    std::vector<Variable> all;
    for (int i = 0; i < 2; ++i) {
      all.push_back({"", view(w[i]), {view(momentum[i])}, view(average[i]), view(accumulator[i])});
    }
    return all;
  }
  std::vector<TensorView> gradients(bool with_second = true) {
    return {view(g[0]), with_second ? view(g[1]) : TensorView()};
  }
  StepReport step(const Options& options, std::int64_t iteration, bool with_second = true) {
    return plan.step(rule, options, 0.1, iteration, gradients(with_second));
  }
  StepReport again(const Options& options, std::int64_t iteration) {
    return plan.step_again(rule, options, 0.1, iteration);
  }
  bool operator==(const Small& other) const {
    bool equal = true;
    for (int i = 0; i < 2; ++i) {
      equal &= same_bits(w[i], other.w[i]) && same_bits(average[i], other.average[i]) &&
               same_bits(momentum[i], other.momentum[i]) &&
               same_bits(accumulator[i], other.accumulator[i]);
    }
    return equal;
  }
};

std::vector<Options> some_options() {
  std::vector<Options> all(4);
  all[1].global_clipnorm = 1.0;
  all[2].gradient_accumulation_steps = 3;
  all[3].use_ema = true;
  all[3].weight_decay = 0.1;
  return all;
}

TEST(PlanAgain, EqualsAStepWithTheSameGradients) {
  for (const Options& options : some_options()) {
    for (const bool with_second : {true, false}) {
      Small one, other;
      for (std::int64_t i = 0; i < 2; ++i) {
        one.step(options, i, with_second);
        i == 0 ? other.step(options, i, with_second) : other.again(options, i);
      }
      EXPECT_TRUE(one == other);
    }
  }
}

TEST(PlanAgain, ReadsWhatTheGradientsHoldNow) {
  Small one, other;
  one.step({}, 0);
  other.step({}, 0);
  one.g[0][1] = other.g[0][1] = 100;
  one.step({}, 1);
  const StepReport report = other.again({}, 1);
  EXPECT_TRUE(report.updated);
  EXPECT_EQ(report.gradients, 2);
  EXPECT_TRUE(one == other);
}

TEST(PlanAgain, HasALossScaleToo) {
  Small small;
  LossScale scale;
  small.plan.step(small.rule, {}, 0.1, 0, small.gradients(), nullptr, &scale);
  small.g[0][0] = std::numeric_limits<float>::infinity();
  const float before = scale.dynamic_scale;
  EXPECT_TRUE(small.plan.step_again(small.rule, {}, 0.1, 1, nullptr, {}, &scale).skipped);
  EXPECT_EQ(scale.dynamic_scale, before / 2);
}

TEST(PlanAgain, IsRefusedWhereThereAreNoneOrOthersByNow) {
  const std::string message = "There are no gradients of a step before.";
  Small small;
  EXPECT_FALSE(small.plan.holds_gradients());
  EXPECT_EQ(thrown<ArgumentError>([&] { small.again({}, 0); }), message);
  small.step({}, 0);
  EXPECT_TRUE(small.plan.holds_gradients());
  small.plan.overwrite_with_averages();
  EXPECT_FALSE(small.plan.holds_gradients());
  EXPECT_EQ(thrown<ArgumentError>([&] { small.again({}, 1); }), message);
}

TEST(PlanAgain, ZerosAtTheEndOfAWindowAreNotTheGradients) {
  Options options;
  options.gradient_accumulation_steps = 2;
  Small small;
  small.step(options, 0);
  small.step(options, 1, false);
  EXPECT_FALSE(small.plan.holds_gradients());
}

TEST(PlanAgain, AStepThatIsRefusedLeavesNone) {
  Small small;
  small.step({}, 0);
  std::vector<TensorView> views = small.gradients();
  views[1].size = 2;
  EXPECT_NE(thrown<ArgumentError>([&] { small.plan.step(small.rule, {}, 0.1, 1, views); }), "");
  EXPECT_FALSE(small.plan.holds_gradients());
}

TEST(PlanAgain, ChecksAllElse) {
  Small small;
  small.step({}, 0);
  Options wrong;
  wrong.clipnorm = -1.0;
  EXPECT_NE(thrown<ArgumentError>([&] { small.again(wrong, 1); }), "");
  EXPECT_EQ(thrown<ArgumentError>([&] {
              small.plan.step_again(small.rule, {}, std::numeric_limits<double>::infinity(), 1);
            }),
            "learning_rate must be finite.");
  EXPECT_NE(thrown<ArgumentError>([&] { small.again({}, -1); }), "");
  EXPECT_TRUE(small.plan.holds_gradients());
}

}  // namespace
}  // namespace ravine::test
