// The runtime's interface on the emulator: devices, memory, counts.
#include "cuda/runtime.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "fixtures.hpp"
#include "ravine/error.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

namespace runtime = cuda::runtime;

const std::string not_permitted = "CUDA: operation not permitted when stream is capturing";

/// What `call` adds to the counts: launches, synchronizations, allocations.
template <class Call>
std::vector<std::int64_t> added(const Call& call) {
  const CudaCounts before = runtime::counts();
  call();
  const CudaCounts after = runtime::counts();
  return {after.launches - before.launches, after.synchronizations - before.synchronizations,
          after.allocations - before.allocations};
}

TEST_F(Emulator, CountsWhatItIsAsked) {
  using Counts = std::vector<std::int64_t>;
  const Stream stream = emulator::create_stream();
  int value = 0;
  void* memory = nullptr;
  EXPECT_EQ(added([&] { memory = runtime::allocate(4); }), (Counts{0, 0, 1}));
  EXPECT_EQ(added([&] { runtime::copy_to_device(memory, &value, 4); }), (Counts{0, 1, 0}));
  EXPECT_EQ(added([&] { runtime::copy_to_host(&value, memory, 4); }), (Counts{0, 1, 0}));
  runtime::Event event;
  EXPECT_EQ(added([&] {
              emulator::enqueue(stream, 1, 1, [] {});
              event.record(stream);
              event.let_wait(stream);
              runtime::load(&value);
            }),
            (Counts{1, 0, 0}));
  EXPECT_EQ(added([&] { event.synchronize(); }), (Counts{0, 1, 0}));
  emulator::begin_capture(stream);
  EXPECT_EQ(added([&] { emulator::enqueue(stream, 1, 1, [] {}); }), (Counts{1, 0, 0}));
  const emulator::Graph graph = emulator::end_capture(stream);
  EXPECT_EQ(added([&] {
              graph.launch(stream);
              emulator::synchronize_all();
            }),
            (Counts{0, 0, 0}));
  runtime::release(memory);
}

TEST_F(Emulator, CopiesWhenTheWorkOfTheDeviceIsDone) {
  const Stream stream = emulator::create_stream();
  const int one = 1;
  int result = 0;
  auto* const memory = static_cast<int*>(runtime::allocate(sizeof(int)));
  EXPECT_EQ(*memory, -1);
  runtime::copy_to_device(memory, &one, sizeof one);
  emulator::enqueue(stream, 1, 1, [=] { *memory += 2; });
  runtime::copy_to_host(&result, memory, sizeof result);
  EXPECT_EQ(result, 3);
  emulator::enqueue(stream, 1, 1, [=] { *memory += 2; });
  runtime::copy_to_device(memory, &one, sizeof one);
  emulator::synchronize_all();
  EXPECT_EQ(*memory, 1);
  runtime::release(memory);
}

TEST_F(Emulator, ReleasesWhenTheWorkIsDone) {
  const Stream stream = emulator::create_stream();
  int seen = 0;
  auto* const memory = static_cast<int*>(runtime::allocate(sizeof(int)));
  emulator::enqueue(stream, 1, 1, [&, memory] { seen = *memory; });
  runtime::release(memory);
  EXPECT_EQ(seen, -1);
  runtime::release(nullptr);
}

TEST_F(Emulator, ReleaseLeavesAFaultToTheNextCall) {
  const Stream stream = emulator::create_stream();
  void* const memory = runtime::allocate(1);
  emulator::enqueue(stream, 1, 2, [] {
    if (threadIdx.x == 0) __syncthreads();
  });
  runtime::release(memory);
  EXPECT_THROW(emulator::enqueue(stream, 1, 1, [] {}), emulator::Fault);
  emulator::enqueue(stream, 1, 1, [] {});
  emulator::synchronize(stream);
}

TEST_F(Emulator, CaptureForbidsMemoryCalls) {
  const Stream stream = emulator::create_stream();
  void* const memory = runtime::allocate(1);
  char byte = 0;
  emulator::begin_capture(stream);
  EXPECT_TRUE(runtime::is_capturing(stream));
  EXPECT_FALSE(runtime::is_capturing(nullptr));
  EXPECT_EQ(thrown<Error>([&] { runtime::allocate(1); }), not_permitted);
  EXPECT_EQ(thrown<Error>([&] { runtime::copy_to_device(memory, &byte, 1); }), not_permitted);
  EXPECT_EQ(thrown<Error>([&] { runtime::copy_to_host(&byte, memory, 1); }), not_permitted);
  EXPECT_THROW(emulator::end_capture(stream), Error);
  emulator::begin_capture(stream);
  runtime::release(memory);
  EXPECT_EQ(thrown<Error>([&] { emulator::end_capture(stream); }),
            "CUDA: operation failed due to a previous error during capture");
}

TEST_F(Emulator, KnowsWhoseMemoryItIs) {
  char on_host[8] = {}, on_second[8] = {}, on_first[8] = {};
  emulator::register_memory(on_host, 8, emulator::no_device);
  emulator::register_memory(on_second, 8, 1);
  EXPECT_EQ(runtime::device_of(on_first), 0);
  EXPECT_EQ(runtime::device_of(on_second), 1);
  EXPECT_EQ(runtime::device_of(on_second + 7), 1);
  for (const void* pointer :
       {static_cast<const void*>(on_host + 3), static_cast<const void*>(nullptr)}) {
    EXPECT_EQ(thrown<ArgumentError>([&] { runtime::device_of(pointer); }),
              "The memory of the array is not that of a GPU.");
  }
  emulator::unregister_memory(on_second);
  EXPECT_EQ(runtime::device_of(on_second), 0);
  emulator::unregister_memory(on_host);
}

TEST_F(Emulator, HasTwoDevices) {
  const Stream stream = emulator::create_stream();
  int runs = 0;
  runtime::Event event;
  {
    const runtime::CurrentDevice device(1);
    EXPECT_EQ(emulator::current_device(), 1);
    void* const memory = runtime::allocate(16);
    EXPECT_EQ(runtime::device_of(memory), 1);
    runtime::release(memory);
    const auto launch = [&] { emulator::enqueue(stream, 1, 1, [&] { ++runs; }); };
    EXPECT_EQ(thrown<Error>(launch), "CUDA: invalid resource handle");
    const Stream own = emulator::create_stream();
    EXPECT_EQ(thrown<Error>([&] { event.record(own); }), "CUDA: invalid resource handle");
    emulator::enqueue(own, 1, 1, [&] { ++runs; });
    event.record(stream);
    event.let_wait(own);
    emulator::synchronize(own);
    EXPECT_EQ(runs, 1);
  }
  EXPECT_EQ(emulator::current_device(), 0);
  EXPECT_EQ(thrown<Error>([] { const runtime::CurrentDevice device(2); }),
            "CUDA: invalid device ordinal");
  EXPECT_EQ(emulator::current_device(), 0);
}

TEST_F(Emulator, SaysWhichDevicesCanBeUsed) {
  runtime::require_device(0);
  runtime::require_device(1);
  EXPECT_EQ(thrown<UnavailableError>([] { runtime::require_device(2); }),
            "The arrays are on GPU 2, and there are 2 GPUs that can be used.");
  emulator::set_driver(false);
  const std::string no_driver =
      "No NVIDIA driver was found. Install one (version 580 or newer), or pass NumPy arrays.";
  EXPECT_EQ(thrown<UnavailableError>([] { runtime::require_device(0); }), no_driver);
  EXPECT_EQ(thrown<UnavailableError>([&] { runtime::device_of(&no_driver); }), no_driver);
}

TEST_F(Emulator, RunsOutOfMemoryWhenAsked) {
  emulator::fail_allocation_after(2);
  void* const memory = runtime::allocate(100);
  EXPECT_EQ(thrown<OutOfMemoryError>([] { runtime::allocate(1000); }),
            "The GPU has no 1000 bytes of memory left. Free some, and build the optimizer again.");
  runtime::release(runtime::allocate(1000));
  runtime::release(memory);
  EXPECT_EQ(runtime::allocate(0), nullptr);
}

}  // namespace
}  // namespace ravine::test
