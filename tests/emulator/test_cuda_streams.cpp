// Streams and devices: what a step waits for, and that it leaves the current device as it was.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "gpu_model.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

class CudaStreams : public Schedules {
 protected:
  /// A stream of a device.
  static Stream stream_on(int device) {
    const int before = emulator::current_device();
    emulator::set_device(device);
    const Stream stream = emulator::create_stream();
    emulator::set_device(before);
    return stream;
  }

  /// Lets a stream fill a gradient with these numbers when its turn comes.
  static void put_copy(Stream stream, const TensorView& from, const TensorView& to) {
    const auto bytes = static_cast<std::size_t>(from.size * size_bytes(from.dtype));
    emulator::enqueue(stream, 1, 1, [=] { std::memcpy(to.data, from.data, bytes); });
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, CudaStreams, testing::Range<std::uint64_t>(0, 8));

const std::vector<Spec> specs{{5}, {4100, DType::float64}, {0}, {33, DType::float16}};

Options every_pass() {
  return options_with([](Options& o) {
    o.weight_decay = 0.1;
    o.use_ema = true;
    o.global_clipnorm = 1.0;
  });
}

TEST_P(CudaStreams, StepsWaitForTheLastOnAnyStream) {
  const Stream a = emulator::create_stream(), b = emulator::create_stream();
  Twins twins(specs, Nadam{});
  std::int64_t iteration = 0;
  for (const Stream stream : {a, b, a, a, b, Stream{nullptr}, b, b, a}) {
    twins.step(every_pass(), 0.1, iteration++, {}, stream);
  }
  twins.expect_equal();
}

TEST_P(CudaStreams, AccumulationAndOverwritingWaitForTheLastToo) {
  const Stream a = emulator::create_stream(), b = emulator::create_stream();
  const Options options = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
  Twins twins(specs, SGD{.momentum = 0.9});
  std::int64_t iteration = 0;
  for (const Stream stream : {a, b, b, a}) {
    twins.step(options, 0.1, iteration++, {}, stream);
    for (const Indices& indices : {Indices{0}, Indices{1, 3}}) {
      const Stream other = stream == a ? b : a;
      twins.cpu.plan->overwrite_with_averages(indices);
      twins.gpu.plan->overwrite_with_averages(indices, other);
    }
  }
  twins.expect_equal();
}

TEST_P(CudaStreams, StepsWaitForTheProducersOfGradients) {
  const Stream stream = emulator::create_stream();
  const Stream a = emulator::create_stream(), b = emulator::create_stream();
  Twins twins(specs, Nadam{});
  const Gradients values(specs, 1);
  Gradients made(specs, 1);
  std::int64_t iteration = 0;
  // The default stream runs the others first, which hides whether these are waited for.
  for (const std::vector<Stream>& producers :
       {std::vector<Stream>{a, b, a, b}, {b, stream, a, a}, {a, nullptr, b, nullptr}}) {
    made.draw(1, 0.0);
    auto views = made.views(gpu());
    for (std::size_t i = 0; i < views.size(); ++i) {
      put_copy(producers[i], values.views({})[i], views[i]);
      views[i].producer = producers[i];
    }
    twins.cpu.step(every_pass(), 0.1, iteration, values);
    twins.gpu.plan->step(twins.gpu.rule, every_pass(), 0.1, iteration++, views, stream);
    twins.expect_equal();
  }
}

TEST_P(CudaStreams, ProducersOfMissingGradientsAreNotWaitedFor) {
  const Stream stream = emulator::create_stream(), producer = emulator::create_stream();
  Twins twins({{5}, {5}}, SGD{});
  const Gradients gradients(twins.specs, 1);
  auto views = gradients.views(gpu(), {1});
  views[1].producer = producer;
  bool has_run = false;
  emulator::enqueue(producer, 1, 1, [&] { has_run = true; });
  twins.gpu.plan->step(twins.gpu.rule, {}, 0.1, 0, views, stream);
  emulator::synchronize(stream);
  // Under this schedule only what somebody waits for gets its turn.
  EXPECT_TRUE(!has_run || GetParam() != 0);
  emulator::synchronize_all();
}

TEST_F(Emulator, ShowsAMissingWait) {
  // What the tests above rely upon: without its producer a gradient is read too early.
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    emulator::set_schedule(seed);
    const Stream producer = emulator::create_stream(), stream = emulator::create_stream();
    Side side({{5}}, SGD{}, gpu());
    const double before = side.arrays[0][0].get(2);
    Gradients gradients({{5}}, 1, 0.0);
    emulator::enqueue(producer, 1, 1, [&] { gradients.at(0).set(2, 1.0); });
    side.step({}, 0.5, 0, gradients, {}, stream);
    emulator::synchronize(stream);
    wrong += side.arrays[0][0].get(2) == before;
    emulator::synchronize_all();
  }
  EXPECT_GE(wrong, 2);
  EXPECT_LT(wrong, 32);
}

// -------------------------------------------------------------------------------------- devices

TEST_P(CudaStreams, TheCurrentDeviceStaysWhatItWas) {
  for (const int current : {0, 1}) {
    emulator::set_device(current);
    for (const int device : {0, 1}) {
      const Stream a = stream_on(device), b = stream_on(device);
      Twins twins(specs, Nadam{}, device);
      EXPECT_EQ(emulator::current_device(), current);
      Plan& plan = *twins.gpu.plan;
      plan.prepare(twins.gpu.rule);
      EXPECT_EQ(emulator::current_device(), current);
      twins.step(every_pass(), 0.1, 0, {}, a);
      EXPECT_EQ(emulator::current_device(), current);
      twins.step(every_pass(), 0.1, 1, {1}, b);
      const Options window = options_with([](Options& o) { o.gradient_accumulation_steps = 2; });
      twins.step(window, 0.1, 2, {}, a);
      EXPECT_EQ(emulator::current_device(), current);
      plan.set_learning_rate(0.5, a);
      EXPECT_EQ(emulator::current_device(), current);
      twins.cpu.plan->overwrite_with_averages();
      plan.overwrite_with_averages(b);
      EXPECT_EQ(emulator::current_device(), current);
      // Also by a call that fails.
      const Stream wrong = stream_on(1 - device);
      EXPECT_THROW(plan.overwrite_with_averages(wrong), Error);
      EXPECT_EQ(emulator::current_device(), current);
      AnyRule rule = Nadam{};
      std::int64_t iteration = 0;
      plan.read_progress(rule, iteration);
      EXPECT_EQ(emulator::current_device(), current);
      twins.expect_equal();
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(emulator::current_device(), current);
  }
}

TEST_P(CudaStreams, TwoPlansStepOnTwoDevices) {
  Twins first(specs, Nadam{}, 0), second(specs, Nadam{}, 1);
  for (int iteration = 0; iteration < 4; ++iteration) {
    first.step(every_pass(), 0.1, iteration, {}, stream_on(0));
    second.step(every_pass(), 0.2, iteration, {0}, iteration < 2 ? nullptr : stream_on(1));
  }
  first.expect_equal();
  second.expect_equal();
  EXPECT_EQ(first.gpu.plan->device(), gpu(0));
  EXPECT_EQ(second.gpu.plan->device(), gpu(1));
}

TEST_P(CudaStreams, AStreamOfAnotherDeviceIsRefusedAndForgotten) {
  const Stream right = stream_on(0), wrong = stream_on(1);
  Twins twins(specs, Nadam{});
  Gradients gradients(specs, 1);
  for (int iteration = 0; iteration < 3; ++iteration) {
    twins.step(every_pass(), 0.1, iteration, gradients, {}, right);
    EXPECT_EQ(
        thrown<Error>([&] { twins.gpu.step(every_pass(), 0.1, iteration, gradients, {}, wrong); }),
        "CUDA: invalid resource handle");
  }
  twins.expect_equal();
}

TEST_P(CudaStreams, GradientsOfAnotherDeviceAreRefused) {
  Twins twins(specs, SGD{});
  const Gradients gradients(specs, 1);
  twins.step({}, 0.1, 0, gradients);
  auto views = gradients.views(gpu());
  views[1].device = gpu(1);
  const auto message = [&] {
    return thrown<ArgumentError>([&] { twins.gpu.plan->step(twins.gpu.rule, {}, 0.1, 1, views); });
  };
  EXPECT_EQ(message(),
            "Gradient 1 is on GPU 1, variable 1 is on GPU 0. Pass gradients on the device of the "
            "variables.");
  views[1].device = {};
  EXPECT_EQ(message(),
            "Gradient 1 is on the CPU, variable 1 is on GPU 0. Pass gradients on the device of the "
            "variables.");
  twins.expect_equal();
}

}  // namespace
}  // namespace ravine::test
