// What cannot be captured in a CUDA graph is refused, and leaves the plan and the capture as they
// were.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "gpu_model.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

const std::vector<Spec> specs{{5}, {4100}, {33, DType::float16}};

class CudaRefusals : public Emulator {
 protected:
  /// The text of what a call throws during a capture, which ends well and has taken nothing.
  template <class Call>
  std::string refusal(const Call& call) {
    emulator::begin_capture(stream);
    const std::int64_t before = cuda_counts().launches;
    const std::string text = thrown<ArgumentError>(call);
    EXPECT_EQ(cuda_counts().launches, before);
    EXPECT_EQ(thrown<Error>([&] { emulator::end_capture(stream); }), "(no exception)");
    return text;
  }

  /// Steps after a refusal are as if it had not been.
  static void expect_works(Twins& twins, std::int64_t iteration = 0) {
    EXPECT_FALSE(twins.gpu.plan->counts_on_device());
    for (int i = 0; i < 2; ++i) twins.step({}, 0.1, iteration + i);
    twins.expect_equal();
  }

  Stream stream = emulator::create_stream();
  Gradients gradients{specs, 1};
  const Options window = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
};

constexpr const char* refused_rule =
    "Steps that are captured in a CUDA graph or have a loss scale need the plan prepared for their "
    "rule and loss scale. Call prepare() before.";

TEST_F(CudaRefusals, InsideAWindowOfAccumulation) {
  Twins twins(specs, SGD{});
  twins.gpu.plan->prepare(SGD{});
  twins.step(window, 0.1, 0);
  EXPECT_EQ(refusal([&] { twins.gpu.step(window, 0.1, 1, gradients, {}, stream); }),
            "The first step that is captured in a CUDA graph must begin a window of "
            "gradient_accumulation_steps. Make the steps that are left of this one.");
  twins.step(window, 0.1, 1);
  twins.expect_equal();
}

TEST_F(CudaRefusals, OfALossScaleThatWasNotPrepared) {
  Twins twins(specs, SGD{});
  twins.gpu.plan->prepare(SGD{});
  LossScale scale;
  AnyRule rule = SGD{};
  const auto views = gradients.views(gpu());
  EXPECT_EQ(
      thrown<ArgumentError>([&] { twins.gpu.plan->step(rule, {}, 0.1, 0, views, stream, &scale); }),
      refused_rule);
  expect_works(twins);
}

TEST_F(CudaRefusals, OfAPlanThatWasNotPrepared) {
  Twins twins(specs, Nadam{});
  const auto capture = [&] { twins.gpu.step({}, 0.1, 0, gradients, {}, stream); };
  EXPECT_EQ(refusal(capture), refused_rule);
  expect_works(twins);
  // Steps load only what they need themselves.
  EXPECT_EQ(refusal(capture), refused_rule);
  expect_works(twins, 2);
}

TEST_F(CudaRefusals, OfAnotherRule) {
  for (const auto& [prepared, other] :
       {std::pair<AnyRule, AnyRule>{SGD{.momentum = 0.9}, RMSprop{}},
        {SGD{.momentum = 0.9}, SGD{.momentum = 0.9, .nesterov = true}},
        {RMSprop{.momentum = 0.9}, RMSprop{.centered = true}}}) {
    Twins twins(specs, prepared);
    twins.gpu.plan->prepare(prepared);
    AnyRule rule = other;
    const auto views = gradients.views(gpu());
    EXPECT_EQ(refusal([&] { twins.gpu.plan->step(rule, {}, 0.1, 0, views, stream); }),
              refused_rule);
    expect_works(twins);
  }
}

TEST_F(CudaRefusals, OfARuleThatSteppedSinceThePreparation) {
  // The state on the device is that of the other.
  Twins twins(specs, SGD{.momentum = 0.9});
  twins.gpu.plan->prepare(SGD{.momentum = 0.9});
  for (Side* const side : {&twins.cpu, &twins.gpu}) side->rule = RMSprop{};
  twins.step({}, 0.1, 0);
  AnyRule rule = SGD{.momentum = 0.9};
  const auto views = gradients.views(gpu());
  EXPECT_EQ(refusal([&] { twins.gpu.plan->step(rule, {}, 0.1, 0, views, stream); }), refused_rule);
  expect_works(twins, 1);
}

TEST_F(CudaRefusals, OfAnotherRuleOnceAStepWasCaptured) {
  Twins twins(specs, SGD{.momentum = 0.9});
  twins.gpu.plan->prepare(SGD{.momentum = 0.9});
  emulator::begin_capture(stream);
  twins.gpu.step({}, 0.1, 0, gradients, {}, stream);
  emulator::end_capture(stream);
  AnyRule rule = RMSprop{};
  EXPECT_EQ(thrown<ArgumentError>(
                [&] { twins.gpu.plan->step(rule, {}, 0.1, 0, gradients.views(gpu()), stream); }),
            refused_rule);
  twins.step({}, 0.1, 0, {}, stream);
  twins.expect_equal();
}

TEST_F(CudaRefusals, OfARateInACapture) {
  Twins twins(specs, SGD{});
  const std::vector<double> rates{0.5, 0.25};
  EXPECT_EQ(refusal([&] { twins.gpu.plan->set_learning_rates(0, rates, stream); }),
            "learning_rate cannot be set while a CUDA graph is captured: set it between replays.");
  EXPECT_EQ(refusal([&] { twins.gpu.plan->set_learning_rate(0.5, stream); }),
            "learning_rate cannot be set while a CUDA graph is captured: set it between replays.");
  expect_works(twins);
}

TEST_F(CudaRefusals, OfARateThatIsNotFinite) {
  Twins twins(specs, SGD{});
  for (const double rate :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(thrown<ArgumentError>([&] { twins.gpu.plan->set_learning_rate(rate, stream); }),
              "learning_rate must be finite.");
  }
  expect_works(twins);
}

TEST_F(CudaRefusals, OfTooManyRatesOrNone) {
  Twins twins(specs, SGD{});
  const auto message = [&](std::size_t count, double rate) {
    const std::vector<double> rates(count, rate);
    return thrown<ArgumentError>([&] { twins.gpu.plan->set_learning_rates(0, rates, stream); });
  };
  EXPECT_EQ(message(512, 0.1), "(no exception)");
  EXPECT_EQ(message(513, 0.1), "There must be 1 to 512 learning rates, all finite. Received: 513.");
  EXPECT_EQ(message(0, 0.1), "There must be 1 to 512 learning rates, all finite. Received: 0.");
  EXPECT_EQ(message(2, std::numeric_limits<double>::infinity()),
            "There must be 1 to 512 learning rates, all finite. Received: 2.");
  expect_works(twins);
}

TEST_F(CudaRefusals, OfGradientsFromOutsideOfACapture) {
  // CUDA would refuse it too, but spoil the capture.
  Twins twins(specs, Nadam{});
  twins.gpu.plan->prepare(Nadam{});
  twins.step({}, 0.1, 0, gradients);
  for (const Stream producer : {Stream{}, emulator::create_stream()}) {
    auto views = gradients.views(gpu());
    views[1].producer = producer;
    EXPECT_EQ(refusal([&] { twins.gpu.plan->step(twins.gpu.rule, {}, 0.1, 1, views, stream); }),
              "Gradients are made on another stream than that of the step, and only one of the two "
              "is captured in a CUDA graph. Make both on the stream that is captured.");
  }
  expect_works(twins, 1);
}

TEST_F(CudaRefusals, OfAStreamOfAnotherDevice) {
  Twins twins(specs, Nadam{});
  twins.gpu.plan->prepare(Nadam{});
  emulator::set_device(1);
  const Stream wrong = emulator::create_stream();
  emulator::set_device(0);
  emulator::begin_capture(wrong);
  EXPECT_EQ(thrown<Error>([&] { twins.gpu.step({}, 0.1, 0, gradients, {}, wrong); }),
            "CUDA: invalid resource handle");
  emulator::end_capture(wrong);
  expect_works(twins);
}

}  // namespace
}  // namespace ravine::test
