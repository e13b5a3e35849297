// The passes around the rule on a GPU: accumulation, missing gradients, averages, decay, clipping
// by value, the scale of the loss, and gradients that are not finite.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "gpu_model.hpp"

namespace ravine::test {
namespace {

/// All types of variables and gradients, sizes with and without tails.
const std::vector<Spec> mixed{{5},
                              {4100, DType::float64},
                              {0},
                              {33, DType::float16, DType::float16},
                              {2050, DType::bfloat16, DType::float32},
                              {64, DType::float32, DType::bfloat16},
                              {70, DType::float64, DType::float16},
                              {4099, DType::float32, DType::float64}};
const std::vector<Spec> float32{{5}, {4100}, {0}, {33}, {2050}, {64}, {70}, {4099}};

/// All steps are on a stream that runs late.
class CudaPasses : public ManyModels {
 protected:
  /// Every list of variables with every rule.
  template <class Test>
  void for_each_model(const Test& test) {
    for (const auto* specs : {&mixed, &float32}) {
      for (const AnyRule& rule : rules) {
        next_schedule();
        Twins twins(*specs, rule);
        twins.set_decays(1, false);
        test(twins);
        twins.expect_equal();
        if (HasFatalFailure()) return;
      }
    }
  }

  const Stream stream = emulator::create_stream();
};

/// Single passes and several together.
std::vector<Options> all_options() {
  std::vector<Options> result(1);
  const auto add = [&](auto&& change) { change(result.emplace_back()); };
  add([](Options& o) { o.weight_decay = 0.1; });
  add([](Options& o) { o.weight_decay = -0.1; });
  add([](Options& o) { o.clipvalue = 0.25; });
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
    o.clipvalue = 0.5;
    o.loss_scale_factor = 3.0;
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.ema_overwrite_frequency = 2;
  });
  return result;
}

TEST_F(CudaPasses, EqualCpuForEveryRuleAndOption) {
  for (const Options& options : all_options()) {
    for_each_model([&](Twins& twins) {
      for (int iteration = 0; iteration < 5; ++iteration) {
        twins.step(options, 0.01 * (iteration + 1), iteration, {}, stream);
      }
    });
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaPasses, LeaveVariablesWithoutGradientAlone) {
  const std::vector<Indices> missing{{0}, {1, 2, 4}, {}, {7, 0, 3}, {2}, {1, 5, 6}};
  for (const Options& options : all_options()) {
    for_each_model([&](Twins& twins) {
      for (std::size_t iteration = 0; iteration < missing.size(); ++iteration) {
        twins.step(options, 0.01, static_cast<std::int64_t>(iteration), missing[iteration], stream);
      }
    });
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaPasses, CountMissingGradientsOfAWindowAsZeros) {
  const Options options = options_with([](Options& o) {
    o.gradient_accumulation_steps = 3;
    o.use_ema = true;
  });
  // In the middle of a window, at its end, at both, in all of it.
  const std::vector<Indices> missing{{1, 7}, {0, 1}, {0, 1, 4, 7}, {0}, {}, {3, 4, 5, 6}};
  for_each_model([&](Twins& twins) {
    for (std::size_t iteration = 0; iteration < missing.size(); ++iteration) {
      twins.step(options, 0.01, static_cast<std::int64_t>(iteration), missing[iteration], stream);
      EXPECT_EQ(twins.gpu.plan->received(4), twins.cpu.plan->received(4));
    }
  });
}

TEST_F(CudaPasses, ChangeDecayOfSingleVariables) {
  const Options options = options_with([](Options& o) { o.weight_decay = 0.1; });
  for_each_model([&](Twins& twins) {
    for (const bool decays : {false, true, false}) {
      twins.set_decays(4, decays);
      twins.set_decays(7, !decays);
      twins.step(options, 0.5, 0, {}, stream);
    }
  });
}

TEST_F(CudaPasses, OverwriteVariablesWithAverages) {
  const Options options = options_with([](Options& o) { o.use_ema = true; });
  for_each_model([&](Twins& twins) {
    const auto overwrite = [&](const Indices& indices) {
      twins.cpu.plan->overwrite_with_averages(indices);
      twins.gpu.plan->overwrite_with_averages(indices, stream);
    };
    for (int iteration = 0; iteration < 3; ++iteration) {
      twins.step(options, 0.01, iteration, {5}, stream);
    }
    overwrite({});
    overwrite({1, 3});
    overwrite({7});
    twins.step(options, 0.01, 3, {}, stream);
    twins.expect_equal();
    twins.cpu.plan->overwrite_with_averages();
    twins.gpu.plan->overwrite_with_averages(stream);
    // The marks have moved, and must be right again.
    twins.step(options, 0.01, 4, {2}, stream);
  });
}

TEST_F(CudaPasses, LetNanAndInfinityThrough) {
  const std::vector<double> special{std::numeric_limits<double>::quiet_NaN(),
                                    std::numeric_limits<double>::infinity(),
                                    -std::numeric_limits<double>::infinity(),
                                    0.0,
                                    -0.0,
                                    1e-310,
                                    -1e-41,
                                    3e38,
                                    1e300};
  for (const Options& options : all_options()) {
    for_each_model([&](Twins& twins) {
      Gradients gradients(twins.specs, 3);
      for (std::size_t i = 0; i < twins.specs.size(); ++i) {
        for (std::int64_t k = 0; k < twins.specs[i].size; k += 3) {
          const double value = special[static_cast<std::size_t>(k / 3) % special.size()];
          gradients.at(i).set(k, value);
          for (Side* const side : {&twins.cpu, &twins.gpu}) {
            if (k % 2 == 0) side->arrays[i][0].set(k, -value);
          }
        }
      }
      for (int iteration = 0; iteration < 3; ++iteration) {
        twins.step(options, 0.01, iteration, gradients, {}, stream);
      }
      twins.expect_equal();
    });
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaPasses, KeepTheSignOfZeroWithoutDecay) {
  Twins twins({{8}, {8, DType::float64}}, SGD{});
  Gradients gradients(twins.specs, 1);
  for (std::size_t i = 0; i < 2; ++i) {
    gradients.at(i).draw(1, 0.0, 0.0);
    twins.gpu.arrays[i][0].set(3, -0.0);
    twins.cpu.arrays[i][0].set(3, -0.0);
  }
  twins.step({}, 0.1, 0, gradients, {}, stream);
  twins.expect_equal();
  EXPECT_TRUE(std::signbit(twins.gpu.arrays[0][0].get(3)));
}

TEST_F(CudaPasses, GoOnFromAWindowThatWasBegunElsewhere) {
  // As after reading a checkpoint that was written in the middle of a window.
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Twins twins(mixed, Nadam{});
  twins.step(options, 0.1, 0, {1}, stream);
  for (Plan* const plan : {&*twins.cpu.plan, &*twins.gpu.plan}) {
    plan->set_received(0, false);
    plan->set_received(1, true);
  }
  twins.step(options, 0.1, 1, {0, 1}, stream);
  twins.expect_equal();
}

}  // namespace
}  // namespace ravine::test
