// What the device counts itself: windows of accumulation in graphs, the loss scale, and rates by
// iteration.
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <vector>

#include "recorded.hpp"

namespace ravine::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

class CudaCounting : public ManyModels {};

/// Each test under several orders of threads and streams.
class CudaCountingInAnyOrder : public Schedules {};

INSTANTIATE_TEST_SUITE_P(Seeds, CudaCountingInAnyOrder, testing::Values(0, 1, 2, 3));

const std::vector<Spec> mixed{
    {5}, {4100}, {0}, {33, DType::float16, DType::float16}, {70, DType::float64, DType::bfloat16}};
const std::vector<Spec> float32{{5}, {4100}, {0}, {33}};

std::vector<Options> all_options() {
  std::vector<Options> result(1);
  const auto add = [&](auto&& change) { change(result.emplace_back()); };
  add([](Options& o) { o.clipnorm = 0.5; });
  add([](Options& o) {
    o.clipvalue = 0.25;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 3;
  });
  add([](Options& o) { o.gradient_accumulation_steps = 2; });
  add([](Options& o) {
    o.gradient_accumulation_steps = 3;
    o.global_clipnorm = 0.5;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 2;
  });
  add([](Options& o) {
    o.gradient_accumulation_steps = 2;
    o.clipnorm = 0.5;
  });
  return result;
}

/// Every list of variables with all options, and one rule of each optimizer: that every rule moves
/// on is seen in `CudaGraphs`.
template <class Test>
void for_each_model(const Test& test) {
  for (const auto& specs : {mixed, float32}) {
    for (const Options& options : all_options()) {
      for (const AnyRule& rule : rules_with_all_slots()) {
        test(specs, rule, options);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// --------------------------------------------------------------------------------- accumulation

TEST_F(CudaCounting, ReplaysAccumulate) {
  for_each_model([&](const auto& specs, const AnyRule& rule, const Options& options) {
    next_schedule();
    Recorded recorded(specs, rule, options);
    recorded.plan().prepare(rule);
    recorded.set_rate(0.1);
    recorded.capture();
    recorded.capture({1, 3});  // missing wherever in the window
    recorded.capture({0, 3});
    for (const std::size_t graph : {0, 1, 2, 1, 1, 1, 2, 0, 0, 1, 2}) recorded.replay(1, graph);
    recorded.expect_equal();
    recorded.eager(0.2, {0});
    recorded.replay(3);
    recorded.expect_equal();
  });
}

TEST_P(CudaCountingInAnyOrder, ReplaysGoOnWhereAWindowBegins) {
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Recorded recorded(mixed, Nadam{}, options);
  recorded.plan().prepare(Nadam{});
  for (int i = 0; i < 4; ++i) recorded.eager(0.1, {1});
  recorded.capture();
  recorded.replay(5);
  recorded.expect_equal();
  EXPECT_TRUE(recorded.plan().received(0));
  recorded.eager(0.1);
  recorded.expect_equal();
  EXPECT_FALSE(recorded.plan().received(0));
}

TEST_P(CudaCountingInAnyOrder, WhatWasReceivedIsOfThisWindow) {
  // A state that was saved in the middle of a window is loaded, and the window ended on the host:
  // the next windows, on the device, must know nothing of it.
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Recorded recorded(mixed, Nadam{}, options);
  for (Side* const side : {&recorded.twins.cpu, &recorded.twins.gpu}) {
    side->plan->set_received(0, true);
  }
  recorded.iteration() = 1;
  recorded.plan().prepare(Nadam{}, 1);
  recorded.eager(0.1);
  recorded.capture({0, 3});
  recorded.replay(4);
  recorded.expect_equal();
}

TEST_P(CudaCountingInAnyOrder, AStateOfTheMiddleOfAWindowGoesToTheDevice) {
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 3; });
  Recorded recorded(mixed, Nadam{}, options);
  recorded.plan().prepare(Nadam{});
  recorded.set_rate(0.1);
  recorded.capture({0, 3});
  recorded.replay(2);
  recorded.expect_equal();
  for (Side* const side : {&recorded.twins.cpu, &recorded.twins.gpu}) {
    for (std::size_t i = 0; i < 4; ++i) side->plan->set_received(i, i == 3);
  }
  recorded.iteration() = 4;
  recorded.plan().prepare(recorded.twins.gpu.rule, 4);
  recorded.replay(4);
  recorded.expect_equal();
}

// ----------------------------------------------------------------------------------- loss scale

/// Values planted in steps one after the other.
const std::vector<std::optional<double>> planted{{},        {},  infinity, {}, nan, {}, {},
                                                 -infinity, nan, {},       {}, 1e6, {}, {}};

TEST_F(CudaCounting, TheLossScaleEqualsThatOfTheCpu) {
  for_each_model([&](const auto& specs, const AnyRule& rule, const Options& options) {
    next_schedule();
    Recorded recorded(specs, rule, options);
    recorded.twins.set_loss_scale({.dynamic_growth_steps = 2, .dynamic_scale = 64.0f});
    EXPECT_TRUE(recorded.plan().counts_on_device());
    std::size_t call = 0;
    for (const auto& value : planted) {
      recorded.eager_in_place(0.1, call++ % 3 == 1 ? Indices{0, 3} : Indices{}, value);
    }
    recorded.expect_equal();
    EXPECT_EQ(*recorded.plan().loss_scale(), recorded.twins.cpu.loss_scale->dynamic_scale);
  });
}

TEST_F(CudaCounting, ReplaysHaveALossScale) {
  for_each_model([&](const auto& specs, const AnyRule& rule, const Options& options) {
    next_schedule();
    Recorded recorded(specs, rule, options);
    recorded.twins.set_loss_scale({.dynamic_growth_steps = 2, .dynamic_scale = 64.0f});
    recorded.set_rate(0.1);
    recorded.capture();
    recorded.capture({0, 3});
    std::size_t call = 0;
    for (const auto& value : planted) recorded.replay(1, call++ % 3 == 1, value);
    recorded.eager_in_place(0.2, {}, nan);
    recorded.eager_in_place(0.2, {3});
    recorded.replay(2);
    recorded.expect_equal();
  });
}

TEST_P(CudaCountingInAnyOrder, AMissingGradientIsFinite) {
  Recorded recorded(mixed, SGD{}, {});
  recorded.twins.set_loss_scale({.dynamic_growth_steps = 2, .dynamic_scale = 64.0f});
  recorded.eager_in_place(0.1, {}, nan);
  recorded.eager_in_place(0.1, {1}, nan);  // there
  EXPECT_EQ(recorded.twins.cpu.loss_scale->step_counter, 1);
  recorded.expect_equal();
}

TEST_P(CudaCountingInAnyOrder, ACallThatIsLeftOutLeavesTheWindowAlone) {
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Recorded recorded(mixed, Nadam{}, options);
  recorded.twins.set_loss_scale({.dynamic_growth_steps = 9, .dynamic_scale = 64.0f});
  recorded.eager_in_place(0.1, {}, nan);
  recorded.eager_in_place(0.1, {0, 3});
  recorded.eager_in_place(0.1, {0, 3});  // the end of a window without gradients of these
  recorded.expect_equal();
  recorded.eager_in_place(0.1);
  recorded.eager_in_place(0.1, {0}, nan);
  recorded.eager_in_place(0.1, {0, 3});  // of one with
  recorded.expect_equal();
}

TEST_P(CudaCountingInAnyOrder, ALossScaleThatIsLoadedGoesOn) {
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Recorded recorded(mixed, Nadam{}, options);
  for (Side* const side : {&recorded.twins.cpu, &recorded.twins.gpu}) {
    side->loss_scale = {.dynamic_growth_steps = 3, .dynamic_scale = 4.0f, .step_counter = 2};
    side->rule = Nadam{.momentum_product = 0.5};
    side->plan->set_received(0, true);
  }
  recorded.iteration() = 11;
  recorded.twins.prepare(11);
  EXPECT_EQ(*recorded.plan().loss_scale(), 4.0f);
  recorded.eager(0.1, {0});
  recorded.eager(0.1, {0});
  recorded.eager(0.1);
  recorded.expect_equal();
}

TEST_P(CudaCountingInAnyOrder, ALossScaleTakesTwoLaunchesAndNoWaiting) {
  for (const Options& options : all_options()) {
    Recorded recorded(mixed, Nadam{}, options);
    recorded.twins.set_loss_scale({});
    recorded.eager_in_place(0.1);
    const CudaCounts before = cuda_counts();
    recorded.twins.step(options, 0.1, 1, recorded.gradients, {}, recorded.stream);
    const CudaCounts after = cuda_counts();
    // Marks are sent anew in windows, since the device changes them.
    EXPECT_EQ(after.launches - before.launches, options.window() > 1 ? 3 : 2);
    EXPECT_EQ(after.synchronizations, before.synchronizations);
    EXPECT_EQ(after.allocations, before.allocations);
  }
}

TEST_P(CudaCountingInAnyOrder, AModelWithoutElementsHasALossScaleToo) {
  for (const auto& specs : {std::vector<Spec>{{0}}, {{0}, {0, DType::float64}}}) {
    for (const Options& options : all_options()) {
      Twins twins(specs, Nadam{});
      twins.set_loss_scale({.dynamic_growth_steps = 2});
      for (int iteration = 0; iteration < 5; ++iteration) twins.step(options, 0.1, iteration);
      twins.expect_equal();
    }
  }
}

// ------------------------------------------------------------------------------ rates by iteration

TEST_P(CudaCountingInAnyOrder, RatesAreThoseOfTheIteration) {
  for (const std::int64_t window : {1, 2}) {
    const Options options =
        options_with([&](Options& o) { o.gradient_accumulation_steps = window; });
    Twins twins(mixed, Nadam{});
    twins.set_loss_scale({.dynamic_growth_steps = 3, .dynamic_scale = 8.0f});
    const Stream a = emulator::create_stream(), b = emulator::create_stream();
    const std::vector<double> rates{0.5, 0.25, 0.125, 1e-3, 1e-2};
    twins.gpu.plan->set_learning_rates(2, rates, a);
    Gradients gradients(mixed, 1);
    std::int64_t iteration = 0;
    for (int call = 0; call < 10; ++call) {
      emulator::synchronize_all();
      gradients.draw(static_cast<std::uint64_t>(call));
      if (call % 4 == 2) gradients.at(0).set(1, infinity);
      // Before the first and after the last they are those.
      const std::int64_t index =
          std::min<std::int64_t>(std::max<std::int64_t>(iteration - 2, 0), 4);
      const double rate = rates[static_cast<std::size_t>(index)];
      const bool skipped = twins.cpu.step(options, rate, iteration, gradients).skipped;
      twins.gpu.step(options, 77.0, 0, gradients, {}, call % 2 == 0 ? b : a);
      iteration += !skipped;
    }
    twins.expect_equal();
    twins.gpu.plan->set_learning_rate(0.75, a);
    twins.step(options, 0.3, iteration, {}, b);
    twins.expect_equal();
  }
}

TEST_P(CudaCountingInAnyOrder, RatesMayBeSetOnAnotherStreamThanTheLast) {
  Twins twins(mixed, SGD{});
  twins.set_loss_scale({});
  const Stream a = emulator::create_stream(), b = emulator::create_stream();
  for (std::int64_t iteration = 0; iteration < 6; ++iteration) {
    const double rate = 1.0 / static_cast<double>(iteration + 1);
    twins.gpu.plan->set_learning_rates(iteration, {&rate, 1}, iteration % 2 == 0 ? a : b);
    twins.step({}, rate, iteration, {}, b);
  }
  twins.expect_equal();
}

}  // namespace
}  // namespace ravine::test
