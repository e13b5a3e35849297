// Worker threads that wait for loops to share.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace ravine::cpu {

/// Threads that claim the items of one loop after the other.
///
/// Each has a share of its own, the same items in every loop of as many, one behind the other: what
/// it left in its cache is found there again, and memory that it wrote first stays near it. Only
/// when its share is done it helps with those of others.
///
/// The caller, whose share is the first, waits only for items that a worker has claimed: a worker
/// that the system does not schedule holds up nobody. Workers spin for some microseconds after a
/// loop, since steps come in quick succession, and then sleep.
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
  /// Which loop is open and how many items of a share are not claimed yet, in one word: a worker
  /// that comes late for one loop finds that nothing is left of it, whatever the next one holds.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> open_items{0};
  };

  void wait_for_loops(std::uint32_t own);
  void claim_items(std::uint32_t loop, std::uint32_t own);
  void claim_share(std::uint32_t loop, std::uint32_t share);
  void stop();

  std::vector<Share> shares_;  ///< one for each thread, the caller's first
  alignas(64) std::atomic<std::uint32_t> done_{0};
  alignas(64) std::atomic<std::uint32_t> loop_{0};
  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::uint32_t> share_count_{0};
  std::atomic<Body> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int> caller_cpu_{-1};
  std::atomic<bool> stops_{false};
  std::vector<std::thread> threads_;
};

}  // namespace ravine::cpu
