// The runtime on the emulator. `launch` of a kernel by its address has no counterpart: launch.cuh
// puts a function with its arguments on the stream.
#include "cuda/runtime.hpp"

#include <atomic>
#include <cstring>
#include <string>

#include "devices.hpp"
#include "ravine/error.hpp"
#include "streams.hpp"

namespace ravine::cuda::runtime {
namespace {

std::atomic<std::int64_t> synchronizations{0}, allocations{0};

}  // namespace

CudaCounts counts() { return {emulator::enqueued(), synchronizations, allocations}; }

void require_device(int index) {
  if (!emulator::has_driver()) {
    throw UnavailableError(
        "No NVIDIA driver was found. Install one (version 580 or newer), or pass NumPy arrays.");
  }
  if (index < 0 || index >= emulator::device_count) {
    throw UnavailableError("The arrays are on GPU " + std::to_string(index) + ", and there are " +
                           std::to_string(emulator::device_count) + " GPUs that can be used.");
  }
}

int device_of(const void* pointer) {
  require_device(0);
  const int device = emulator::device_of(pointer);
  if (device == emulator::no_device)
    throw ArgumentError("The memory of the array is not that of a GPU.");
  return device;
}

CurrentDevice::CurrentDevice(int index) : before_(emulator::current_device()), index_(index) {
  emulator::set_device(index_);
}

CurrentDevice::~CurrentDevice() { emulator::set_device(before_); }

void* allocate(std::size_t bytes) {
  ++allocations;
  emulator::require_no_capture();
  return emulator::allocate(bytes);
}

void release(void* memory) noexcept {
  if (memory == nullptr) return;
  emulator::synchronize_before_release();
  emulator::release(memory);
}

void copy_to_device(void* target, const void* source, std::size_t bytes) {
  ++synchronizations;
  emulator::synchronize(nullptr);
  std::memcpy(target, source, bytes);
}

void copy_to_host(void* target, const void* source, std::size_t bytes) {
  ++synchronizations;
  emulator::synchronize(nullptr);
  std::memcpy(target, source, bytes);
}

bool is_capturing(Stream stream) { return emulator::is_capturing(stream); }

Event::Event() : handle_(new emulator::Event) {}

Event::~Event() { delete static_cast<emulator::Event*>(handle_); }

void Event::record(Stream stream) { static_cast<emulator::Event*>(handle_)->record(stream); }

void Event::let_wait(Stream stream) { static_cast<emulator::Event*>(handle_)->let_wait(stream); }

void Event::synchronize() {
  ++synchronizations;
  static_cast<emulator::Event*>(handle_)->synchronize();
}

void load(const void* kernel) { emulator::load(kernel); }

}  // namespace ravine::cuda::runtime
