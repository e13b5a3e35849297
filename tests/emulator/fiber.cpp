#include "fiber.hpp"

#include <sys/mman.h>

#include <new>

// AddressSanitizer wants to be told that the stack is another one. Not there without it.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack, const void* stack,
                                                          std::size_t bytes);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack, const void** stack,
                                                           std::size_t* bytes);
}

#if defined(__x86_64__)
// Saves the registers that a called function must keep on this stack and loads them from the other.
extern "C" void ravine_emulator_switch(void** from, void* to);
__asm__(R"(
  .pushsection .text
  .p2align 4
  .hidden ravine_emulator_switch
  .globl ravine_emulator_switch
  .type ravine_emulator_switch, @function
ravine_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size ravine_emulator_switch, . - ravine_emulator_switch
  .popsection
)");
#endif

namespace ravine::emulator {
namespace {

// Address space, of which only the touched pages become memory. Sanitizers make frames large and
// write their reports on the stack that they find.
constexpr std::size_t stack_bytes = 256 << 10;
constexpr std::size_t guard_bytes = 16 << 10;

Fiber* running = nullptr;

}  // namespace

Fiber::Fiber(Work work) : work_(work) {
  void* const memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  // A stack that overflows ends the process rather than write into the next one.
  mprotect(memory_, guard_bytes, PROT_NONE);
  prepare();
}

Fiber::~Fiber() { munmap(memory_, stack_bytes); }

void Fiber::run() {
  Fiber* const self = running;
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
  }
  for (;;) {
    self->work_();
    self->suspend();
  }
}

void Fiber::resume() {
  running = this;
  void* fake_stack = nullptr;
  switch_from(caller_, own_, &fake_stack, memory_, stack_bytes);
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
  }
}

void Fiber::suspend() {
  switch_from(own_, caller_, &own_fake_stack_, caller_stack_, caller_stack_bytes_);
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(own_fake_stack_, &caller_stack_, &caller_stack_bytes_);
  }
}

void Fiber::switch_from(Context& from, Context& to, void** fake_stack, const void* stack,
                        std::size_t bytes) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#if defined(__x86_64__)
  ravine_emulator_switch(&from, to);
#else
  swapcontext(&from, &to);
#endif
}

void Fiber::prepare() {
#if defined(__x86_64__)
  // As if `run` had been called, with a stack aligned as for a call: no return address, which ends
  // a backtrace, its own address for the first switch to return to, and six registers.
  void** stack = reinterpret_cast<void**>(memory_ + stack_bytes);
  *--stack = nullptr;
  *--stack = reinterpret_cast<void*>(&Fiber::run);
  for (int i = 0; i < 6; ++i) *--stack = nullptr;
  own_ = stack;
#else
  getcontext(&own_);
  own_.uc_stack.ss_sp = memory_;
  own_.uc_stack.ss_size = stack_bytes;
  own_.uc_link = nullptr;
  makecontext(&own_, &Fiber::run, 0);
#endif
}

}  // namespace ravine::emulator
