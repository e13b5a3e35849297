// Keeping a worker off the CPU of its caller.
#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

namespace ravine::cpu {

/// The CPU that this thread is on; -1 where the system does not tell.
int current_cpu();

/// The CPUs that this thread may run on.
///
/// A thread that sleeps is woken where it last ran. If its caller is there, it waits until that
/// sleeps itself, and the caller has done all alone: a virtual machine takes its other CPUs, which
/// sleep too, for occupied and does not look for them. What threads were set to by others stays,
/// but for one CPU.
class AllowedCpus {
 public:
  /// Leaves a CPU, if this thread is on it and may run on others.
  void keep_off(int cpu);

#if defined(__linux__)

 private:
  cpu_set_t all_{};   ///< as others have set them
  cpu_set_t left_{};  ///< as they were left here
#endif
};

}  // namespace ravine::cpu
