#include "pool.hpp"

#include <string>
#include <system_error>

#include "floating_point.hpp"
#include "keep_off.hpp"
#include "ravine/error.hpp"

namespace ravine::cpu {
namespace {

/// About 50 microseconds: longer, and a worker can hold the core that its caller needs.
constexpr int spins = 2000;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  __asm__ __volatile__("yield");
#endif
}

std::uint64_t opened(std::uint32_t loop, std::uint32_t count) {
  return (static_cast<std::uint64_t>(loop) << 32) | count;
}

/// The first item of a share; that of the share behind the last: the end.
std::uint32_t first_item(std::uint32_t share, std::uint32_t shares, std::uint32_t count) {
  return static_cast<std::uint32_t>(std::uint64_t{count} * share / shares);
}

}  // namespace

Pool::Pool(int workers) : shares_(static_cast<std::size_t>(workers) + 1) {
  threads_.reserve(static_cast<std::size_t>(workers));
  try {
    for (std::uint32_t share = 1; share < shares_.size(); ++share) {
      threads_.emplace_back([this, share] { wait_for_loops(share); });
    }
  } catch (const std::system_error& error) {
    stop();
    throw UnavailableError("The system does not start " + std::to_string(workers + 1) +
                           " threads (" + error.what() + "). Set a smaller number of threads.");
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  stops_.store(true);
  loop_.fetch_add(1);
  loop_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::run(std::uint32_t count, Body body, void* context) {
  const std::uint32_t loop = loop_.load(std::memory_order_relaxed) + 1;
  const auto threads = static_cast<std::uint32_t>(shares_.size());
  const std::uint32_t shares = count < threads ? count : threads;
  count_.store(count, std::memory_order_relaxed);
  share_count_.store(shares, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  caller_cpu_.store(current_cpu(), std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  for (std::uint32_t share = 0; share < shares; ++share) {
    const std::uint32_t size =
        first_item(share + 1, shares, count) - first_item(share, shares, count);
    shares_[share].open_items.store(opened(loop, size), std::memory_order_release);
  }
  loop_.store(loop);
  loop_.notify_all();
  claim_items(loop, 0);
  for (int spin = 1; done_.load(std::memory_order_acquire) != count; ++spin) {
    pause();
    if (spin % spins == 0) std::this_thread::yield();
  }
}

void Pool::claim_items(std::uint32_t loop, std::uint32_t own) {
  const std::uint32_t shares = share_count_.load(std::memory_order_relaxed);
  if (own >= shares) return;
  for (std::uint32_t share = own; share < shares; ++share) claim_share(loop, share);
  for (std::uint32_t share = 0; share < own; ++share) claim_share(loop, share);
}

void Pool::claim_share(std::uint32_t loop, std::uint32_t share) {
  std::atomic<std::uint64_t>& open_items = shares_[share].open_items;
  std::uint64_t open = open_items.load(std::memory_order_acquire);
  while (open >> 32 == loop && static_cast<std::uint32_t>(open) != 0) {
    if (!open_items.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel)) continue;
    // This loop now waits for this item: what belongs to the loop stays as it is until it is done.
    const std::uint32_t end = first_item(share + 1, share_count_.load(), count_.load());
    body_.load()(context_.load(), end - static_cast<std::uint32_t>(open));
    done_.fetch_add(1, std::memory_order_release);
    open = open_items.load(std::memory_order_acquire);
  }
}

void Pool::wait_for_loops(std::uint32_t own) {
  const DefaultFloatingPoint mode;
  AllowedCpus cpus;
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t loop = loop_.load(std::memory_order_acquire);
    for (int spin = 0; loop == seen && spin < spins; ++spin) {
      pause();
      loop = loop_.load(std::memory_order_acquire);
    }
    if (loop == seen) {
      loop_.wait(seen);
      loop = loop_.load(std::memory_order_acquire);
    }
    if (stops_.load()) return;
    if (loop == seen) continue;
    seen = loop;
    claim_items(loop, own);
    cpus.keep_off(caller_cpu_.load(std::memory_order_relaxed));
  }
}

}  // namespace ravine::cpu
