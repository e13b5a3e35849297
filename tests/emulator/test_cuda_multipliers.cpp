// Multipliers of single variables on a GPU: a launch for each distinct pair.
#include <gtest/gtest.h>

#include <vector>

#include "recorded.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

const std::vector<Spec> mixed{{5},
                              {4100, DType::float64},
                              {0},
                              {33, DType::float16, DType::float16},
                              {2050, DType::bfloat16, DType::float32},
                              {4099, DType::float32, DType::float64}};
const std::vector<Spec> float32{{5}, {4100}, {0}, {33}, {2050}, {4099}};
const std::vector<Multipliers> several{{1, 1}, {0.1, 1}, {1, 3}, {0, 0}, {0.1, 1}, {-2, 0}};
constexpr std::int64_t launched_groups = 4;  // that of the empty variable has nothing to launch

class CudaMultipliers : public ManyModels {
 protected:
  const Stream stream = emulator::create_stream();
};

std::vector<Options> all_options() {
  std::vector<Options> result(1);
  const auto add = [&](auto&& change) { change(result.emplace_back()); };
  add([](Options& o) { o.weight_decay = 0.1; });
  add([](Options& o) {
    o.global_clipnorm = 0.5;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 2;
    o.loss_scale_factor = 3.0;
    o.gradient_accumulation_steps = 2;
  });
  add([](Options& o) {
    o.clipnorm = 0.5;
    o.use_ema = true;
  });
  return result;
}

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

TEST_F(CudaMultipliers, EqualCpu) {
  for_each_model([&](const auto& specs, const AnyRule& rule, const Options& options) {
    next_schedule();
    Twins twins(specs, rule);
    twins.set_decays(1, false);
    twins.set_multipliers(several);
    for (int iteration = 0; iteration < 4; ++iteration) {
      twins.step(options, 0.01 * (iteration + 1), iteration, {3}, stream);
    }
    twins.expect_equal();
  });
}

TEST_F(CudaMultipliers, EqualCpuWhereTheDeviceCounts) {
  for_each_model([&](const auto& specs, const AnyRule& rule, const Options& options) {
    next_schedule();
    Recorded recorded(specs, rule, options);
    recorded.twins.set_multipliers(several);
    recorded.plan().prepare(rule);
    recorded.set_rate(0.1);
    recorded.capture();
    recorded.replay(3);
    recorded.set_rate(0.3);
    recorded.replay(2);
    recorded.eager(0.2, {1});
    recorded.expect_equal();
  });
}

TEST_F(CudaMultipliers, EqualCpuWithALossScale) {
  for_each_model([&](const auto& specs, const AnyRule& rule, Options options) {
    next_schedule();
    options.loss_scale_factor.reset();
    Twins twins(specs, rule);
    twins.set_loss_scale({.dynamic_growth_steps = 2, .dynamic_scale = 8});
    twins.set_multipliers(several);
    for (int iteration = 0; iteration < 4; ++iteration) {
      twins.step(options, 0.1, iteration, {}, stream);
    }
    twins.expect_equal();
  });
}

TEST_F(CudaMultipliers, MayChangeBetweenSteps) {
  const Options options = options_with([](Options& o) {
    o.weight_decay = 0.1;
    o.global_clipnorm = 0.5;
  });
  for (const auto& specs : {mixed, float32}) {
    next_schedule();
    Twins twins(specs, Nadam{});
    twins.step(options, 0.1, 0, {}, stream);
    twins.set_multipliers(several);
    twins.step(options, 0.1, 1, {}, stream);
    twins.step(options, 0.1, 2, {0}, stream);
    twins.set_multipliers(std::vector<Multipliers>(specs.size(), {0.5, 2}));
    twins.step(options, 0.1, 3, {}, stream);
    twins.set_multipliers(std::vector<Multipliers>(specs.size()));
    twins.step(options, 0.1, 4, {}, stream);
    twins.expect_equal();
  }
}

TEST_F(CudaMultipliers, TakeALaunchForEachPair) {
  Twins twins(float32, SGD{});
  Gradients gradients(twins.specs, 3);
  const auto launches = [&](int iteration) {
    const CudaCounts before = cuda_counts();
    twins.step({}, 0.1, iteration, gradients, {}, stream);
    EXPECT_EQ(cuda_counts().synchronizations, before.synchronizations);
    EXPECT_EQ(cuda_counts().allocations, before.allocations);
    return cuda_counts().launches - before.launches;
  };
  twins.set_multipliers(several);
  launches(0);  // sends the gradients
  EXPECT_EQ(launches(1), launched_groups);
  twins.set_multipliers(std::vector<Multipliers>(twins.specs.size()));
  EXPECT_EQ(launches(2), 1);
}

TEST_F(CudaMultipliers, GoWithVariablesWithoutElements) {
  Twins twins({{0}, {0}, {7}}, SGD{});
  twins.set_multipliers({{1, 1}, {2, 1}, {3, 1}});
  Gradients gradients(twins.specs, 3);
  twins.step({}, 0.1, 0, gradients, {}, stream);
  twins.expect_equal();
}

TEST_F(CudaMultipliers, CannotChangeAfterACapture) {
  Recorded recorded(float32, SGD{}, {});
  recorded.twins.set_multipliers(several);
  recorded.plan().prepare(SGD{});
  recorded.set_rate(0.1);
  recorded.capture();
  EXPECT_EQ(
      thrown<ArgumentError>(
          [&] { recorded.plan().set_multipliers(std::vector<Multipliers>(float32.size())); }),
      "The multipliers of variables cannot be changed once a step was captured in a CUDA graph: "
      "replays would take one variable for another. Set them before the capture.");
  recorded.replay(2);
  recorded.expect_equal();
}

}  // namespace
}  // namespace ravine::test
