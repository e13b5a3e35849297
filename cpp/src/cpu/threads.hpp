// A pool of threads that share out the items of one loop.
#pragma once

#include <cstdint>

namespace ravine::cpu {

/// Calls `body(context, i)` for i in [0, count), in any order, on any thread of the pool, the
/// caller's among them. `bytes` is about how much memory that touches: little work stays on the
/// calling thread, and so does work that comes while the pool is busy with another's.
void parallel_for(std::int64_t count, std::int64_t bytes, void (*body)(void* context, std::int64_t),
                  void* context);

template <class Body>
void parallel_for(std::int64_t count, std::int64_t bytes, const Body& body) {
  parallel_for(
      count, bytes, [](void* context, std::int64_t i) { (*static_cast<const Body*>(context))(i); },
      const_cast<Body*>(&body));
}

}  // namespace ravine::cpu
