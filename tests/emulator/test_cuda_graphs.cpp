// CUDA graphs: a replay of a captured step is a step.
#include <gtest/gtest.h>

#include <vector>

#include "recorded.hpp"

namespace ravine::test {
namespace {

const std::vector<Spec> mixed{
    {5}, {4100}, {0}, {33, DType::float16, DType::float16}, {70, DType::float64, DType::bfloat16}};
const std::vector<Spec> float32{{5}, {4100}, {0}, {33}};

class CudaGraphs : public ManyModels {};

/// Each test under several orders of threads and streams.
class CudaGraphsInAnyOrder : public Schedules {};

INSTANTIATE_TEST_SUITE_P(Seeds, CudaGraphsInAnyOrder, testing::Values(0, 1, 2, 3));

std::vector<Options> all_options() {
  std::vector<Options> result(1);
  const auto add = [&](auto&& change) { change(result.emplace_back()); };
  add([](Options& o) { o.weight_decay = 0.1; });
  add([](Options& o) { o.clipnorm = 0.5; });
  add([](Options& o) {
    o.global_clipnorm = 0.5;
    o.loss_scale_factor = 3.0;
  });
  add([](Options& o) {
    o.clipvalue = 0.25;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 3;
  });
  return result;
}

TEST_F(CudaGraphs, ReplaysAreStepsForEveryRuleAndOption) {
  // The capture is the very first step.
  for (const auto& specs : {mixed, float32}) {
    for (const Options& options : all_options()) {
      for (const AnyRule& rule : rules) {
        next_schedule();
        Recorded recorded(specs, rule, options);
        recorded.twins.set_decays(1, false);
        recorded.plan().prepare(rule);
        recorded.set_rate(0.1);
        recorded.capture();
        recorded.replay(7);
        recorded.expect_equal();
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaGraphs, StepsGoOnFromReplaysAndReplaysFromSteps) {
  for (const Options& options : all_options()) {
    for (const AnyRule& rule : rules) {
      next_schedule();
      Recorded recorded(float32, rule, options);
      recorded.eager(0.2);
      recorded.plan().prepare(recorded.twins.gpu.rule, 1);
      recorded.eager(0.3, {1});
      recorded.capture({3});
      recorded.replay(2);
      recorded.eager(0.1, {0});
      recorded.eager_in_place(0.2, {3});
      recorded.replay(2);
      recorded.eager(0.3);
      recorded.replay();
      recorded.expect_equal();
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaGraphs, TheRateMayChangeBetweenReplays) {
  const Options options = options_with([](Options& o) { o.weight_decay = 0.1; });
  for (const AnyRule& rule : rules) {
    next_schedule();
    Recorded recorded(float32, rule, options);
    recorded.plan().prepare(rule);
    recorded.set_rate(0.5);
    recorded.capture();
    recorded.replay();
    recorded.set_rate(0.25);
    recorded.replay(2);
    recorded.set_rate(0.125);
    recorded.set_rate(1e-3);
    recorded.replay();
    recorded.eager(0.75);
    recorded.replay(2);
    recorded.expect_equal();
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaGraphsInAnyOrder, GoOnFromAStateThatIsLoaded) {
  Recorded recorded(mixed, Nadam{}, {});
  recorded.plan().prepare(Nadam{});
  recorded.set_rate(0.1);
  recorded.capture();
  recorded.replay(2);
  recorded.expect_equal();
  recorded.iteration() = 40;
  for (Side* const side : {&recorded.twins.cpu, &recorded.twins.gpu}) {
    side->rule = Nadam{.momentum_product = 0.125};
  }
  recorded.plan().prepare(recorded.twins.gpu.rule, 40);
  recorded.replay(2);
  recorded.eager(0.1);
  recorded.replay();
  recorded.expect_equal();
}

TEST_P(CudaGraphsInAnyOrder, AStepMayBeCapturedOnAnotherStreamThanTheLast) {
  Recorded recorded(mixed, Nadam{}, all_options().back());
  recorded.plan().prepare(Nadam{});
  recorded.eager(0.1);
  recorded.stream = emulator::create_stream();
  const std::int64_t before = cuda_counts().synchronizations;
  recorded.capture();
  EXPECT_EQ(cuda_counts().synchronizations - before, 1);  // a graph cannot wait for it
  recorded.replay(2);
  recorded.stream = emulator::create_stream();
  emulator::synchronize_all();
  recorded.replay(2);
  recorded.eager(0.1);
  recorded.expect_equal();
}

TEST_P(CudaGraphsInAnyOrder, ARateMayBeSetOnAnotherStreamThanTheLast) {
  Recorded recorded(mixed, SGD{}, {});
  const Stream first = recorded.stream, second = emulator::create_stream();
  recorded.plan().prepare(SGD{});
  recorded.capture();
  for (const Stream stream : {second, first, second}) {
    recorded.eager(0.5);
    recorded.stream = stream;
    recorded.set_rate(0.25);
    recorded.replay();
    recorded.set_rate(0.125);
    recorded.stream = stream == first ? second : first;
    recorded.eager(0.75);
    recorded.replay();
  }
  recorded.expect_equal();
}

TEST_P(CudaGraphsInAnyOrder, AStepMayBeCapturedAfterOneOnTheDefaultStream) {
  for (const bool is_prepared_again : {false, true}) {
    Recorded recorded(mixed, Nadam{}, {});
    const Stream stream = recorded.stream;
    recorded.stream = nullptr;
    recorded.plan().prepare(Nadam{});
    recorded.eager(0.1);
    recorded.stream = stream;
    if (is_prepared_again) recorded.plan().prepare(recorded.twins.gpu.rule, 1);
    const std::int64_t before = cuda_counts().synchronizations;
    recorded.capture();
    EXPECT_EQ(cuda_counts().synchronizations - before, is_prepared_again ? 0 : 1);
    recorded.replay(3);
    recorded.stream = nullptr;
    recorded.eager(0.2);
    recorded.expect_equal();
  }
}

TEST_P(CudaGraphsInAnyOrder, ACaptureThatIsNeverReplayedChangesNothing) {
  Recorded recorded(mixed, Nadam{}, all_options().back());
  recorded.plan().prepare(Nadam{});
  recorded.eager(0.1);
  recorded.capture();
  recorded.expect_equal();
  recorded.eager(0.1);
  recorded.eager(0.2);
  recorded.expect_equal();
}

TEST_P(CudaGraphsInAnyOrder, HoldSeveralStepsAndThereMayBeSeveral) {
  Recorded recorded(mixed, Nadam{}, {});
  Twins& twins = recorded.twins;
  const Gradients first(mixed, 1), second(mixed, 2);
  recorded.plan().prepare(Nadam{});
  recorded.set_rate(0.1);
  const auto step = [&](const Gradients& gradients, const Indices& missing) {
    twins.gpu.step({}, 0.1, 0, gradients, missing, recorded.stream);
  };
  const emulator::Graph two = captured(recorded.stream, [&] {
    step(first, {});
    step(second, {0, 4});
  });
  const emulator::Graph one = captured(recorded.stream, [&] { step(first, {1}); });
  for (int i = 0; i < 2; ++i) {
    two.launch(recorded.stream);
    one.launch(recorded.stream);
    twins.cpu.step({}, 0.1, recorded.iteration()++, first);
    twins.cpu.step({}, 0.1, recorded.iteration()++, second, {0, 4});
    twins.cpu.step({}, 0.1, recorded.iteration()++, first, {1});
  }
  recorded.expect_equal();
}

TEST_P(CudaGraphsInAnyOrder, MayHoldOverwriting) {
  // A replay leaves its marks, whatever was sent when it was captured.
  for (const bool holds_step : {false, true}) {
    Recorded recorded(mixed, SGD{}, {});
    Twins& twins = recorded.twins;
    recorded.plan().prepare(SGD{});
    recorded.eager_in_place(0.1);
    emulator::synchronize_all();
    const emulator::Graph graph = captured(recorded.stream, [&] {
      if (holds_step) twins.gpu.step({}, 0.1, 0, recorded.gradients, {}, recorded.stream);
      twins.gpu.plan->overwrite_with_averages(Indices{0, 3}, recorded.stream);
    });
    twins.gpu.plan->overwrite_with_averages(recorded.stream);
    twins.cpu.plan->overwrite_with_averages();
    for (int i = 0; i < 2; ++i) {
      recorded.eager_in_place(0.1);
      graph.launch(recorded.stream);
      if (holds_step) {
        twins.cpu.step({}, 0.1, recorded.iteration()++, recorded.gradients);
      }
      twins.cpu.plan->overwrite_with_averages(Indices{0, 3});
    }
    recorded.expect_equal();
  }
}

}  // namespace
}  // namespace ravine::test
