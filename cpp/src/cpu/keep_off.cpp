#include "keep_off.hpp"

namespace ravine::cpu {

#if defined(__linux__)

int current_cpu() { return sched_getcpu(); }

void AllowedCpus::keep_off(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE || current_cpu() != cpu) return;
  cpu_set_t now;
  // On a machine with more CPUs than fit, nothing is done.
  if (sched_getaffinity(0, sizeof now, &now) != 0) return;
  if (!CPU_EQUAL(&now, &left_)) all_ = now;
  cpu_set_t wanted = all_;
  CPU_CLR(cpu, &wanted);
  if (CPU_COUNT(&wanted) > 0 && sched_setaffinity(0, sizeof wanted, &wanted) == 0) left_ = wanted;
}

#else

int current_cpu() { return -1; }

void AllowedCpus::keep_off(int) {}

#endif

}  // namespace ravine::cpu
