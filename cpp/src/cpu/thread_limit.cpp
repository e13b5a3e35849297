#include "thread_limit.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <thread>

#include "ravine/error.hpp"
#include "ravine/threads.hpp"

#if defined(__linux__)
#include <sched.h>

#include <cerrno>
#endif

namespace ravine {
namespace cpu {
namespace {

constexpr int no_limit = std::numeric_limits<int>::max();

/// The CPUs that this thread may run on. The standard library counts those of the machine.
int allowed_cpus() {
#if defined(__linux__)
  for (int largest = CPU_SETSIZE; largest <= 1 << 20; largest *= 2) {
    cpu_set_t* const cpus = CPU_ALLOC(largest);
    if (cpus == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(largest);
    const int failed = sched_getaffinity(0, size, cpus);
    const bool too_small = failed != 0 && errno == EINVAL;
    const int count = failed == 0 ? CPU_COUNT_S(size, cpus) : 0;
    CPU_FREE(cpus);
    if (count > 0) return count;
    if (!too_small) break;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// A positive whole number at the head of an environment variable; anything else is as if it were
/// unset.
std::optional<int> from_environment(const char* name) {
  const char* const text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  char* end = nullptr;
  const long value =
      std::strtol(text, &end, 10);  // OMP_NUM_THREADS may be a list: the first counts
  if (end == text || value <= 0 || value >= no_limit) return std::nullopt;
  return static_cast<int>(value);
}

/// The variable of our own: what nobody can mean is told.
std::optional<int> ravine_num_threads() {
  const char* const text = std::getenv("RAVINE_NUM_THREADS");
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::optional<int> number = from_environment("RAVINE_NUM_THREADS");
  if (number && std::string(text).find_first_not_of("0123456789") == std::string::npos) {
    return number;
  }
  throw ArgumentError(
      "The environment variable RAVINE_NUM_THREADS must be a positive whole number. "
      "Received: \"" +
      std::string(text) + "\". Set it to one, or unset it.");
}

int whole_cpus(double quota, double period) {
  return quota > 0 && period > 0 ? std::max(1, static_cast<int>(std::ceil(quota / period)))
                                 : no_limit;
}

/// Quota of one control group, version 2 ("max" or microseconds, then the period) or version 1.
int group_quota(const std::string& folder) {
  std::string quota;
  double period = 0;
  if (std::ifstream file(folder + "/cpu.max"); file >> quota >> period) {
    return quota == "max" ? no_limit : whole_cpus(std::atof(quota.c_str()), period);
  }
  double quota_us = 0;
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  return quota_file >> quota_us && period_file >> period ? whole_cpus(quota_us, period) : no_limit;
}

/// The smallest quota among the control groups that hold this process. A line of the list reads
/// "number:controllers:path"; version 2 has no controllers in it.
std::optional<int> control_group_quota() {
  int limit = no_limit;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers.find("cpu") == std::string::npos) continue;
    const std::string root =
        controllers.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controllers;
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      limit = std::min(limit, group_quota(root + path));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return limit == no_limit ? std::nullopt : std::optional(limit);
}

}  // namespace

int thread_limit() {
  const ThreadLimits limits = thread_limits();
  const std::optional<int> requested =
      limits.ravine_num_threads ? limits.ravine_num_threads : limits.omp_num_threads;
  return std::min({limits.cpus, limits.quota.value_or(no_limit), requested.value_or(no_limit)});
}

}  // namespace cpu

ThreadLimits thread_limits() {
  return {cpu::allowed_cpus(), cpu::control_group_quota(), cpu::ravine_num_threads(),
          cpu::from_environment("OMP_NUM_THREADS")};
}

}  // namespace ravine
