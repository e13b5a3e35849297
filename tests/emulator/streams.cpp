#include "streams.hpp"

#include <mutex>
#include <utility>

#include "devices.hpp"
#include "queues.hpp"

namespace ravine::emulator {
namespace {

using Lock = std::lock_guard<std::mutex>;

std::int64_t enqueued_count = 0;  // guarded by the mutex of the queues

}  // namespace

Stream create_stream() {
  const Lock lock(queues.mutex);
  return queues.create();
}

void enqueue(Stream stream, unsigned blocks, unsigned threads, std::function<void()> kernel,
             const void* function) {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  if (blocks == 0 || threads == 0 || threads > largest_block)
    fail("invalid configuration argument");
  queues.put(stream, {blocks, threads, std::move(kernel)}, function);
  ++enqueued_count;
}

void load(const void* function) {
  const Lock lock(queues.mutex);
  queues.load(function);
}

void synchronize(Stream stream) {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  if (is_legacy(stream)) return queues.run_for_legacy();
  Queue& queue = queues.of(stream);
  if (queue.capture) queues.fail_captures();
  queues.run(queue);
}

void synchronize_all() {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  queues.run_all();
}

void synchronize_before_release() noexcept {
  const Lock lock(queues.mutex);
  queues.run_all_before_release();
}

std::int64_t enqueued() {
  const Lock lock(queues.mutex);
  return enqueued_count;
}

std::size_t outstanding() {
  const Lock lock(queues.mutex);
  return queues.outstanding();
}

Event::Event() : device_(current_device()) {}

void Event::record(Stream stream) {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  auto marker = std::make_shared<Marker>();
  if (is_legacy(stream)) {
    if (current_device() != device_) fail("invalid resource handle");
    queues.run_for_legacy();
    marker->is_reached = true;
  } else {
    Queue& queue = queues.of(stream);
    if (queue.device != device_) fail("invalid resource handle");
    marker->capture = queue.capture;
    if (!queue.capture) queues.append(queue, {{}, marker, nullptr});
  }
  recorded_ = std::move(marker);
}

void Event::let_wait(Stream stream) {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  if (is_legacy(stream)) {
    queues.run_for_legacy();
    if (recorded_) queues.run_until(*recorded_);
    return;
  }
  Queue& queue = queues.of(stream);
  if (!recorded_) return;
  const auto& capture = recorded_->capture;
  if (capture && capture->has_ended) {
    fail("operation not permitted on an event last recorded in a capturing stream");
  }
  if (capture && !queue.capture) {
    queue.capture = capture;
  } else if (capture != queue.capture) {
    queues.fail_captures();
  } else if (!capture) {
    queues.append(queue, {{}, nullptr, recorded_});
  }
}

void Event::synchronize() {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  if (!recorded_) return;
  if (recorded_->capture) {
    fail("operation not permitted on an event last recorded in a capturing stream");
  }
  queues.run_until(*recorded_);
}

Graph::Graph(std::vector<Launch> launches)
    : launches_(std::make_shared<const std::vector<Launch>>(std::move(launches))) {}

void Graph::launch(Stream stream) const {
  const Lock lock(queues.mutex);
  queues.throw_unthrown();
  for (const Launch& launch : *launches_) queues.put(stream, launch, nullptr);
}

void begin_capture(Stream stream) {
  const Lock lock(queues.mutex);
  if (is_legacy(stream)) fail("operation not permitted when stream is capturing");
  Queue& queue = queues.of(stream);
  if (queue.capture) fail("operation not permitted when stream is capturing");
  queue.capture = std::make_shared<Capture>();
  queue.capture->origin = stream;
}

Graph end_capture(Stream stream) {
  const Lock lock(queues.mutex);
  const auto capture = is_legacy(stream) ? nullptr : queues.of(stream).capture;
  if (!capture) fail("the operation cannot be performed in the present state");
  if (capture->origin != stream) fail("capture was not ended in the same stream as it began");
  queues.end(capture.get());
  if (capture->is_spoiled) fail("operation failed due to a previous error during capture");
  return Graph(std::move(capture->launches));
}

bool is_capturing(Stream stream) {
  const Lock lock(queues.mutex);
  return !is_legacy(stream) && queues.of(stream).capture != nullptr;
}

void require_no_capture() {
  const Lock lock(queues.mutex);
  queues.fail_if_any_captures();
}

void reset_streams() {
  const Lock lock(queues.mutex);
  queues.reset();
}

}  // namespace ravine::emulator
