#include "ravine/loss_scale.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "model.hpp"
#include "ravine/error.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

TEST(LossScale, DoublesAfterSoManyFiniteStepsAndHalvesAfterOther) {
  LossScale scale{.dynamic_growth_steps = 2, .dynamic_scale = 8.0f};
  std::vector<float> scales;
  for (const bool finite : {true, true, false, true, true, true, false, false}) {
    scale.move_on(finite);
    scales.push_back(scale.dynamic_scale);
  }
  EXPECT_EQ(scales, (std::vector<float>{8, 16, 8, 8, 16, 16, 8, 4}));
}

TEST(LossScale, AndItsInverseStayOrdinaryNumbers) {
  LossScale scale{.dynamic_growth_steps = 1, .dynamic_scale = LossScale::lowest};
  scale.move_on(false);
  EXPECT_EQ(scale.dynamic_scale, LossScale::lowest);
  EXPECT_EQ(static_cast<float>(scale.gradient_scale()), LossScale::highest);
  scale.dynamic_scale = LossScale::highest;
  scale.move_on(true);
  EXPECT_EQ(scale.dynamic_scale, LossScale::highest);
  EXPECT_EQ(static_cast<float>(scale.gradient_scale()), LossScale::lowest);
  // From above half of the highest it would leave the range.
  scale.dynamic_scale = 0x1.8p125f;
  scale.move_on(true);
  EXPECT_EQ(scale.dynamic_scale, LossScale::highest);
  EXPECT_NO_THROW(scale.check());
}

TEST(LossScale, OutOfRangeIsRefused) {
  EXPECT_EQ(thrown<ArgumentError>([] { LossScale{.dynamic_growth_steps = 0}.check(); }),
            "dynamic_growth_steps must be at least 1. Received: 0.");
  EXPECT_EQ(thrown<ArgumentError>(
                [] { LossScale{.dynamic_growth_steps = 2, .step_counter = 2}.check(); }),
            "step_counter must be at least 0 and below dynamic_growth_steps. Received: 2.");
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    LossScale scale;
    scale.dynamic_scale = bad;
    EXPECT_THROW(scale.check(), ArgumentError);
  }
}

TEST(LossScale, LeavesOutAStepAndNothingElse) {
  std::vector<float> w = random_values<float>(3000, 1), average(3000), accumulator(3000);
  std::vector<float> momentum(3000), velocity(3000), g = random_values<float>(3000, 2);
  const auto view = [](std::vector<float>& each) {
    return TensorView(each.data(), static_cast<std::int64_t>(each.size()));
  };
  Plan plan(
      {Variable{"w", view(w), {view(momentum), view(velocity)}, view(average), view(accumulator)}});
  AnyRule rule = Nadam{};
  LossScale scale{.dynamic_scale = 4.0f};
  Options options;
  options.global_clipnorm = 1.0;
  options.use_ema = true;
  const auto step = [&] {
    const TensorView gradient = view(g);
    return plan.step(rule, options, 0.1, 0, {&gradient, 1}, nullptr, &scale);
  };
  const auto before = w;
  g.back() = std::numeric_limits<float>::infinity();
  const StepReport report = step();
  EXPECT_TRUE(report.skipped);
  EXPECT_FALSE(report.updated);
  EXPECT_EQ(report.gradients, 1);
  EXPECT_EQ(w, before);
  EXPECT_EQ(momentum, std::vector<float>(3000));
  EXPECT_EQ(average, std::vector<float>(3000));
  EXPECT_EQ(std::get<Nadam>(rule).momentum_product, 1.0);
  EXPECT_EQ(scale.dynamic_scale, 2.0f);

  g.back() = 1.0f;
  EXPECT_TRUE(step().updated);
  EXPECT_NE(w, before);
  EXPECT_EQ(scale.step_counter, 1);
}

}  // namespace
}  // namespace ravine::test
