// How many threads a step may use, and which instructions.
#pragma once

#include <optional>
#include <vector>

#include "ravine/export.hpp"

namespace ravine {

/// At first the least of `thread_limits`, where OMP_NUM_THREADS counts only if RAVINE_NUM_THREADS
/// is not set. Throws what `thread_limits` throws.
RAVINE_API int num_threads();

/// Throws `ArgumentError` unless `count` is at least 1.
RAVINE_API void set_num_threads(int count);

/// What may bound the number of threads; none where it does not: the CPUs on which this thread may
/// run, the quota of the control groups in whole CPUs, variables of the environment. Throws
/// `ArgumentError` if RAVINE_NUM_THREADS is no positive whole number.
struct ThreadLimits {
  int cpus;
  std::optional<int> quota, ravine_num_threads, omp_num_threads;
};
RAVINE_API ThreadLimits thread_limits();

/// Name of the instruction set in use: "v2", "v3" or "v4" on x86-64, "baseline" elsewhere. The
/// widest that the machine has, or that which the environment variable RAVINE_ISA names.
RAVINE_API const char* instruction_set();

/// Those that this machine and this build have, the widest first.
RAVINE_API std::vector<const char*> instruction_sets();

}  // namespace ravine
