// Streams, events and graphs. What is put on a stream runs when somebody waits for it, and as late
// as the schedule allows, so that work whose order nobody has asked for comes in the wrong one.
//
// What fails throws `Error` with CUDA's text. A call that is not permitted during a capture also
// spoils the capture, as CUDA has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "block.hpp"
#include "ravine/tensor.hpp"

namespace ravine::emulator {

/// A stream of the current device. Besides, each device has nullptr or 1, the legacy default
/// stream, which waits for all others and lets all others wait, and 2, here one for all threads.
Stream create_stream();

/// Puts a kernel on a stream of the current device, or into the graph that the stream captures.
/// `function` is its address: a capture fails if the kernel is neither loaded nor ever launched.
void enqueue(Stream stream, unsigned blocks, unsigned threads, std::function<void()> kernel,
             const void* function = nullptr);

/// Loads a kernel on the current device.
void load(const void* function);

/// Runs what is on the stream; for the legacy one, on all streams of the current device.
void synchronize(Stream stream);
/// Runs what is on all streams of all devices, also during a capture.
void synchronize_all();
/// The same for what must not throw: the next call that puts something on a stream or waits throws
/// instead. Spoils captures.
void synchronize_before_release() noexcept;

/// How many kernels were put on streams so far, and how many of all those have not run yet.
std::int64_t enqueued();
std::size_t outstanding();

struct Marker;

/// Of the device that was current when it was made.
class Event {
 public:
  Event();
  void record(Stream stream);
  void let_wait(Stream stream);
  /// Lets the host wait, also during a capture.
  void synchronize();

 private:
  int device_;
  std::shared_ptr<Marker> recorded_;
};

/// Kernels in the order in which they were captured, from whichever stream: one that a captured
/// stream should have waited for is not found out.
class Graph {
 public:
  explicit Graph(std::vector<Launch> launches);
  void launch(Stream stream) const;

 private:
  std::shared_ptr<const std::vector<Launch>> launches_;
};

/// Streams that wait for an event of the capture join it.
void begin_capture(Stream stream);
Graph end_capture(Stream stream);
bool is_capturing(Stream stream);
/// Fails during a capture, on whichever stream: for calls that CUDA does not permit then.
void require_no_capture();

/// Drops all work, ends all captures and forgets which kernels are loaded. Streams stay.
void reset_streams();

}  // namespace ravine::emulator
