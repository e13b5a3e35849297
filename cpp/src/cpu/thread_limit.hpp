// How many threads this process should use.
#pragma once

namespace ravine::cpu {

/// min(CPU affinity, CPU quota of the control groups, RAVINE_NUM_THREADS or else OMP_NUM_THREADS),
/// at least 1.
int thread_limit();

}  // namespace ravine::cpu
