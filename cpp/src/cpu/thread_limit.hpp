// How many threads this process should use.
#pragma once

namespace ravine::cpu {

/// The least of `ravine::thread_limits`, at least 1.
int thread_limit();

}  // namespace ravine::cpu
