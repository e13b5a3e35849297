// Plan: the checks with the text of their messages; a step that throws has changed nothing.
#include "ravine/plan.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "guarded.hpp"
#include "plain_step.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

// ---------------------------------------------------------------------------- checks, as texts

/// A variable `w` of 6 elements with one slot, average and accumulator, all of which fit.
struct Fitting {
  std::vector<float> w = std::vector<float>(6), slot = w, average = w, accumulator = w, g = w;
  std::vector<double> twice = std::vector<double>(6);
  Variable variable{"kernel",
                    TensorView(w.data(), 6),
                    {TensorView(slot.data(), 6)},
                    TensorView(average.data(), 6),
                    TensorView(accumulator.data(), 6)};

  std::string message() const {
    return thrown<ArgumentError>([&] { Plan plan({variable}); });
  }
};

TEST(PlanChecks, AcceptsWhatFits) {
  const Fitting fitting;
  EXPECT_EQ(fitting.message(), "(no exception)");
  EXPECT_EQ(Plan({fitting.variable}).size(), 1u);
}

TEST(PlanChecks, RejectsReadOnlyVariable) {
  Fitting fitting;
  fitting.variable.value.writable = false;
  EXPECT_EQ(fitting.message(),
            "Variables are updated in place, and variable 0 ('kernel') is read-only. Pass a "
            "writable array.");
  fitting.variable.name = "";
  EXPECT_EQ(fitting.message(),
            "Variables are updated in place, and variable 0 is read-only. Pass a writable array.");
}

TEST(PlanChecks, RejectsStateOfAnotherType) {
  Fitting fitting;
  fitting.variable.slots[0] = TensorView(fitting.twice.data(), 6);
  EXPECT_EQ(thrown<TypeError>([&] { Plan plan({fitting.variable}); }),
            "A slot of variable 0 ('kernel') must be of type float32. Received: float64.");
  fitting.variable.slots[0] = TensorView(fitting.twice.data(), 6, DType::float16);
  EXPECT_EQ(fitting.message(),
            "A slot of variable 0 ('kernel') must be of type float32. Received: float16.");
  fitting.variable.slots.clear();
  fitting.variable.value = TensorView(fitting.twice.data(), 6);
  EXPECT_EQ(fitting.message(),
            "The average of variable 0 ('kernel') must be of type float64. Received: float32.");
  // 16-bit variables keep their state in float32.
  fitting.variable.value = TensorView(fitting.twice.data(), 6, DType::bfloat16);
  EXPECT_EQ(fitting.message(), "(no exception)");
  fitting.variable.accumulator = TensorView(fitting.g.data(), 6, DType::bfloat16);
  EXPECT_EQ(
      fitting.message(),
      "The accumulator of variable 0 ('kernel') must be of type float32. Received: bfloat16.");
}

TEST(PlanChecks, RejectsStateThatDoesNotFit) {
  const char* const expected =
      "A slot of variable 0 ('kernel') must be a writable array of 6 elements on the device of the "
      "variable.";
  Fitting fitting;
  TensorView& slot = fitting.variable.slots[0];
  slot.size = 5;
  EXPECT_EQ(fitting.message(), expected);
  slot.size = 6;
  slot.writable = false;
  EXPECT_EQ(fitting.message(), expected);
  slot.writable = true;
  slot.device = {DeviceType::cuda, 0};
  EXPECT_EQ(fitting.message(), expected);
  slot.device = {};
  slot.present = false;
  EXPECT_EQ(fitting.message(), expected);
}

TEST(PlanChecks, RejectsStateWithGapsOrMisaligned) {
  Fitting fitting;
  std::vector<float> wide(12);
  const std::int64_t size = 6, stride = 8;
  fitting.variable.average = TensorView(wide.data(), 6);
  fitting.variable.average.shape = &size;
  fitting.variable.average.strides_bytes = &stride;
  const char* const expected =
      "The average of variable 0 ('kernel') must be aligned and without gaps.";
  EXPECT_EQ(fitting.message(), expected);
  fitting.variable.average =
      TensorView(reinterpret_cast<std::byte*>(wide.data()) + 2, 6, DType::float32);
  EXPECT_EQ(fitting.message(), expected);
}

TEST(PlanChecks, RejectsArraysThatShareMemory) {
  Fitting a, b;
  b.variable.name = "bias";
  const auto message = [&] {
    return thrown<ArgumentError>([&] { Plan plan({a.variable, b.variable}); });
  };
  EXPECT_EQ(message(), "(no exception)");
  b.variable.value = a.variable.value;
  b.variable.value.size = 6;
  EXPECT_EQ(message(),
            "Two arrays that a step writes share memory: variable 0 ('kernel') and variable 1 "
            "('bias'). Give each array once.");
  b.variable.value = b.variable.average;
  EXPECT_EQ(message(),
            "Two arrays that a step writes share memory: variable 1 ('bias') and the state of "
            "variable 1 ('bias'). Give each array once.");
}

TEST(PlanChecks, RejectsVariableThatOverlapsItself) {
  std::vector<float> w(6);
  const std::int64_t shape[] = {2, 3}, strides[] = {4, 4};
  TensorView value(w.data(), 6);
  value.rank = 2;
  value.shape = shape;
  value.strides_bytes = strides;
  EXPECT_EQ(thrown<ArgumentError>([&] { Plan plan({{"w", value, {}, {}, {}}}); }),
            "Elements of variable 0 ('w') share memory with each other. Pass a copy.");
}

TEST(PlanChecks, AcceptsInterleavedVariables) {
  std::vector<float> both(12, 1.0f), g(6, 1.0f);
  const std::int64_t size = 6, stride = 8;
  TensorView even(both.data(), 6), odd(both.data() + 1, 6);
  even.shape = odd.shape = &size;
  even.strides_bytes = odd.strides_bytes = &stride;
  Plan plan({{"even", even, {}, {}, {}}, {"odd", odd, {}, {}, {}}});
  AnyRule rule = SGD{};
  const TensorView gradients[] = {TensorView(g.data(), 6), {}};
  plan.step(rule, {}, 1.0, 0, gradients);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(both[i], i % 2 == 0 ? 0.0f : 1.0f);
}

TEST(PlanChecks, RejectsDifferentNumbersOfSlots) {
  Fitting a, b;
  b.variable.slots.clear();
  const char* const expected = "All variables must have the same number of slots, at most 3.";
  EXPECT_EQ(thrown<ArgumentError>([&] { Plan plan({a.variable, b.variable}); }), expected);
  std::vector<std::vector<float>> many(4, std::vector<float>(6));
  for (auto& slot : many) b.variable.slots.emplace_back(slot.data(), 6);
  EXPECT_EQ(thrown<ArgumentError>([&] { Plan plan({b.variable}); }), expected);
}

TEST(PlanChecks, RejectsArraysOnAGpu) {
  Fitting a, b;
  b.variable.value.device = {DeviceType::cuda, 0};
  EXPECT_EQ(thrown<ArgumentError>([&] { Plan plan({a.variable, b.variable}); }),
            "All variables must be on one device; the first is on the CPU, variable 1 ('kernel') "
            "is on GPU 0. Move them, or use an optimizer for each device.");
}

/// A model of two variables, `kernel` (2 by 3) and one without a name (5), and good gradients.
class PlanStep : public testing::Test {
 protected:
  std::vector<float> kernel_ = random_values<float>(6, 1), bias_ = random_values<float>(5, 2);
  std::vector<float> kernel_slot_ = std::vector<float>(6), bias_slot_ = std::vector<float>(5);
  std::vector<float> kernel_g_ = random_values<float>(6, 3), bias_g_ = random_values<float>(5, 4);
  const std::int64_t shape_[2] = {2, 3};
  AnyRule rule_ = SGD{.momentum = 0.9};
  Options options_;
  double learning_rate_ = 0.1;
  std::vector<TensorView> gradients_;
  std::optional<Plan> plan_;

  void SetUp() override {
    Variable kernel{"kernel", TensorView(kernel_.data(), 6), {}, {}, {}};
    kernel.value.rank = 2;
    kernel.value.shape = shape_;
    kernel.slots = {TensorView(kernel_slot_.data(), 6)};
    Variable bias{"", TensorView(bias_.data(), 5), {TensorView(bias_slot_.data(), 5)}, {}, {}};
    plan_.emplace(std::vector{kernel, bias});
    gradients_ = {TensorView(kernel_g_.data(), 6), TensorView(bias_g_.data(), 5)};
    gradients_[0].rank = 2;
    gradients_[0].shape = shape_;
  }

  /// The text of what a step throws; it must have changed nothing, and the next step must work.
  template <class Expected = ArgumentError>
  std::string message() {
    const auto arrays = [&] { return std::vector{kernel_, bias_, kernel_slot_, bias_slot_}; };
    const auto before = arrays();
    const std::string text =
        thrown<Expected>([&] { plan_->step(rule_, options_, learning_rate_, 0, gradients_); });
    EXPECT_EQ(arrays(), before);
    return text;
  }
};

TEST_F(PlanStep, TakesWhatFits) {
  EXPECT_EQ(thrown<Error>([&] { plan_->step(rule_, options_, learning_rate_, 0, gradients_); }),
            "(no exception)");
}

TEST_F(PlanStep, RejectsGradientOfOtherShape) {
  const std::int64_t transposed[] = {3, 2}, longer[] = {2, 4}, flat[] = {6}, deep[] = {1, 2, 3};
  const auto with = [&](int rank, const std::int64_t* shape, std::int64_t size) {
    gradients_[0].rank = rank;
    gradients_[0].shape = shape;
    gradients_[0].size = size;
    return message();
  };
  const std::string rest =
      ", variable 0 ('kernel') has shape (2, 3). Pass the gradients in the order of the variables.";
  EXPECT_EQ(with(2, transposed, 6), "Gradient 0 has shape (3, 2)" + rest);
  EXPECT_EQ(with(1, flat, 6), "Gradient 0 has shape (6,)" + rest);
  EXPECT_EQ(with(3, deep, 6), "Gradient 0 has shape (1, 2, 3)" + rest);
  std::vector<float> more(8);
  gradients_[0].data = more.data();
  EXPECT_EQ(with(2, longer, 8), "Gradient 0 has shape (2, 4)" + rest);
}

TEST_F(PlanStep, RejectsSecondGradientBeforeItTouchesTheFirst) {
  gradients_[1].size = 4;
  EXPECT_EQ(message(),
            "Gradient 1 has shape (4,), variable 1 has shape (5,). Pass the gradients in the order "
            "of the variables.");
}

TEST_F(PlanStep, RejectsGradientThatSharesMemory) {
  gradients_[0].data = kernel_.data();
  EXPECT_EQ(message(),
            "Gradient 0 ('kernel') shares memory with variable 0 ('kernel'), which the step "
            "writes. Pass a copy.");
  gradients_[0].data = kernel_g_.data();
  gradients_[1].data = bias_slot_.data();
  EXPECT_EQ(message(),
            "Gradient 1 shares memory with the state of variable 1, which the step writes. Pass a "
            "copy.");
  // Also where the gradient of the last step looked the same.
  gradients_[1].data = bias_g_.data();
  plan_->step(rule_, options_, learning_rate_, 0, gradients_);
  gradients_[1].data = bias_.data();
  EXPECT_EQ(message(),
            "Gradient 1 shares memory with variable 1, which the step writes. Pass a copy.");
}

TEST_F(PlanStep, RejectsGradientThatSharesMemoryWithWhatIsGuarded) {
  std::vector<float> own(16);
  const std::vector<float> untouched = own;
  plan_->guard(TensorView(own.data() + 6, 6), "the copy");
  plan_->guard(TensorView(own.data(), 5), "the other copy");
  const std::string end = ", which the step writes. Pass a copy.";
  gradients_[0].data = own.data() + 11;
  EXPECT_EQ(message(), "Gradient 0 ('kernel') shares memory with the copy" + end);
  gradients_[0].data = kernel_g_.data();
  gradients_[1].data = own.data();
  EXPECT_EQ(message(), "Gradient 1 shares memory with the other copy" + end);
  gradients_[1].data = kernel_slot_.data();
  EXPECT_EQ(message(), "Gradient 1 shares memory with the state of variable 0 ('kernel')" + end);
  gradients_[1].data = bias_g_.data();
  plan_->step(rule_, options_, learning_rate_, 0, gradients_);
  EXPECT_EQ(own, untouched);
}

TEST_F(PlanStep, TakesOneGradientForTwoVariables) {
  std::vector<float> g(6, 1.0f);
  gradients_[0].data = g.data();
  gradients_[1].data = g.data();
  EXPECT_NO_THROW(plan_->step(rule_, options_, learning_rate_, 0, gradients_));
}

TEST_F(PlanStep, RejectsGradientOnAnotherDevice) {
  gradients_[0].device = {DeviceType::cuda, 0};
  EXPECT_EQ(message(),
            "Gradient 0 is on GPU 0, variable 0 ('kernel') is on the CPU. Pass gradients on the "
            "device of the variables.");
}

TEST_F(PlanStep, RejectsOtherNumberOfGradients) {
  gradients_.pop_back();
  EXPECT_EQ(message(),
            "There must be one gradient for each variable: 2, with None for a missing one. "
            "Received: 1.");
}

TEST_F(PlanStep, RejectsStepWithoutAnyGradient) {
  for (TensorView& gradient : gradients_) gradient = {};
  EXPECT_EQ(message(), "No gradient was given for any variable.");
}

TEST_F(PlanStep, RejectsRuleWithOtherSlots) {
  rule_ = Nadam{};
  EXPECT_EQ(message(), "The rule needs 2 slots a variable, and the plan was built with 1.");
  EXPECT_EQ(std::get<Nadam>(rule_).momentum_product, 1.0);
  rule_ = SGD{};
  EXPECT_EQ(message(), "The rule needs 0 slots a variable, and the plan was built with 1.");
}

TEST_F(PlanStep, RejectsNumbersOutOfRange) {
  rule_ = SGD{.momentum = 2.0};
  EXPECT_EQ(message(), "momentum must be in [0, 1]. Received: 2.");
  rule_ = SGD{.momentum = 0.9};
  options_.clipnorm = -1.0;
  EXPECT_EQ(message(), "clipnorm must be a finite number above 0. Received: -1.");
  options_ = {};
  for (const double value :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    learning_rate_ = value;
    EXPECT_EQ(message(), "learning_rate must be finite.");
  }
}

TEST_F(PlanStep, RejectsOptionsThatThePlanWasNotBuiltFor) {
  options_.use_ema = true;
  EXPECT_EQ(message(), "use_ema needs an average for each variable; the plan was built without.");
  options_ = {};
  options_.gradient_accumulation_steps = 2;
  EXPECT_EQ(message(),
            "gradient_accumulation_steps needs an accumulator for each variable; the plan was "
            "built without.");
  options_.gradient_accumulation_steps = 1;
  EXPECT_EQ(thrown<Error>([&] { plan_->step(rule_, options_, 0.1, 0, gradients_); }),
            "(no exception)");
  EXPECT_EQ(thrown<ArgumentError>([&] { plan_->overwrite_with_averages(); }),
            "The plan was built without averages.");
}

TEST_F(PlanStep, RejectsNumbersOfVariablesThatItDoesNotHave) {
  const std::string text = "The number of a variable must be below 2. Received: 2.";
  EXPECT_EQ(thrown<ArgumentError>([&] { plan_->set_decays(2, true); }), text);
  EXPECT_EQ(thrown<ArgumentError>([&] { plan_->set_received(2, true); }), text);
  EXPECT_EQ(thrown<ArgumentError>([&] { plan_->received(2); }), text);
}

TEST(PlanChecks, OverwritesNothingIfOneNumberIsWrong) {
  float w[] = {1, 2}, average[] = {3, 4};
  Plan plan({{"", TensorView(w, 2), {}, TensorView(average, 2), {}}});
  const std::size_t numbers[] = {0, 1};
  EXPECT_EQ(thrown<ArgumentError>([&] { plan.overwrite_with_averages(numbers); }),
            "The number of a variable must be below 1. Received: 1.");
  EXPECT_EQ(w[0], 1);
}

TEST_F(PlanStep, GivesTheSameAfterAStepThatThrew) {
  std::vector<float> kernel = kernel_, bias = bias_, slot(6), other_slot(5);
  Variable first{"", TensorView(kernel.data(), 6), {TensorView(slot.data(), 6)}, {}, {}};
  first.value.rank = 2;
  first.value.shape = shape_;
  Plan untroubled(
      {first, {"", TensorView(bias.data(), 5), {TensorView(other_slot.data(), 5)}, {}, {}}});
  AnyRule rule = rule_;
  untroubled.step(rule, options_, 0.1, 0, gradients_);

  const TensorView good = gradients_[1];
  gradients_[1].size = 3;
  EXPECT_NE(message(), "(no exception)");
  gradients_[1] = good;
  plan_->step(rule_, options_, 0.1, 0, gradients_);
  EXPECT_TRUE(same_bits(kernel, kernel_));
  EXPECT_TRUE(same_bits(bias, bias_));
}

// The gradient of the last step had a shape and was walked in the order of the variable; the next
// has none, and its elements lie in that order already.
TEST_F(PlanStep, TellsGradientsWithAShapeFromThoseWithout) {
  const std::int64_t shape[] = {2, 3}, fortran[] = {4, 8}, c_order[] = {12, 4};
  float w[6] = {}, g[6] = {1, 2, 3, 4, 5, 6};
  Variable variable;
  variable.value = TensorView(w, 6);
  variable.value.rank = 2;
  variable.value.shape = shape;
  variable.value.strides_bytes = fortran;
  Plan plan({variable});
  AnyRule rule = SGD{};

  TensorView with_shape(static_cast<const float*>(g), 6);
  with_shape.rank = 2;
  with_shape.shape = shape;
  with_shape.strides_bytes = c_order;
  plan.step(rule, {}, -1.0, 0, std::span(&with_shape, 1));
  EXPECT_EQ(std::vector(w, w + 6), (std::vector<float>{1, 4, 2, 5, 3, 6}));

  const TensorView without_shape(static_cast<const float*>(g), 6);
  plan.step(rule, {}, -1.0, 1, std::span(&without_shape, 1));
  EXPECT_EQ(std::vector(w, w + 6), (std::vector<float>{2, 6, 5, 9, 8, 12}));
}

}  // namespace
}  // namespace ravine::test
