// A rule whose formula stands elsewhere: Python code, which is given gradients and working copies.
#pragma once

#include <cstdint>

#include "ravine/portable.hpp"
#include "ravine/slots.hpp"

namespace ravine {

/// Two halves of a step whose formula is not part of the library. The first hands over the gradient
/// as a rule would get it, and leaves the variable decayed; the second takes the variable from
/// where a gradient is. Neither has a number, so that both are exact.
struct HandedOver {
  bool takes_back = false;  ///< the second half

  /// gradient = g
  template <class T>
  struct HandOverKernel {
    static constexpr int slot_count = 1;

    RAVINE_PORTABLE void operator()(T&, T g, T& gradient) const { gradient = g; }

    template <class U>
    RAVINE_PORTABLE HandOverKernel<U> rounded() const {
      return {};
    }
  };

  /// w = g
  template <class T>
  struct TakeBackKernel {
    static constexpr int slot_count = 0;

    RAVINE_PORTABLE void operator()(T& w, T g) const { w = g; }

    template <class U>
    RAVINE_PORTABLE TakeBackKernel<U> rounded() const {
      return {};
    }
  };

  void check() const {}

  /// Names of the state that each variable needs.
  SlotNames slots() const {
    SlotNames names;
    if (!takes_back) names.add("gradient");
    return names;
  }

  RAVINE_PORTABLE void advance(std::int64_t) {}
  RAVINE_PORTABLE void take_state(const HandedOver&) {}

  /// Calls `visit` with the kernel, which is the same at every rate and update.
  template <class Visit>
  RAVINE_PORTABLE void visit_kernel(double, std::int64_t, Visit&& visit) const {
    if (takes_back) return visit(TakeBackKernel<double>{});
    visit(HandOverKernel<double>{});
  }
};

}  // namespace ravine
