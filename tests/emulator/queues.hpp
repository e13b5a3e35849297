// What stands on the streams, and who may go first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "block.hpp"
#include "ravine/tensor.hpp"

namespace ravine::emulator {

struct Capture {
  Stream origin = nullptr;
  std::vector<Launch> launches;
  bool is_spoiled = false, has_ended = false;
};

/// A point in the work of a stream, or in that of a capture.
struct Marker {
  bool is_reached = false;
  std::shared_ptr<Capture> capture;
};

/// A kernel, or a marker that is reached here, or one to wait for.
struct Entry {
  Launch launch;
  std::shared_ptr<Marker> reaches, awaits;
};

/// A stream, but not a legacy one: what is put on that runs at once.
struct Queue {
  int device = 0;
  std::deque<Entry> entries;
  std::shared_ptr<Capture> capture;

  bool is_ready() const {
    return !entries.empty() && (!entries.front().awaits || entries.front().awaits->is_reached);
  }
};

bool is_legacy(Stream stream);

/// The queues of all streams. Whoever calls holds the mutex.
class Queues {
 public:
  std::mutex mutex;

  Stream create();
  /// Not of a legacy stream.
  Queue& of(Stream stream);

  /// Puts a kernel on a stream, or into the graph that it captures.
  void put(Stream stream, Launch launch, const void* function);
  void append(Queue& queue, Entry entry);
  void load(const void* function);

  void run(Queue& queue) { run_queues({&queue}, nullptr); }
  void run_until(const Marker& marker);
  void run_all();
  /// Makes way for work on the legacy stream of the current device.
  void run_for_legacy();
  /// Keeps a failure for `throw_unthrown`.
  void run_all_before_release() noexcept;
  void throw_unthrown();

  /// Fails as CUDA does, and no capture that is under way can succeed.
  [[noreturn]] void fail_captures();
  void fail_if_any_captures();
  /// Takes all streams out of this capture, or out of any.
  void end(const Capture* capture);

  std::size_t outstanding() const;
  void drop_work();
  void reset();

 private:
  template <class IsWanted>
  std::vector<Queue*> queues_if(const IsWanted& is_wanted);
  void run_queues(const std::vector<Queue*>& wanted, const Marker* until);
  void run_front(Queue& queue);
  void run_or_drop_work(const Launch& launch);

  std::map<std::uintptr_t, Queue> queues_;
  std::set<std::pair<int, const void*>> loaded_;  // kernels by device
  std::exception_ptr unthrown_;
};

extern Queues queues;

}  // namespace ravine::emulator
