#include "pool.hpp"

#include <string>
#include <system_error>

#include "floating_point.hpp"
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

}  // namespace

Pool::Pool(int workers) {
  threads_.reserve(static_cast<std::size_t>(workers));
  try {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { wait_for_loops(); });
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
  count_.store(count, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  open_items_.store(opened(loop, count), std::memory_order_release);
  loop_.store(loop);
  loop_.notify_all();
  claim_items(loop);
  for (int spin = 1; done_.load(std::memory_order_acquire) != count; ++spin) {
    pause();
    if (spin % spins == 0) std::this_thread::yield();
  }
}

void Pool::claim_items(std::uint32_t loop) {
  std::uint64_t open = open_items_.load(std::memory_order_acquire);
  while (open >> 32 == loop && static_cast<std::uint32_t>(open) != 0) {
    if (!open_items_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel)) continue;
    // This loop now waits for this item: what belongs to the loop stays as it is until it is done.
    body_.load()(context_.load(), count_.load() - static_cast<std::uint32_t>(open));
    done_.fetch_add(1, std::memory_order_release);
    open = open_items_.load(std::memory_order_acquire);
  }
}

void Pool::wait_for_loops() {
  const DefaultFloatingPoint mode;
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
    claim_items(loop);
  }
}

}  // namespace ravine::cpu
