// The parts that the module is made of, one a file.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>
#include <variant>

#include "ravine/rules.hpp"

#if defined(Py_GIL_DISABLED)
#include <mutex>
#endif

namespace ravine::python {

/// To be held while a setting or a count of any object is read or written. Python orders the writes
/// by the lock of the optimizer, but a read takes none, so as not to wait for a step. Where there
/// is an interpreter's lock, that does.
class [[maybe_unused]] SettingsLock {
#if defined(Py_GIL_DISABLED)
  inline static std::mutex mutex_;
  std::lock_guard<std::mutex> guard_{mutex_};
#endif
};

/// A rule as Python holds it: any rule, so that `Plan.step` takes them all, and how many steps were
/// made with it.
struct BoundRule {
  AnyRule rule;
  std::int64_t calls = 0;

  /// Takes over the scalar state of a rule of the same kind, and counts: at once, so that no
  /// interrupt comes between.
  void take_state(const AnyRule& other, std::int64_t counted) {
    const SettingsLock lock;
    std::visit([&](auto& own) { own.take_state(std::get<std::decay_t<decltype(own)>>(other)); },
               rule);
    calls = counted;
  }
};

/// The product of the momenta of so many updates, where it was not kept.
double momentum_product(const Nadam& rule, std::int64_t updates);

void bind_rules(pybind11::module_& module);
void bind_tensor_type(pybind11::module_& module);
void bind_plan(pybind11::module_& module);
void bind_build(pybind11::module_& module);
void bind_jax(pybind11::module_& module);

}  // namespace ravine::python
