// What a step asks of the GPU: one launch, three with a norm, one more where gradients have moved,
// and never to be waited for.
#include <gtest/gtest.h>

#include <vector>

#include "gpu_model.hpp"

namespace ravine::test {
namespace {

class CudaLaunches : public Emulator {
 protected:
  /// Launches of one call, which must not wait for the device nor allocate.
  template <class Call>
  std::int64_t launches(const Call& call) {
    const CudaCounts before = cuda_counts();
    call();
    const CudaCounts after = cuda_counts();
    EXPECT_EQ(after.synchronizations, before.synchronizations);
    EXPECT_EQ(after.allocations, before.allocations);
    return after.launches - before.launches;
  }

  std::int64_t of_step(Twins& twins, const Options& options, const Gradients& gradients,
                       const Indices& missing = {}) {
    return launches([&] { twins.step(options, 0.1, iteration_++, gradients, missing, stream_); });
  }

 private:
  Stream stream_ = emulator::create_stream();
  std::int64_t iteration_ = 0;
};

const Options plain;
const std::vector<Spec> specs{{5}, {4100}, {0}, {70, DType::float64, DType::float16}};

TEST_F(CudaLaunches, OfAStepAreOneIfNothingHasMoved) {
  for (const AnyRule& rule : rules) {
    Twins twins(specs, rule);
    const Gradients gradients(specs, 1);
    EXPECT_EQ(of_step(twins, plain, gradients), 2);
    EXPECT_EQ(of_step(twins, plain, gradients), 1);
    const Options options = options_with([](Options& o) {
      o.weight_decay = 0.1;
      o.clipvalue = 0.1;
      o.loss_scale_factor = 2.0;
      o.use_ema = true;
      o.ema_overwrite_frequency = 2;
    });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(of_step(twins, options, gradients), 1);
    twins.expect_equal();
  }
}

TEST_F(CudaLaunches, OfANormAreOneMore) {
  Twins twins(specs, Nadam{});
  const Gradients gradients(specs, 1);
  of_step(twins, plain, gradients);
  for (const bool is_global : {true, false}) {
    const Options options =
        options_with([&](Options& o) { (is_global ? o.global_clipnorm : o.clipnorm) = 0.5; });
    EXPECT_EQ(of_step(twins, options, gradients), 2);
  }
  twins.expect_equal();
}

TEST_F(CudaLaunches, OfAMovedGradientAreOneMore) {
  Twins twins(specs, Nadam{});
  const Gradients gradients(specs, 1), others(specs, 2);
  of_step(twins, plain, gradients);
  EXPECT_EQ(of_step(twins, plain, others), 2);
  EXPECT_EQ(of_step(twins, plain, others), 1);
  EXPECT_EQ(of_step(twins, plain, gradients), 2);
  EXPECT_EQ(of_step(twins, plain, gradients, {1}), 2);
  EXPECT_EQ(of_step(twins, plain, gradients, {1}), 1);
  EXPECT_EQ(of_step(twins, plain, gradients), 2);
  twins.expect_equal();
}

TEST_F(CudaLaunches, OfAChangedMarkAreOneMore) {
  Twins twins(specs, SGD{});
  const Gradients gradients(specs, 1);
  const Options options = options_with([](Options& o) { o.weight_decay = 0.1; });
  of_step(twins, options, gradients);
  twins.set_decays(1, false);
  EXPECT_EQ(of_step(twins, options, gradients), 2);
  EXPECT_EQ(of_step(twins, options, gradients), 1);
  twins.expect_equal();
}

TEST_F(CudaLaunches, OfAccumulationAreOne) {
  Twins twins(specs, SGD{});
  const Gradients gradients(specs, 1);
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 3; });
  EXPECT_EQ(of_step(twins, options, gradients), 2);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(of_step(twins, options, gradients), 1);
  twins.expect_equal();
}

TEST_F(CudaLaunches, OfOverwritingAreOneAndTheMarks) {
  Twins twins(specs, SGD{});
  const Gradients gradients(specs, 1);
  of_step(twins, plain, gradients);
  const auto overwrite = [&](const Indices& indices) {
    twins.cpu.plan->overwrite_with_averages(indices);
    return launches([&] { twins.gpu.plan->overwrite_with_averages(indices); });
  };
  EXPECT_EQ(overwrite({0, 1, 2, 3}), 1);
  EXPECT_EQ(overwrite({1}), 2);
  EXPECT_EQ(overwrite({1}), 1);
  twins.expect_equal();
}

TEST_F(CudaLaunches, OfASetRateAreOne) {
  Twins twins(specs, SGD{});
  EXPECT_EQ(launches([&] { twins.gpu.plan->set_learning_rate(0.5); }), 1);
}

TEST_F(CudaLaunches, SendMoreGradientsThanOneCanTakeInSeveral) {
  // Words: one a gradient, and one for the marks of eight. A launch takes 4,000.
  struct Case {
    std::size_t arrays;
    std::int64_t all, moved;
  };
  for (const auto& [arrays, all, moved] :
       {Case{31, 1, 1}, Case{32, 1, 1}, Case{512, 1, 1}, Case{513, 1, 1}, Case{3555, 1, 1},
        Case{4000, 2, 1}, Case{4001, 2, 2}, Case{8500, 3, 3}}) {
    const std::vector<Spec> small(arrays, {1});
    Twins twins(small, SGD{});
    const Gradients gradients(small, 1), others(small, 2);
    EXPECT_EQ(of_step(twins, plain, gradients), 1 + all) << arrays;
    EXPECT_EQ(of_step(twins, plain, gradients), 1) << arrays;
    EXPECT_EQ(of_step(twins, plain, others), 1 + moved) << arrays;
    twins.set_decays(arrays - 1, false);
    EXPECT_EQ(of_step(twins, plain, others), 2) << arrays;
    EXPECT_EQ(of_step(twins, plain, others, {0, arrays / 2, arrays - 1}), 1 + all) << arrays;
    twins.expect_equal();
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaLaunches, HappenAlsoForEmptyArrays) {
  const std::vector<Spec> empty{{0}, {0, DType::float64}};
  Twins twins(empty, Nadam{});
  const Gradients gradients(empty, 1);
  EXPECT_EQ(of_step(twins, plain, gradients), 2);
  EXPECT_EQ(of_step(twins, plain, gradients), 1);  // it writes where training stands
  const Options clips = options_with([](Options& o) { o.global_clipnorm = 1.0; });
  EXPECT_EQ(of_step(twins, clips, gradients), 1);
  twins.expect_equal();
  EXPECT_EQ(std::get<Nadam>(twins.gpu.rule).momentum_product,
            std::get<Nadam>(twins.cpu.rule).momentum_product);
}

TEST_F(CudaLaunches, OfAPlanAreTwoAllocations) {
  const std::int64_t before = cuda_counts().allocations;
  Twins twins(specs, SGD{});
  // What has a place for each variable, and what has one for each group of them.
  EXPECT_EQ(cuda_counts().allocations - before, 2);
}

TEST_F(CudaLaunches, OfAPlanWithoutVariablesAreNone) {
  // Its arrays, none, are the CPU's.
  Plan plan({});
  const std::int64_t before = cuda_counts().launches;
  plan.overwrite_with_averages();
  EXPECT_EQ(cuda_counts().launches, before);
}

}  // namespace
}  // namespace ravine::test
