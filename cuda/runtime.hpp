// The few calls of a GPU's runtime that the backend makes. Two implementations: runtime.cu asks
// CUDA, and the emulator of the tests does the same work on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ravine/cuda.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cuda::runtime {

/// What this process has asked of the runtime so far.
CudaCounts counts();

/// Throws `UnavailableError`, which says what is missing, if there is no such device to use.
void require_device(int index);

/// The device whose memory `pointer` points into. Throws `ArgumentError` if it is none's.
int device_of(const void* pointer);

/// Makes a device current on this thread for as long as this object lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_;
  int index_;
};

/// Memory of the current device. Throws `OutOfMemoryError`.
void* allocate(std::size_t bytes);
/// Waits for the work that may use the memory. nullptr is nothing.
void release(void* memory) noexcept;

/// Both wait for all work of the current device, and return when the copy is done.
void copy_to_device(void* target, const void* source, std::size_t bytes);
void copy_to_host(void* target, const void* source, std::size_t bytes);

/// Whether what is put on the stream goes into a graph that is being captured.
bool is_capturing(Stream stream);

/// A point in the work of one stream, for another to wait for. Of the current device.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(Stream stream);
  /// Lets what is put on `stream` from now on wait for what was recorded last. Never the host.
  void let_wait(Stream stream);
  /// Lets the host wait for it, also while a stream is being captured.
  void synchronize();

 private:
  void* handle_;
};

/// Puts a kernel on a stream. `arguments` point to one value each, read before this returns.
void launch(const void* kernel, unsigned blocks, unsigned threads, Stream stream, void** arguments);

/// Loads a kernel, which otherwise happens when it is first launched: not allowed in a capture.
void load(const void* kernel);

}  // namespace ravine::cuda::runtime
