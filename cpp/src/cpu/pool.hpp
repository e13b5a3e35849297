// Worker threads that wait for loops to share.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace ravine::cpu {

/// Threads that claim the items of one loop after the other.
///
/// The caller claims items too and waits only for those that a worker has claimed: a worker that
/// the system does not schedule holds up nobody. Workers spin for some microseconds after a loop,
/// since steps come in quick succession, and then sleep.
class Pool {
 public:
  using Body = void (*)(void* context, std::int64_t item);

  /// Throws `UnavailableError` if the system does not give as many threads.
  explicit Pool(int workers);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()); }

  /// One loop at a time: the caller sees to that.
  void run(std::uint32_t count, Body body, void* context);

 private:
  void wait_for_loops();
  void claim_items(std::uint32_t loop);
  void stop();

  // Which loop is open and how many of its items are not claimed yet, in one word: a worker that
  // comes late for one loop finds that there is nothing left of it, whatever the next one holds.
  alignas(64) std::atomic<std::uint64_t> open_items_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};
  alignas(64) std::atomic<std::uint32_t> loop_{0};
  std::atomic<std::uint32_t> count_{0};
  std::atomic<Body> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<bool> stops_{false};
  std::vector<std::thread> threads_;
};

}  // namespace ravine::cpu
