#include "threads.hpp"

#include <atomic>
#include <memory>
#include <string>

#include "floating_point.hpp"
#include "pool.hpp"
#include "ravine/error.hpp"
#include "ravine/threads.hpp"
#include "thread_limit.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace ravine {
namespace cpu {
namespace {

/// Traffic below which waking another thread costs more than it saves.
constexpr std::int64_t parallel_bytes = std::int64_t{4} << 20;

/// The pool of the process, made when first needed.
struct SharedPool {
  std::atomic<int> threads{thread_limit()};
  std::atomic_flag busy;
  std::unique_ptr<Pool> pool;

  SharedPool() {
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] { instance().forget(); });
#endif
  }
  ~SharedPool() {
    // At exit a thread may still be in a loop, or the system may have ended the workers already:
    // the pool is left to the end of the process.
    static_cast<void>(pool.release());
  }

  /// In a forked child: the threads stayed behind in the parent, their memory is left alone.
  void forget() {
    static_cast<void>(pool.release());
    busy.clear();
  }

  static SharedPool& instance() {
    static SharedPool shared;
    return shared;
  }
};

}  // namespace

void parallel_for(std::int64_t count, std::int64_t bytes, void (*body)(void*, std::int64_t),
                  void* context) {
  SharedPool& shared = SharedPool::instance();
  const int threads = shared.threads.load(std::memory_order_relaxed);
  if (threads == 1 || count < 2 || bytes < parallel_bytes ||
      shared.busy.test_and_set(std::memory_order_acquire)) {
    for (std::int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  struct Release {
    std::atomic_flag& busy;
    ~Release() { busy.clear(std::memory_order_release); }
  } release{shared.busy};
  if (!shared.pool || shared.pool->workers() != threads - 1) {
    shared.pool.reset();
    shared.pool = std::make_unique<Pool>(threads - 1);
  }
  shared.pool->run(static_cast<std::uint32_t>(count), body, context);
}

}  // namespace cpu

int num_threads() { return cpu::SharedPool::instance().threads.load(); }

void set_num_threads(int count) {
  if (count < 1) {
    throw ArgumentError(
        "The number of threads must be at least 1. Received: " + std::to_string(count) + ".");
  }
  cpu::SharedPool::instance().threads.store(count);
}

}  // namespace ravine
