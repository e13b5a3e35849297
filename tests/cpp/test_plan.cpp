// Plan: steps of models against the plain step, the checks with the text of their messages, and
// that a step that throws has changed nothing.
#include "ravine/plan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "guarded.hpp"
#include "plain_step.hpp"
#include "ravine/threads.hpp"
#include "thrown.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ravine::test {
namespace {

const std::vector<AnyRule> rules{
    SGD{},
    SGD{.momentum = 0.9},
    SGD{.momentum = 0.9, .nesterov = true},
    SGD{.momentum = 1.0},
    RMSprop{},
    RMSprop{.momentum = 0.8},
    RMSprop{.centered = true},
    RMSprop{.rho = 0.5, .momentum = 0.8, .epsilon = 0.0, .centered = true},
    Nadam{},
    Nadam{.beta_1 = 0.5, .beta_2 = 0.9, .epsilon = 1e-3},
};

/// A model in the plan and in plain vectors.
template <class T>
class Model {
 public:
  Model(const std::vector<std::size_t>& sizes, const AnyRule& rule)
      : rule_(rule), plain_rule_(rule) {
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      const auto values = random_values<T>(sizes[k], static_cast<unsigned>(100 + k));
      variables_.push_back(std::make_unique<PlainVariable<T>>(values, plain_slot_count(rule)));
      plain_.push_back(*variables_.back());
    }
    plan_.emplace(bound());
  }

  std::vector<Variable> bound() {
    std::vector<Variable> all;
    for (auto& each : variables_) {
      Variable variable{"", view(each->w), {}, view(each->average), view(each->accumulator)};
      for (auto& slot : each->slots) variable.slots.push_back(view(slot));
      all.push_back(variable);
    }
    return all;
  }

  static TensorView view(std::vector<T>& values) {
    return {values.data(), static_cast<std::int64_t>(values.size())};
  }

  /// One step of both. `missing`: the variables without a gradient.
  void step(const Options& options, double learning_rate, std::int64_t iteration,
            const std::vector<std::size_t>& missing = {}, double scale = 1.0) {
    std::vector<PlainGradient<T>> gradients;
    std::vector<TensorView> views;
    for (std::size_t k = 0; k < variables_.size(); ++k) {
      const auto seed = static_cast<unsigned>(1000 * (iteration + 1) + static_cast<int>(k));
      gradients.emplace_back(random_values<T>(variables_[k]->w.size(), seed, scale));
    }
    for (const std::size_t k : missing) gradients[k].reset();
    for (auto& gradient : gradients) views.push_back(gradient ? view(*gradient) : TensorView());
    const StepReport report = plan_->step(rule_, options, learning_rate, iteration, views);
    const bool updated =
        plain_step(plain_rule_, options, learning_rate, iteration, plain_, gradients);
    EXPECT_EQ(report.updated, updated);
    EXPECT_EQ(report.gradients, static_cast<std::int64_t>(variables_.size() - missing.size()));
  }

  void expect_equal() const {
    for (std::size_t k = 0; k < plain_.size(); ++k) {
      ASSERT_TRUE(same_bits(variables_[k]->w, plain_[k].w)) << "variable " << k;
      for (std::size_t s = 0; s < plain_[k].slots.size(); ++s) {
        ASSERT_TRUE(same_bits(variables_[k]->slots[s], plain_[k].slots[s])) << "slot " << s;
      }
      ASSERT_TRUE(same_bits(variables_[k]->average, plain_[k].average));
      ASSERT_TRUE(same_bits(variables_[k]->accumulator, plain_[k].accumulator));
      EXPECT_EQ(plan_->received(k), plain_[k].received);
    }
    if (const auto* nadam = std::get_if<Nadam>(&rule_)) {
      EXPECT_EQ(nadam->momentum_product, std::get<Nadam>(plain_rule_).momentum_product);
    }
  }

  void set_decays(std::size_t index, bool decays) {
    plan_->set_decays(index, decays);
    plain_[index].decays = decays;
  }

  Plan& plan() { return *plan_; }
  std::vector<T>& w(std::size_t index) { return variables_[index]->w; }
  PlainVariable<T>& plain(std::size_t index) { return plain_[index]; }
  PlainVariable<T>& own(std::size_t index) { return *variables_[index]; }

 private:
  AnyRule rule_, plain_rule_;
  std::vector<std::unique_ptr<PlainVariable<T>>> variables_;
  std::vector<PlainVariable<T>> plain_;
  std::optional<Plan> plan_;
};

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
  EXPECT_THROW(model.plan().set_received(2, true), std::out_of_range);
  EXPECT_THROW(model.plan().received(2), std::out_of_range);
  EXPECT_THROW(model.plan().set_decays(2, true), std::out_of_range);
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

// ---------------------------------------------------------------------------- arrays of any layout

TEST(Plan, UpdatesVariablesOfAnyLayout) {
  // A 3 by 4 variable in the order of Fortran; the gradient in that of C, reversed, or spread out.
  const std::int64_t shape[] = {3, 4}, fortran[] = {4, 12}, c[] = {16, 4};
  const std::int64_t reversed[] = {-16, -4}, spread[] = {64, 8};
  std::vector<float> g(48);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = static_cast<float>(i);
  const struct {
    const std::int64_t* strides;
    std::size_t start;
  } layouts[] = {{fortran, 0}, {c, 0}, {reversed, 11}, {spread, 0}, {nullptr, 0}};
  std::vector<float> w(12);
  Variable variable{"w", TensorView(w.data(), 12), {}, {}, {}};
  variable.value.rank = 2;
  variable.value.shape = shape;
  variable.value.strides_bytes = fortran;
  Plan plan({variable});
  for (const auto& layout : layouts) {
    std::fill(w.begin(), w.end(), 100.0f);
    TensorView gradient(g.data() + layout.start, 12);
    gradient.rank = 2;
    gradient.shape = shape;
    gradient.strides_bytes = layout.strides;
    AnyRule rule = SGD{};
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    const std::int64_t* const strides = layout.strides == nullptr ? c : layout.strides;
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 4; ++j) {
        const auto from =
            static_cast<std::int64_t>(layout.start) + (i * strides[0] + j * strides[1]) / 4;
        EXPECT_EQ(w[static_cast<std::size_t>(i + 3 * j)],
                  100.0f - g[static_cast<std::size_t>(from)]);
      }
    }
  }
}

TEST(Plan, UpdatesMisalignedVariables) {
  std::vector<std::byte> memory(4 * 100 + 1), gradient_memory(4 * 100 + 3);
  const std::vector<float> values = random_values<float>(100, 1), g = random_values<float>(100, 2);
  std::memcpy(memory.data() + 1, values.data(), 400);
  std::memcpy(gradient_memory.data() + 3, g.data(), 400);
  Plan plan({{"w", TensorView(memory.data() + 1, 100, DType::float32), {}, {}, {}}});
  const TensorView gradient(gradient_memory.data() + 3, 100, DType::float32);
  AnyRule rule = SGD{};
  plan.step(rule, {}, 0.1, 0, {&gradient, 1});
  for (std::size_t i = 0; i < 100; ++i) {
    float found;
    std::memcpy(&found, memory.data() + 1 + 4 * i, 4);
    EXPECT_EQ(found, values[i] - g[i] * 0.1f);
  }
}

TEST(Plan, UpdatesVariablesWithoutAxes) {
  float w = 1.0f, g = 0.5f;
  const std::int64_t nothing = 0;
  for (const std::int64_t* const shape : {static_cast<const std::int64_t*>(nullptr), &nothing}) {
    TensorView value(&w, 1), gradient(&g, 1);
    value.rank = gradient.rank = 0;
    value.shape = gradient.shape = shape;
    value.strides_bytes = gradient.strides_bytes = shape;
    w = 1.0f;
    Plan plan({{"w", value, {}, {}, {}}});
    AnyRule rule = SGD{};
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    EXPECT_EQ(w, 0.5f);
    plan.step(rule, {}, 1.0, 1, {&gradient, 1});
    EXPECT_EQ(w, 0.0f);
  }
}

TEST(Plan, TakesGradientThatRepeatsItsElements) {
  std::vector<float> w(6, 1.0f);
  float g = 0.25f;
  const std::int64_t shape[] = {2, 3}, strides[] = {0, 0};
  Variable variable{"w", TensorView(w.data(), 6), {}, {}, {}};
  variable.value.rank = 2;
  variable.value.shape = shape;
  TensorView gradient(&g, 6);
  gradient.rank = 2;
  gradient.shape = shape;
  gradient.strides_bytes = strides;
  Plan plan({variable});
  AnyRule rule = SGD{};
  plan.step(rule, {}, 1.0, 0, {&gradient, 1});
  EXPECT_EQ(w, std::vector<float>(6, 0.75f));
}

TEST(Plan, FollowsAGradientFromStepToStep) {
  // Another place, another type, another layout, and back: what was remembered must not be used.
  std::vector<float> w(4, 0.0f), first{1, 2, 3, 4}, second{10, 20, 30, 40};
  std::vector<double> third{100, 200, 300, 400};
  const std::int64_t reversed = -4, size = 4;
  TensorView backwards(second.data() + 3, 4);
  backwards.shape = &size;
  backwards.strides_bytes = &reversed;
  Plan plan({{"w", TensorView(w.data(), 4), {}, {}, {}}});
  AnyRule rule = SGD{};
  const auto step = [&](const TensorView& gradient) {
    std::fill(w.begin(), w.end(), 0.0f);
    plan.step(rule, {}, -1.0, 0, {&gradient, 1});
    return w;
  };
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_EQ(step(TensorView(first.data(), 4)), first);
    EXPECT_EQ(step(TensorView(second.data(), 4)), second);
    EXPECT_EQ(step(TensorView(third.data(), 4)), (std::vector<float>{100, 200, 300, 400}));
    EXPECT_EQ(step(backwards), (std::vector<float>{40, 30, 20, 10}));
    EXPECT_EQ(step(backwards), (std::vector<float>{40, 30, 20, 10}));
  }
}

TEST(Plan, CopiesWhatViewsPointTo) {
  std::vector<float> w(6, 1.0f), g(6, 1.0f);
  std::optional<Plan> plan;
  {
    auto shape = std::make_unique<std::int64_t[]>(2);
    shape[0] = 2;
    shape[1] = 3;
    Variable variable{"w", TensorView(w.data(), 6), {}, {}, {}};
    variable.value.rank = 2;
    variable.value.shape = shape.get();
    plan.emplace(std::vector{variable});
    shape[0] = shape[1] = 99;
  }
  const std::int64_t shape[] = {2, 3};
  TensorView gradient(g.data(), 6);
  gradient.rank = 2;
  gradient.shape = shape;
  AnyRule rule = SGD{};
  plan->step(rule, {}, 1.0, 0, {&gradient, 1});
  EXPECT_EQ(w, std::vector<float>(6, 0.0f));
}

TEST(Plan, WorksWithoutVariables) {
  Plan plan(std::vector<Variable>{});
  EXPECT_EQ(plan.size(), 0u);
  AnyRule rule = SGD{};
  EXPECT_EQ(thrown<ArgumentError>([&] { plan.step(rule, {}, 0.1, 0, {}); }),
            "No gradient was given for any variable.");
}

TEST(Plan, CanBeMoved) {
  Model<float> model({10}, SGD{});
  Plan moved = std::move(model.plan());
  EXPECT_EQ(moved.size(), 1u);
  std::vector<float> g(10, 1.0f), before = model.w(0);
  const TensorView gradient(g.data(), 10);
  AnyRule rule = SGD{};
  moved.step(rule, {}, 1.0, 0, {&gradient, 1});
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(model.w(0)[i], before[i] - 1.0f);
}

// ------------------------------------------------------------------------------ floating-point
// mode

#if defined(__x86_64__)

TEST(Plan, KeepsSubnormalsWhereTheCallerFlushesThem) {
  const unsigned before = _mm_getcsr();
  for (const std::size_t size : {std::size_t{10}, std::size_t{3000000}}) {
    const float tiny = std::numeric_limits<float>::denorm_min();
    std::vector<float> w(size, tiny), g(size, -3 * tiny);
    Plan plan({{"w", TensorView(w.data(), static_cast<std::int64_t>(size)), {}, {}, {}}});
    const TensorView gradient(g.data(), static_cast<std::int64_t>(size));
    AnyRule rule = SGD{};
    const unsigned flushing = before | 0x8040;  // flush to zero, and subnormals are zeros
    _mm_setcsr(flushing);
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(after & 0xffc0u, flushing & 0xffc0u);
    for (const float value : w) ASSERT_EQ(value, 4 * tiny);
  }
}

TEST(Plan, RoundsToNearestWhateverTheCallerRoundsTo) {
  const unsigned before = _mm_getcsr();
  std::vector<float> w(50, 1.0f), g(50, 1.0f);
  Plan plan({{"w", TensorView(w.data(), 50), {}, {}, {}}});
  const TensorView gradient(g.data(), 50);
  AnyRule rule = SGD{};
  _mm_setcsr((before & ~0x6000u) | 0x6000u);  // towards zero
  plan.step(rule, {}, 1e-9, 0, {&gradient, 1});
  _mm_setcsr(before);
  EXPECT_EQ(w, std::vector<float>(50, 1.0f));
}

#endif

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
            "All variables must be on one device; variable 1 ('kernel') is on another than the "
            "first.");
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

TEST_F(PlanStep, TakesOneGradientForTwoVariables) {
  std::vector<float> g(6, 1.0f);
  gradients_[0].data = g.data();
  gradients_[1].data = g.data();
  EXPECT_NO_THROW(plan_->step(rule_, options_, learning_rate_, 0, gradients_));
}

TEST_F(PlanStep, RejectsGradientOnAnotherDevice) {
  gradients_[0].device = {DeviceType::cuda, 0};
  EXPECT_EQ(message(), "Gradient 0 is on another device than variable 0 ('kernel').");
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
