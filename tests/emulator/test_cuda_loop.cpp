// The kernels of an update: every size up to beyond some vectors and around those of a tile and a
// chunk, every place of every array, all rules and types, and nothing touched outside.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpu_model.hpp"

namespace ravine::test {
namespace {

class CudaLoop : public ManyModels {
 protected:
  template <class Specs>
  void test_each_rule_and_type(const Specs& make_specs);
};

const std::vector<std::int64_t> around_chunks{2047, 2048, 2049, 4095, 4096,
                                              4097, 8191, 8192, 8193, 20000};

std::vector<Spec> every_size(DType dtype, DType gradient) {
  std::vector<Spec> specs;
  for (std::int64_t size = 0; size <= 40; ++size) specs.push_back({size, dtype, gradient});
  for (const std::int64_t size : around_chunks) specs.push_back({size, dtype, gradient});
  return specs;
}

/// One array of a variable at a time at another place within a vector.
std::vector<Spec> every_place(DType dtype, DType gradient, std::size_t slots) {
  std::vector<Spec> specs;
  for (std::size_t array = 0; array < 4 + slots; ++array) {
    const DType type = array == 0 ? dtype : array == 1 ? gradient : arithmetic_dtype(dtype);
    const auto item = static_cast<std::size_t>(size_bytes(type));
    for (std::size_t shift = item; shift < 16; shift += item) {
      for (const std::int64_t size : {1, 7, 40, 300}) {
        specs.push_back({size, dtype, gradient});
        specs.back().shifts[array] = shift;
      }
    }
    specs.push_back({4100, dtype, gradient});
    specs.back().shifts[array] = item;
  }
  return specs;
}

const Options plain;
const Options averaged = options_with([](Options& o) { o.use_ema = true; });
const Options everything = options_with([](Options& o) {
  o.gradient_accumulation_steps = 2;
  o.loss_scale_factor = 3.0;
  o.clipvalue = 0.25;
  o.weight_decay = 0.1;
  o.use_ema = true;
  o.ema_overwrite_frequency = 2;
});

/// Steps that take each kernel of the update.
void step_and_compare(Twins& twins) {
  twins.step(plain, 0.01, 3);
  twins.step(averaged, 0.02, 4);
  twins.expect_equal();
  twins.step(averaged, 0.02, 0);  // copies the averages
  twins.step(everything, 0.03, 2);
  twins.step(everything, 0.03, 3);
  twins.expect_equal();
}

template <class Specs>
void CudaLoop::test_each_rule_and_type(const Specs& make_specs) {
  for (std::size_t rule = 0; rule < rules.size(); ++rule) {
    for (const DType dtype : dtypes) {
      for (const DType gradient : dtypes) {
        next_schedule();
        SCOPED_TRACE("rule " + std::to_string(rule) + ", types " +
                     std::to_string(static_cast<int>(dtype)) + " and " +
                     std::to_string(static_cast<int>(gradient)));
        Twins twins(make_specs(dtype, gradient, plain_slot_count(rules[rule])), rules[rule]);
        step_and_compare(twins);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaLoop, EqualsCpuAtEverySizeForEveryRuleAndType) {
  test_each_rule_and_type(
      [](DType dtype, DType gradient, std::size_t) { return every_size(dtype, gradient); });
}

TEST_F(CudaLoop, EqualsCpuAtEveryPlaceForEveryRuleAndType) { test_each_rule_and_type(every_place); }

TEST_F(CudaLoop, KernelsOfAnyTypesUpdateFloat32Alike) {
  // Another type beside them leads to another kernel: first one for 16 bits, then one for doubles.
  for (const AnyRule& rule : rules) {
    std::vector<Spec> specs = every_size(DType::float32, DType::float32);
    for (const DType added : {DType::float16, DType::float64}) {
      specs.push_back({3, added, added});
      Twins twins(specs, rule);
      step_and_compare(twins);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaLoop, OneLaunchUpdatesAllTypes) {
  for (int i = 0; i < 4; ++i) {
    next_schedule();
    std::vector<Spec> specs;
    for (const std::int64_t size : {5, 4099}) {
      for (const DType dtype : dtypes) {
        for (const DType gradient : dtypes) specs.push_back({size, dtype, gradient});
      }
    }
    Twins twins(specs, Nadam{});
    const std::int64_t before = cuda_counts().launches;
    twins.step(plain, 0.01, 3);
    EXPECT_EQ(cuda_counts().launches - before, 2);  // the update, and where the gradients are
    step_and_compare(twins);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaLoop, NeedsNoAveragesAndAccumulators) {
  const auto bare_plan = [](const Side& side) {
    std::vector<Variable> variables;
    for (const auto& arrays : side.arrays) {
      variables.push_back({"", arrays[0].view(side.device), {}, {}, {}});
      for (std::size_t k = 3; k < arrays.size(); ++k) {
        variables.back().slots.push_back(arrays[k].view(side.device));
      }
    }
    return Plan(std::move(variables));
  };
  for (const AnyRule& rule : rules) {
    Twins twins({{5}, {9000}, {9000, DType::float64}, {9000, DType::bfloat16}}, rule);
    for (Side* const side : {&twins.cpu, &twins.gpu}) side->plan = bare_plan(*side);
    for (int iteration = 0; iteration < 2; ++iteration) twins.step(plain, 0.01, iteration);
    twins.expect_equal();
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaLoop, RoundsTo16BitsAsTheCpu) {
  // Values over the whole range, beyond it and below it.
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    Twins twins({{2000, dtype, DType::float64}}, SGD{});
    Gradients g(twins.specs, 1);
    for (std::int64_t i = 0; i < 2000; ++i) {
      const double value = (i % 2 == 0 ? 1 : -1) * std::ldexp(1.0 + static_cast<double>(i) / 3000,
                                                              static_cast<int>(i / 7) - 145);
      g.at(0).set(i, value);
      for (Side* const side : {&twins.cpu, &twins.gpu}) side->arrays[0][0].set(i, 0.0);
    }
    twins.step(plain, 1.0, 0, g);
    twins.expect_equal();
    EXPECT_TRUE(std::isinf(twins.gpu.arrays[0][0].get(1999)));
    EXPECT_EQ(twins.gpu.arrays[0][0].get(0), 0.0);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace ravine::test
