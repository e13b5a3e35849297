#include "thread_limit.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

namespace ravine::cpu {
namespace {

constexpr int no_limit = std::numeric_limits<int>::max();

/// A positive whole number in an environment variable; anything else is as if it were unset.
int from_environment(const char* name) {
  const char* const text = std::getenv(name);
  if (text == nullptr) return no_limit;
  char* end = nullptr;
  const long value =
      std::strtol(text, &end, 10);  // OMP_NUM_THREADS may be a list: the first counts
  return end != text && value > 0 && value < no_limit ? static_cast<int>(value) : no_limit;
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
int control_group_limit() {
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
  return limit;
}

}  // namespace

int thread_limit() {
  // On Linux this counts the CPUs that the process may run on.
  const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  int requested = from_environment("RAVINE_NUM_THREADS");
  if (requested == no_limit) requested = from_environment("OMP_NUM_THREADS");
  return std::min({hardware, control_group_limit(), requested});
}

}  // namespace ravine::cpu
