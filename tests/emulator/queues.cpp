#include "queues.hpp"

#include <algorithm>

#include "devices.hpp"
#include "ravine/error.hpp"
#include "schedule.hpp"

namespace ravine::emulator {
namespace {

constexpr std::size_t most_entries = 10000;
constexpr std::uintptr_t legacy_handle = 1, thread_handle = 2, first_handle = 16;

}  // namespace

Queues queues;

bool is_legacy(Stream stream) {
  return stream == nullptr || reinterpret_cast<std::uintptr_t>(stream) == legacy_handle;
}

Stream Queues::create() {
  const std::uintptr_t handle =
      queues_.empty() ? first_handle : std::max(first_handle, queues_.rbegin()->first + 1);
  queues_[handle].device = current_device();
  return reinterpret_cast<Stream>(handle);
}

Queue& Queues::of(Stream stream) {
  const auto handle = reinterpret_cast<std::uintptr_t>(stream);
  if (handle == thread_handle) {
    Queue& queue = queues_[thread_handle + static_cast<std::uintptr_t>(current_device())];
    queue.device = current_device();
    return queue;
  }
  const auto found = queues_.find(handle);
  if (handle < first_handle || found == queues_.end()) fail("invalid resource handle");
  return found->second;
}

template <class IsWanted>
std::vector<Queue*> Queues::queues_if(const IsWanted& is_wanted) {
  std::vector<Queue*> result;
  for (auto& [handle, queue] : queues_) {
    if (is_wanted(queue)) result.push_back(&queue);
  }
  return result;
}

void Queues::put(Stream stream, Launch launch, const void* function) {
  const std::pair kernel{current_device(), function};
  if (is_legacy(stream)) {
    run_for_legacy();
    run_or_drop_work(launch);
  } else {
    Queue& queue = of(stream);
    if (queue.device != current_device()) fail("invalid resource handle");
    if (queue.capture == nullptr) {
      append(queue, {std::move(launch), nullptr, nullptr});
    } else if (function == nullptr || loaded_.contains(kernel)) {
      queue.capture->launches.push_back(std::move(launch));
    } else {
      fail_captures();
    }
  }
  loaded_.insert(kernel);
}

void Queues::append(Queue& queue, Entry entry) {
  queue.entries.push_back(std::move(entry));
  std::size_t entries = 0;
  for (const auto& [handle, each] : queues_) entries += each.entries.size();
  if (entries > most_entries) run_all();
}

void Queues::load(const void* function) { loaded_.emplace(current_device(), function); }

/// Runs what stands on these streams, or what stands before the marker, and of all other streams
/// what the schedule lets come first.
void Queues::run_queues(const std::vector<Queue*>& wanted, const Marker* until) {
  const auto is_empty = [](const Queue* queue) { return queue->entries.empty(); };
  Schedule schedule;
  while (until != nullptr ? !until->is_reached
                          : !std::all_of(wanted.begin(), wanted.end(), is_empty)) {
    const auto ready = queues_if([](const Queue& queue) { return queue.is_ready(); });
    const auto first = std::find_first_of(ready.begin(), ready.end(), wanted.begin(), wanted.end());
    run_front(*ready[schedule.pick(static_cast<unsigned>(ready.size()),
                                   static_cast<unsigned>(first - ready.begin()))]);
  }
}

void Queues::run_front(Queue& queue) {
  const Entry entry = std::move(queue.entries.front());
  queue.entries.pop_front();
  if (entry.launch.kernel) run_or_drop_work(entry.launch);
  if (entry.reaches) entry.reaches->is_reached = true;
}

void Queues::run_or_drop_work(const Launch& launch) {
  try {
    emulator::run(launch);
  } catch (...) {
    // Nothing that still stands there can be relied upon, not even that its memory will exist.
    drop_work();
    throw;
  }
}

void Queues::run_until(const Marker& marker) {
  const auto is_marker = [&](const Entry& entry) { return entry.reaches.get() == &marker; };
  const auto holds_marker = [&](const Queue& queue) {
    return std::any_of(queue.entries.begin(), queue.entries.end(), is_marker);
  };
  run_queues(queues_if(holds_marker), &marker);
}

void Queues::run_all() {
  run_queues(queues_if([](const Queue&) { return true; }), nullptr);
}

void Queues::run_for_legacy() {
  fail_if_any_captures();
  const int device = current_device();
  run_queues(queues_if([&](const Queue& queue) { return queue.device == device; }), nullptr);
}

void Queues::run_all_before_release() noexcept {
  try {
    run_all();
    fail_if_any_captures();
  } catch (const Error&) {
    // The capture is spoiled, which its end tells.
  } catch (...) {
    unthrown_ = std::current_exception();
  }
}

void Queues::throw_unthrown() {
  if (unthrown_) std::rethrow_exception(std::exchange(unthrown_, nullptr));
}

void Queues::fail_captures() {
  for (auto& [handle, queue] : queues_) {
    if (queue.capture) queue.capture->is_spoiled = true;
  }
  fail("operation not permitted when stream is capturing");
}

void Queues::fail_if_any_captures() {
  if (!queues_if([](const Queue& queue) { return queue.capture != nullptr; }).empty()) {
    fail_captures();
  }
}

void Queues::end(const Capture* capture) {
  for (auto& [handle, queue] : queues_) {
    if (!queue.capture || (capture != nullptr && queue.capture.get() != capture)) continue;
    queue.capture->has_ended = true;
    queue.capture = nullptr;
  }
}

std::size_t Queues::outstanding() const {
  std::size_t result = 0;
  for (const auto& [handle, queue] : queues_) {
    for (const Entry& entry : queue.entries) result += entry.launch.kernel != nullptr;
  }
  return result;
}

void Queues::drop_work() {
  for (auto& [handle, queue] : queues_) {
    for (const Entry& entry : queue.entries) {
      if (entry.reaches) entry.reaches->is_reached = true;  // lest others wait forever
    }
    queue.entries.clear();
  }
}

void Queues::reset() {
  drop_work();
  end(nullptr);
  loaded_.clear();
  unthrown_ = nullptr;
}

}  // namespace ravine::emulator
