// How many threads a step may use.
#pragma once

#include "ravine/export.hpp"

namespace ravine {

/// At first min(CPU affinity, CPU quota of the control group, RAVINE_NUM_THREADS or, where that is
/// unset, OMP_NUM_THREADS).
RAVINE_API int num_threads();

/// Throws `ArgumentError` unless `count` is at least 1.
RAVINE_API void set_num_threads(int count);

/// Name of the instruction set in use: "v2", "v3" or "v4" on x86-64, "baseline" elsewhere. The
/// widest that the machine has, or that which the environment variable RAVINE_ISA names.
RAVINE_API const char* instruction_set();

}  // namespace ravine
