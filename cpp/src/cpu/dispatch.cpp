// Picks the widest instruction set that this machine has.
#include <cstdlib>
#include <string>
#include <vector>

#include "backend.hpp"
#include "ravine/error.hpp"
#include "ravine/threads.hpp"

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ravine {
namespace cpu {

#if defined(__x86_64__) || defined(_M_X64)

namespace v2 {
extern const Backend backend;
}
namespace v3 {
extern const Backend backend;
}
namespace v4 {
extern const Backend backend;
}

namespace {

#if defined(_MSC_VER)
bool supports(const Backend& candidate) {
  int leaf1[4], leaf7[4];
  __cpuid(leaf1, 1);
  __cpuidex(leaf7, 7, 0);
  const bool saves = (leaf1[2] >> 27) & 1;
  const auto state = saves ? _xgetbv(0) : 0;
  const bool avx2 =
      (state & 6) == 6 && ((leaf7[1] >> 5) & 1) && ((leaf1[2] >> 12) & 1) && ((leaf1[2] >> 29) & 1);
  // F, DQ, CD, BW and VL
  constexpr unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  if (&candidate == &v4::backend) {
    return avx2 && (state & 0xe6) == 0xe6 && (static_cast<unsigned>(leaf7[1]) & avx512) == avx512;
  }
  return &candidate == &v2::backend || avx2;
}
#else
bool supports(const Backend& candidate) {
  // Feature by feature: older compilers do not know the levels by name here, and not all of these.
  unsigned a = 0, b = 0, c = 0, d = 0, extended = 0;
  const bool known =
      __get_cpuid(0x80000001, &a, &b, &extended, &d) != 0 && __get_cpuid(1, &a, &b, &c, &d) != 0;
  constexpr unsigned f16c_and_movbe = 1u << 29 | 1u << 22, lzcnt = 1u << 5;
  if (!known || (c & f16c_and_movbe) != f16c_and_movbe || (extended & lzcnt) == 0) {
    return &candidate == &v2::backend;
  }
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  if (&candidate == &v4::backend) {
    return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  }
  return v3 || &candidate == &v2::backend;
}
#endif

const Backend* const candidates[] = {&v4::backend, &v3::backend, &v2::backend};

#else

namespace baseline {
extern const Backend backend;
}

namespace {

bool supports(const Backend&) { return true; }

const Backend* const candidates[] = {&baseline::backend};

#endif

const Backend& pick() {
  const char* const wanted = std::getenv("RAVINE_ISA");
  std::string supported;
  for (const Backend* const candidate : candidates) {
    if (!supports(*candidate)) continue;
    if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == candidate->name) {
      return *candidate;
    }
    supported += (supported.empty() ? "" : ", ") + std::string(candidate->name);
  }
  throw UnavailableError(
      "RAVINE_ISA is \"" + std::string(wanted) +
      "\", which this machine or build lacks. Unset it or set it to one of: " + supported + ".");
}

}  // namespace

const Backend& backend() {
  static const Backend& picked = pick();
  return picked;
}

}  // namespace cpu

const char* instruction_set() { return cpu::backend().name; }

std::vector<const char*> instruction_sets() {
  std::vector<const char*> names;
  for (const cpu::Backend* const candidate : cpu::candidates) {
    if (cpu::supports(*candidate)) names.push_back(candidate->name);
  }
  return names;
}

}  // namespace ravine
