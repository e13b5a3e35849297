// The floating-point mode in which all arithmetic runs.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace ravine::cpu {

/// IEEE 754's own mode, for as long as the object lives: round to nearest, subnormal numbers kept.
/// Another library may have set the thread to flush them, and then results would differ from
/// thread to thread.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() : saved_(get()) { set(default_mode); }
  ~DefaultFloatingPoint() { set(saved_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Mode = unsigned;
  static constexpr Mode default_mode = 0x1f80;
  static Mode get() { return _mm_getcsr(); }
  static void set(Mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__) && !defined(_MSC_VER)
  using Mode = std::uint64_t;
  static constexpr Mode default_mode = 0;
  static Mode get() {
    Mode mode;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set(Mode mode) { __asm__ __volatile__("msr fpcr, %0" : : "r"(mode)); }
#else
  using Mode = int;
  static constexpr Mode default_mode = 0;
  static Mode get() { return 0; }
  static void set(Mode) {}
#endif

  Mode saved_;
};

}  // namespace ravine::cpu
