// The runtime's interface by CUDA.
#include <cuda_runtime.h>

#include <atomic>
#include <string>
#include <utility>

#include "ravine/error.hpp"
#include "runtime.hpp"

namespace ravine::cuda::runtime {
namespace {

std::atomic<std::int64_t> launches{0}, synchronizations{0}, allocations{0};

/// Throws what a call of the runtime returned, if it failed.
void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // not to be found again by another call
  throw Error(std::string("CUDA: ") + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
              " from " + call + ").");
}

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t native_event(void* handle) { return static_cast<cudaEvent_t>(handle); }

/// Lets this thread do while it captures a graph what CUDA else forbids then, for as long as this
/// object lives.
class Uncaptured {
 public:
  Uncaptured() { check(cudaThreadExchangeStreamCaptureMode(&mode_), "exchange capture mode"); }
  ~Uncaptured() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace

CudaCounts counts() { return {launches, synchronizations, allocations}; }

void require_device(int index) {
  static std::atomic<int> known{0};  // how many there are, once it was found
  if (index >= 0 && index < known) return;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    throw UnavailableError(
        "No NVIDIA driver was found. Install one (version 580 or newer), or pass NumPy arrays.");
  }
  if (status != cudaSuccess && status != cudaErrorNoDevice) check(status, "cudaGetDeviceCount");
  if (index < 0 || index >= count) {
    throw UnavailableError("There is no GPU " + std::to_string(index) + ": " +
                           std::to_string(count) + " can be used.");
  }
  known = count;
}

int device_of(const void* pointer) {
  require_device(0);
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, pointer), "cudaPointerGetAttributes");
  if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) {
    throw ArgumentError("The memory of the array is not that of a GPU.");
  }
  return attributes.device;
}

CurrentDevice::CurrentDevice(int index) : index_(index) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != index_) check(cudaSetDevice(index_), "cudaSetDevice");
}

CurrentDevice::~CurrentDevice() {
  if (before_ != index_) cudaSetDevice(before_);
}

void* allocate(std::size_t bytes) {
  ++allocations;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfMemoryError("The GPU has no " + std::to_string(bytes) +
                           " bytes of memory left. Free some, and build the optimizer again.");
  }
  check(status, "cudaMalloc");
  return memory;
}

void release(void* memory) noexcept {
  if (memory == nullptr) return;
  // It may come at any time, when an optimizer is collected: it must not spoil a capture.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  // It fails when the process ends and the runtime is gone, and so is the memory.
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
  cudaThreadExchangeStreamCaptureMode(&mode);
}

void copy_to_device(void* target, const void* source, std::size_t bytes) {
  ++synchronizations;
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(target, source, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  // Small copies return when they are staged.
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void copy_to_host(void* target, const void* source, std::size_t bytes) {
  ++synchronizations;
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(target, source, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

bool is_capturing(Stream stream) {
  // The default streams cannot be captured, and may not be asked while another is.
  if (stream == nullptr || native(stream) == cudaStreamLegacy) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(native(stream), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  handle_ = event;
}

Event::~Event() {
  if (cudaEventDestroy(native_event(handle_)) != cudaSuccess) cudaGetLastError();
}

void Event::record(Stream stream) {
  check(cudaEventRecord(native_event(handle_), native(stream)), "cudaEventRecord");
}

void Event::let_wait(Stream stream) {
  check(cudaStreamWaitEvent(native(stream), native_event(handle_), 0), "cudaStreamWaitEvent");
}

void Event::synchronize() {
  ++synchronizations;
  const Uncaptured uncaptured;
  check(cudaEventSynchronize(native_event(handle_)), "cudaEventSynchronize");
}

void launch(const void* kernel, unsigned blocks, unsigned threads, Stream stream,
            void** arguments) {
  ++launches;
  check(cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), arguments, 0, native(stream)),
        "cudaLaunchKernel");
}

void load(const void* kernel) {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
}

}  // namespace ravine::cuda::runtime
