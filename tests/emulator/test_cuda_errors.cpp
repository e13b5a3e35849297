// What does not fit on a GPU is refused before anything is written, and what was taken is given
// back.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpu_model.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

class CudaErrors : public Emulator {
 protected:
  /// The text of what a plan for this variable throws.
  static std::string message(const Variable& variable) {
    return thrown<Error>([&] { Plan plan({variable}); });
  }
  std::string message_of_step(const TensorView& gradient) {
    return thrown<Error>([&] { twins.gpu.plan->step(twins.gpu.rule, {}, 0.1, 0, {&gradient, 1}); });
  }

  static TensorView strided(const Elements& elements, int rank, const std::int64_t* shape,
                            const std::int64_t* strides) {
    TensorView view = elements.view(gpu());
    view.rank = rank;
    view.shape = shape;
    view.strides_bytes = strides;
    view.size = 1;
    for (int axis = 0; axis < rank; ++axis) view.size *= shape[axis];
    return view;
  }

  const Elements wide{24, DType::float32}, slot{6, DType::float32};
  Twins twins{{{6}}, SGD{}};
};

TEST_F(CudaErrors, VariablesWithGapsAreRefused) {
  const std::int64_t size = 6, stride = 8, shape[] = {2, 3}, strides[] = {16, 4};
  const char* const expected =
      "On a GPU variables must be aligned and without gaps, and variable 0 ('kernel') is not. Pass "
      "the array that it is a view of, or a contiguous copy.";
  EXPECT_EQ(message({"kernel", strided(wide, 1, &size, &stride), {}, {}, {}}), expected);
  EXPECT_EQ(message({"kernel", strided(wide, 2, shape, strides), {}, {}, {}}), expected);
  TensorView misaligned = wide.view(gpu());
  misaligned.data = wide.data() + 2;
  misaligned.size = 6;
  EXPECT_EQ(message({"kernel", misaligned, {}, {}, {}}), expected);
}

TEST_F(CudaErrors, VariablesInAnyOrderOfAxesAreNot) {
  const std::int64_t shape[] = {2, 3}, strides[] = {4, 8};
  EXPECT_EQ(message({"kernel", strided(wide, 2, shape, strides), {slot.view(gpu())}, {}, {}}),
            "(no exception)");
}

TEST_F(CudaErrors, GradientsWithGapsAreRefused) {
  const std::int64_t size = 6, stride = 8;
  const char* const expected =
      "On a GPU gradients must be aligned, without gaps and in the order in memory of their "
      "variables, and gradient 0 is not as variable 0. Pass a contiguous copy, as of "
      "cupy.ascontiguousarray().";
  EXPECT_EQ(message_of_step(strided(wide, 1, &size, &stride)), expected);
  TensorView misaligned = wide.view(gpu());
  misaligned.data = wide.data() + 2;
  misaligned.size = 6;
  EXPECT_EQ(message_of_step(misaligned), expected);
  twins.step({}, 0.1, 0);
  twins.expect_equal();
}

TEST_F(CudaErrors, GradientsInAnotherOrderThanTheVariableAreRefused) {
  const std::int64_t shape[] = {2, 3}, by_columns[] = {4, 8};
  AnyRule rule = SGD{};
  Elements w(6, DType::float32);
  Plan plan({{"", strided(w, 2, shape, by_columns), {}, {}, {}}});
  const auto step = [&](const std::int64_t* strides) {
    const TensorView gradient = strided(wide, 2, shape, strides);
    return thrown<ArgumentError>([&] { plan.step(rule, {}, 0.5, 0, {&gradient, 1}); });
  };
  EXPECT_EQ(step(by_columns), "(no exception)");
  EXPECT_EQ(step(nullptr).substr(0, 26), "On a GPU gradients must be");
}

TEST_F(CudaErrors, VariablesOfSeveralDevicesAreRefused) {
  const Elements other(6, DType::float32);
  const auto message_of = [&](const Device& first, const Device& second) {
    return thrown<ArgumentError>([&] {
      Plan plan({{"", wide.view(first), {}, {}, {}}, {"bias", other.view(second), {}, {}, {}}});
    });
  };
  EXPECT_EQ(message_of(gpu(0), gpu(1)),
            "All variables must be on one device; the first is on GPU 0, variable 1 ('bias') is on "
            "GPU 1. Move them, or use an optimizer for each device.");
  EXPECT_EQ(message_of({}, gpu(0)).substr(0, 63),
            "All variables must be on one device; the first is on the CPU, v");
  EXPECT_EQ(message({"", wide.view(gpu()), {wide.view()}, {}, {}}),
            "A slot of variable 0 must be a writable array of 24 elements on the device of the "
            "variable.");
}

TEST_F(CudaErrors, ADeviceThatIsNotThereIsRefused) {
  for (const int index : {-1, 2}) {
    EXPECT_THROW(Plan({{"", wide.view(gpu(index)), {}, {}, {}}}), UnavailableError);
  }
}

TEST_F(CudaErrors, AMissingDriverIsSaid) {
  emulator::set_driver(false);
  const char* const expected =
      "No NVIDIA driver was found. Install one (version 580 or newer), or pass NumPy arrays.";
  const Variable variable{"", wide.view(gpu()), {}, {}, {}};
  EXPECT_EQ(thrown<UnavailableError>([&] { Plan plan({variable}); }), expected);
  EXPECT_EQ(thrown<UnavailableError>([&] { cuda_device_of(wide.data()); }), expected);
  EXPECT_EQ(message({"", wide.view(), {}, {}, {}}), "(no exception)");
  emulator::set_driver(true);
  EXPECT_EQ(message(variable), "(no exception)");
}

TEST_F(CudaErrors, TheDeviceOfMemoryIsFound) {
  const Elements there(6, DType::float32);
  emulator::register_memory(wide.data(), 96, 1);
  emulator::register_memory(there.data(), 24, emulator::no_device);
  EXPECT_EQ(cuda_device_of(wide.data() + 95), 1);
  EXPECT_EQ(cuda_device_of(slot.data()), 0);
  EXPECT_EQ(thrown<ArgumentError>([&] { cuda_device_of(there.data()); }),
            "The memory of the array is not that of a GPU.");
  emulator::unregister_memory(wide.data());
  emulator::unregister_memory(there.data());
}

TEST_F(CudaErrors, APlanWithoutMemoryLeavesNothing) {
  const Variable variable{"", wide.view(gpu()), {}, {}, {}};
  for (int i = 0; i < 3; ++i) {
    emulator::fail_allocation_after(1);
    const std::string text = thrown<OutOfMemoryError>([&] { Plan plan({variable}); });
    EXPECT_EQ(text.substr(0, 15), "The GPU has no ");
    EXPECT_EQ(text.substr(text.find(" bytes")),
              " bytes of memory left. Free some, and build the optimizer again.");
    EXPECT_EQ(emulator::current_device(), 0);
    EXPECT_EQ(message(variable), "(no exception)");
  }
  twins.step({}, 0.1, 0);
  twins.expect_equal();
}

TEST_F(CudaErrors, AStepNeedsNoMemory) {
  emulator::fail_allocation_after(1);
  const Options options = options_with([](Options& o) { o.global_clipnorm = 1.0; });
  for (int iteration = 0; iteration < 3; ++iteration) twins.step(options, 0.1, iteration);
  twins.gpu.plan->prepare(SGD{});
  twins.expect_equal();
}

TEST_F(CudaErrors, APlanMayEndWhileItsWorkIsOutstanding) {
  const Stream stream = emulator::create_stream();
  {
    Twins others({{4100}}, Nadam{});
    Gradients gradients(others.specs, 1);
    others.step({}, 0.1, 0, gradients, {}, stream);
    EXPECT_GT(emulator::outstanding(), 0u);
    others.gpu.plan.reset();
    EXPECT_EQ(emulator::outstanding(), 0u);
    EXPECT_TRUE(others.gpu.arrays[0][0].same(others.cpu.arrays[0][0]));
  }
}

TEST_F(CudaErrors, AMovedPlanGoesOn) {
  Plan moved = std::move(*twins.gpu.plan);
  twins.gpu.plan.emplace(std::move(moved));
  twins.step({}, 0.1, 0);
  twins.expect_equal();
}

TEST_F(CudaErrors, TimingALimitIsForTheCpu) {
  const TensorView gradient = wide.view(gpu());
  EXPECT_EQ(thrown<ArgumentError>([&] { twins.gpu.plan->stream({}, {&gradient, 1}); }),
            "stream() is for arrays of the CPU. On a GPU, time a copy of the arrays.");
  EXPECT_EQ(thrown<ArgumentError>([&] { twins.gpu.plan->divide(Nadam{}); }),
            "divide() is for arrays of the CPU. On a GPU, time a copy of the arrays.");
}

TEST_F(CudaErrors, StateIsTouchedOnTheCpuOnly) {
  const std::size_t before = emulator::outstanding();
  twins.gpu.plan->touch_state();
  EXPECT_EQ(emulator::outstanding(), before);
  twins.step({}, 0.1, 0);
  twins.expect_equal();
}

}  // namespace
}  // namespace ravine::test
