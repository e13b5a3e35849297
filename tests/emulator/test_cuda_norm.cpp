// Norms on a GPU: the same bits as on the CPU, whatever the shape of the model and the order in
// which blocks finish.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "gpu_model.hpp"

namespace ravine::test {
namespace {

/// All steps are on a stream that runs late.
class CudaNorm : public ManyModels {
 protected:
  const Stream stream = emulator::create_stream();
};

/// Each test for blocks and threads in several orders.
class CudaNormInAnyOrder : public Schedules {
 protected:
  const Stream stream = emulator::create_stream();
};

INSTANTIATE_TEST_SUITE_P(Seeds, CudaNormInAnyOrder, testing::Values(0, 1, 2, 3));

Options clip_each(double bound) {
  return options_with([&](Options& o) { o.clipnorm = bound; });
}
Options clip_all(double bound) {
  return options_with([&](Options& o) { o.global_clipnorm = bound; });
}

/// Steps whose gradients have other norms each time, below and above both bounds: a factor that is
/// left from the step before would show.
void step_and_compare(Twins& twins, Stream stream, const Indices& missing = {},
                      const std::vector<double>& scales = {1.0, 30.0, 1e-3, 5.0}) {
  std::int64_t iteration = 0;
  for (const double scale : scales) {
    for (const Options& options : {clip_all(1.0), clip_each(0.5), clip_all(0.7)}) {
      twins.step(options, 0.1, iteration++, missing, stream, scale);
    }
    twins.step({}, 0.1, iteration++, missing, stream);
  }
  twins.expect_equal();
}

const std::vector<Spec> mixed{{5},
                              {4100, DType::float64},
                              {0},
                              {33, DType::float16, DType::float16},
                              {2050, DType::bfloat16, DType::float32},
                              {64, DType::float32, DType::bfloat16},
                              {70, DType::float64, DType::float16},
                              {9000, DType::float32, DType::float64}};

TEST_F(CudaNorm, EqualsCpuForOneArrayOfAnySizeAndType) {
  for (const DType dtype : {DType::float32, DType::float64, DType::bfloat16}) {
    for (const DType gradient : dtypes) {
      for (const std::int64_t size : {1, 3, 4, 5, 31, 127, 128, 129, 2047, 2048, 2049, 4097}) {
        next_schedule();
        Twins twins({{size, dtype, gradient}}, SGD{});
        step_and_compare(twins, stream, {}, {1.0, 30.0});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaNorm, EqualsCpuWhereverTheGradientLies) {
  for (const DType gradient : dtypes) {
    next_schedule();
    std::vector<Spec> specs;
    const auto item = static_cast<std::size_t>(size_bytes(gradient));
    for (std::size_t shift = 0; shift < 16; shift += item) {
      specs.push_back({2049, DType::float32, gradient, {0, shift}});
      specs.push_back({30, DType::float64, gradient, {0, shift}});
    }
    Twins twins(specs, SGD{});
    step_and_compare(twins, stream, {}, {1.0, 30.0});
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaNormInAnyOrder, EqualsCpuForManyArrays) {
  std::vector<Spec> specs;
  for (std::int64_t i = 0; i < 300; ++i) specs.push_back({i % 7 == 0 ? 0 : 1 + i % 50});
  Twins twins(specs, SGD{});
  step_and_compare(twins, stream, {0, 10, 256, 299}, {30.0});
}

TEST_P(CudaNormInAnyOrder, EqualsCpuForOneLargeArray) {
  // More tiles than a block has threads.
  Twins twins({{3}, {1300001}, {0}}, SGD{});
  step_and_compare(twins, stream, {}, {30.0});
}

TEST_F(CudaNorm, EqualsCpuForEveryRuleAndMixedTypes) {
  for (const AnyRule& rule : rules) {
    next_schedule();
    Twins twins(mixed, rule);
    step_and_compare(twins, stream);
    step_and_compare(twins, stream, {1, 4});
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaNorm, EqualsCpuWithEmptyArraysBetween) {
  for (const std::vector<Spec>& specs :
       {std::vector<Spec>{{0}, {7}, {0}, {0}, {4100}, {0}}, {{0}}, {{0}, {0, DType::float64}}}) {
    next_schedule();
    Twins twins(specs, RMSprop{});
    step_and_compare(twins, stream);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaNormInAnyOrder, IsThatOfTheMeanOfAWindow) {
  for (const bool is_global : {false, true}) {
    const Options options = options_with([&](Options& o) {
      (is_global ? o.global_clipnorm : o.clipnorm) = 0.5;
      o.gradient_accumulation_steps = 3;
      o.loss_scale_factor = 3.0;
    });
    for (const auto& specs : {mixed, std::vector<Spec>{{5}, {4100}, {0}, {33}, {2050}}}) {
      Twins twins(specs, Nadam{});
      const std::vector<Indices> missing{{1}, {0, 4}, {0, 1}, {}, {2, 3}, {3}};
      for (std::size_t iteration = 0; iteration < missing.size(); ++iteration) {
        twins.step(options, 0.1, static_cast<std::int64_t>(iteration), missing[iteration], stream,
                   20.0);
      }
      twins.expect_equal();
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(CudaNormInAnyOrder, IsThatOfTheUnscaledGradient) {
  Options options = clip_all(1.0);
  options.loss_scale_factor = 3.0;
  for (const auto& specs : {mixed, std::vector<Spec>{{5}, {4100}, {33}}}) {
    Twins twins(specs, SGD{.momentum = 0.9});
    for (int iteration = 0; iteration < 3; ++iteration) {
      twins.step(options, 0.1, iteration, {}, stream, 5.0);
    }
    twins.expect_equal();
  }
}

TEST_P(CudaNormInAnyOrder, SpoilsOneOrAllIfItIsNotFinite) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double value :
       {std::numeric_limits<double>::quiet_NaN(), infinity, -infinity, 1e300}) {
    for (const bool is_global : {false, true}) {
      // The square of 1e300 is beyond a double.
      Twins twins({{10}, {20, DType::float64, DType::float64}, {30}, {0}}, SGD{});
      Gradients gradients(twins.specs, 1);
      gradients.at(1).set(13, value);
      twins.step(is_global ? clip_all(1.0) : clip_each(1.0), 0.1, 0, gradients, {}, stream);
      twins.expect_equal();
      EXPECT_EQ(std::isnan(twins.gpu.arrays[0][0].get(3)), is_global);
      // The next step has nothing of it.
      Twins after({{10}}, SGD{});
      gradients.at(1).set(13, 1.0);
      for (Side* const side : {&twins.cpu, &twins.gpu}) {
        for (std::size_t i = 0; i < 3; ++i) side->arrays[i][0].draw(i, -1.0, 1.0);
      }
      twins.step(is_global ? clip_all(1.0) : clip_each(1.0), 0.1, 1, gradients, {}, stream);
      twins.expect_equal();
      EXPECT_FALSE(std::isnan(twins.gpu.arrays[1][0].get(13)));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(CudaNormInAnyOrder, OfTwoPlansAtOnceAreTheirOwn) {
  Twins few({{5}, {4100}}, SGD{});
  Twins many(std::vector<Spec>(40, {17}), SGD{});
  const Stream other = emulator::create_stream();
  for (int iteration = 0; iteration < 4; ++iteration) {
    few.step(clip_all(1.0), 0.1, iteration, {}, stream, iteration + 1.0);
    many.step(clip_all(1.0), 0.1, iteration, {}, other, iteration + 1.0);
  }
  few.expect_equal();
  many.expect_equal();
}

}  // namespace
}  // namespace ravine::test
