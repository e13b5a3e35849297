// The backends that this machine can run, and work for them without a plan.
#pragma once

#include <span>
#include <vector>

#include "chunks.hpp"
#include "cpu/backend.hpp"

namespace ravine::cpu {

#if defined(__x86_64__)
namespace v2 {
extern const Backend backend;
}
namespace v3 {
extern const Backend backend;
}
namespace v4 {
extern const Backend backend;
}
#else
namespace baseline {
extern const Backend backend;
}
#endif

}  // namespace ravine::cpu

namespace ravine::test {

inline std::vector<const cpu::Backend*> backends() {
#if defined(__x86_64__)
  std::vector<const cpu::Backend*> result{&cpu::v2::backend};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    result.push_back(&cpu::v3::backend);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    result.push_back(&cpu::v4::backend);
  }
  return result;
#else
  return {&cpu::baseline::backend};
#endif
}

/// Rows and the chunks that they are cut into.
struct Job {
  std::vector<Row> rows;
  Chunks chunks;

  explicit Job(std::vector<Row> all) : rows(std::move(all)), chunks(cut(rows)) {}

  /// `bytes` of 0 keeps the work on the calling thread.
  cpu::Work work(std::int64_t bytes = 0) const {
    return {rows.data(), chunks.chunks.data(), chunks.items.data(),
            static_cast<std::int64_t>(chunks.items.size()) - 1, bytes};
  }
};

}  // namespace ravine::test
