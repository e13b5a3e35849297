// A function with a stack of its own, which can stop in the middle and go on later.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace ravine::emulator {

class Fiber {
 public:
  using Work = void (*)();

  /// `work` lets no exception out.
  explicit Fiber(Work work);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs the work, or goes on with it, until it returns or suspends itself. Of all fibers one runs
  /// at a time, and none resumes another.
  void resume();

  /// Called by the work: returns from `resume`, and when this is resumed again from here.
  void suspend();

 private:
#if defined(__x86_64__)
  using Context = void*;  // where the registers are saved: on the stack, whose end this is
#else
  using Context = ucontext_t;
#endif

  static void run();
  void prepare();
  void switch_from(Context& from, Context& to, void** fake_stack, const void* stack,
                   std::size_t bytes);

  Work work_;
  char* memory_;
  Context own_{}, caller_{};
  // What AddressSanitizer is told about the two stacks.
  void* own_fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  std::size_t caller_stack_bytes_ = 0;
};

}  // namespace ravine::emulator
