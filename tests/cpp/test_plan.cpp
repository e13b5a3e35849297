// Plan: steps of models against the plain step.
#include "ravine/plan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "guarded.hpp"
#include "model.hpp"
#include "plain_step.hpp"
#include "ravine/threads.hpp"

namespace ravine::test {
namespace {

template <class T>
class PlanOf : public testing::Test {};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(PlanOf, Types);

const std::vector<std::size_t> sizes{1, 33, 5000, 0, 17, 20000};

/// Options that lead along different ways through a step.
std::vector<Options> all_options() {
  std::vector<Options> result(1);
  const auto add = [&](auto&& change) { change(result.emplace_back()); };
  add([](Options& o) { o.weight_decay = 0.01; });
  add([](Options& o) { o.clipvalue = 0.5; });
  add([](Options& o) { o.clipnorm = 3.0; });
  add([](Options& o) { o.global_clipnorm = 3.0; });
  add([](Options& o) { o.clipnorm = 1e9; });
  add([](Options& o) { o.loss_scale_factor = 1024.0; });
  add([](Options& o) { o.loss_scale_factor = 3.0; });
  add([](Options& o) { o.use_ema = true; });
  add([](Options& o) {
    o.use_ema = true;
    o.ema_momentum = 0.5;
    o.ema_overwrite_frequency = 2;
  });
  add([](Options& o) { o.gradient_accumulation_steps = 1; });
  add([](Options& o) { o.gradient_accumulation_steps = 3; });
  add([](Options& o) {
    o.gradient_accumulation_steps = 2;
    o.global_clipnorm = 1.0;
    o.loss_scale_factor = 3.0;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 2;
  });
  add([](Options& o) {
    o.clipnorm = 1.0;
    o.loss_scale_factor = 0.5;
    o.weight_decay = -0.1;
    o.use_ema = true;
  });
  return result;
}

TYPED_TEST(PlanOf, EqualsPlainStepForEveryRuleAndOption) {
  for (const AnyRule& rule : rules) {
    for (const Options& options : all_options()) {
      Model<TypeParam> model(sizes, rule);
      for (int iteration = 0; iteration < 6; ++iteration) {
        model.step(options, 0.01 * (iteration + 1), iteration);
      }
      model.expect_equal();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(PlanOf, SkipsMissingGradients) {
  for (const AnyRule& rule : rules) {
    for (const Options& options : all_options()) {
      Model<TypeParam> model(sizes, rule);
      model.set_decays(1, false);
      const std::vector<std::vector<std::size_t>> missing{{0}, {1, 2}, {}, {5, 0},
                                                          {2}, {1, 5}, {4}};
      for (std::size_t iteration = 0; iteration < missing.size(); ++iteration) {
        model.step(options, 0.01, static_cast<std::int64_t>(iteration), missing[iteration]);
        model.expect_equal();
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TYPED_TEST(PlanOf, UpdatesVariableThatReceivedOnlyEarlierInTheWindow) {
  Options options;
  options.gradient_accumulation_steps = 3;
  Model<TypeParam> model({40, 40, 40}, Nadam{});
  model.step(options, 0.1, 0, {1});
  model.step(options, 0.1, 1, {0, 1});
  EXPECT_TRUE(model.plan().received(0));
  EXPECT_FALSE(model.plan().received(1));
  const std::vector<TypeParam> first = model.w(0), second = model.w(1);
  model.step(options, 0.1, 2, {0, 1});
  model.expect_equal();
  EXPECT_NE(model.w(0), first);
  EXPECT_EQ(model.w(1), second);
  EXPECT_FALSE(model.plan().received(0));
}

TYPED_TEST(PlanOf, KeepsWhatWasReceivedWhenItIsSet) {
  // As after reading a checkpoint that was written in the middle of a window.
  Options options;
  options.gradient_accumulation_steps = 2;
  Model<TypeParam> model({40, 40}, SGD{});
  model.step(options, 0.1, 0, {1});
  model.plan().set_received(0, false);
  model.plain(0).received = false;
  const std::vector<TypeParam> before = model.w(0);
  std::vector<TypeParam> g(40, 1);
  const TensorView gradients[] = {{}, Model<TypeParam>::view(g)};
  AnyRule rule = SGD{};
  model.plan().step(rule, options, 0.1, 1, gradients);
  EXPECT_EQ(model.w(0), before);
}

TYPED_TEST(PlanOf, GivesTheSameBitsForEveryNumberOfThreads) {
  const int before = num_threads();
  Options options;
  options.global_clipnorm = 1.0;
  options.use_ema = true;
  std::vector<std::vector<TypeParam>> results;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    Model<TypeParam> model({1000000, 3, 123457}, RMSprop{.momentum = 0.9, .centered = true});
    for (int iteration = 0; iteration < 2; ++iteration) model.step(options, 0.01, iteration);
    model.expect_equal();
    results.push_back(model.w(0));
  }
  set_num_threads(before);
  for (const auto& result : results) EXPECT_TRUE(same_bits(result, results[0]));
}

TYPED_TEST(PlanOf, GivesTheSameBitsForOneArrayAndForMany) {
  using T = TypeParam;
  Model<T> whole({1000}, Nadam{}), parts({10, 490, 499, 1}, Nadam{});
  std::vector<T> values = random_values<T>(1000, 5), g = random_values<T>(1000, 6);
  whole.w(0) = values;
  std::vector<TensorView> pieces;
  std::size_t at = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    const std::size_t size = parts.w(k).size();
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(at), size, parts.w(k).begin());
    pieces.emplace_back(g.data() + at, static_cast<std::int64_t>(size));
    at += size;
  }
  AnyRule rule = Nadam{}, other = Nadam{};
  const TensorView all[] = {Model<T>::view(g)};
  whole.plan().step(rule, {}, 0.1, 0, all);
  parts.plan().step(other, {}, 0.1, 0, pieces);
  std::vector<T> joined;
  for (std::size_t k = 0; k < 4; ++k) {
    joined.insert(joined.end(), parts.w(k).begin(), parts.w(k).end());
  }
  EXPECT_TRUE(same_bits(joined, whole.w(0)));
}

TYPED_TEST(PlanOf, PropagatesNanAndInfinityAsKeras) {
  using T = TypeParam;
  const auto bad = [](const std::vector<T>& values) {
    return std::count_if(values.begin(), values.end(), [](T x) { return !std::isfinite(x); });
  };
  for (const double value :
       {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    for (const bool global : {false, true}) {
      Options options;
      (global ? options.global_clipnorm : options.clipnorm) = 1.0;
      Model<T> model({10, 20}, SGD{});
      std::vector<T> first(10, T(1)), second(20, T(1));
      first[3] = T(value);
      const TensorView gradients[] = {Model<T>::view(first), Model<T>::view(second)};
      AnyRule rule = SGD{};
      model.plan().step(rule, options, 0.1, 0, gradients);
      // One that is not finite spoils all gradients under a global clip, its own otherwise.
      EXPECT_EQ(bad(model.w(1)), global ? 20 : 0);
      EXPECT_GE(bad(model.w(0)), 1);
    }
  }
}

TYPED_TEST(PlanOf, LeavesAnInactiveClipWithoutTrace) {
  for (const AnyRule& rule : rules) {
    Options clipped;
    clipped.global_clipnorm = 1e6;
    Model<TypeParam> with(sizes, rule), without(sizes, rule);
    for (int iteration = 0; iteration < 3; ++iteration) {
      with.step(clipped, 0.01, iteration);
      without.step({}, 0.01, iteration);
    }
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      EXPECT_TRUE(same_bits(with.w(k), without.w(k)));
    }
  }
}

TYPED_TEST(PlanOf, OverwritesWithAverages) {
  Options options;
  options.use_ema = true;
  Model<TypeParam> model(sizes, SGD{.momentum = 0.9});
  for (int iteration = 0; iteration < 3; ++iteration) model.step(options, 0.01, iteration);
  model.plan().overwrite_with_averages();
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    EXPECT_TRUE(same_bits(model.w(k), model.plain(k).average));
  }
}

TYPED_TEST(PlanOf, TakesGradientsOfAnyType) {
  using T = TypeParam;
  Model<T> model({300}, SGD{});
  const std::vector<T> before = model.w(0);
  std::vector<float> single(300, 0.5f);
  std::vector<double> twice(300, 0.5);
  std::vector<std::uint16_t> half(300, 0x3800), brain(300, 0x3f00);
  const TensorView views[] = {TensorView(single.data(), 300), TensorView(twice.data(), 300),
                              TensorView(half.data(), 300, DType::float16),
                              TensorView(brain.data(), 300, DType::bfloat16)};
  for (const TensorView& view : views) {
    model.w(0) = before;
    AnyRule rule = SGD{};
    model.plan().step(rule, {}, 0.25, 0, {&view, 1});
    for (std::size_t i = 0; i < 300; ++i) ASSERT_EQ(model.w(0)[i], before[i] - T(0.125));
  }
}

TEST(Plan, TakesAProductOfMomentaThatIsNearlyNothingForZero) {
  float w = 1.0f, g = 0.5f, momentum = 0.0f, velocity = 0.0f;
  std::vector<Variable> variables(1);
  variables[0].value = TensorView(&w, 1);
  variables[0].slots = {TensorView(&momentum, 1), TensorView(&velocity, 1)};
  Plan plan(variables);
  AnyRule rule = Nadam{};
  const std::vector<TensorView> gradients{TensorView(&g, 1)};
  double plain = 1.0;
  for (std::int64_t t = 1; t <= 7000; ++t) {
    plan.step(rule, Options{}, 0.01, t - 1, gradients);
    plain *= plain_momentum(Nadam{}, t);
    const double product = std::get<Nadam>(rule).momentum_product;
    ASSERT_EQ(product, std::fpclassify(plain) == FP_SUBNORMAL ? 0.0 : plain) << t;
  }
  EXPECT_EQ(std::fpclassify(plain), FP_SUBNORMAL);
}

}  // namespace
}  // namespace ravine::test
