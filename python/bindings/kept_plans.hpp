// Plans that are kept from one call to the next: making one takes longer than a small step.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "ravine/plan.hpp"

namespace ravine::python {

/// Plans by all that they are made of: what lies where, how much, and of which type. So one that is
/// found is as good as new, whatever has become of the arrays in between. Whoever takes one has it
/// alone until it is given back.
class KeptPlans {
 public:
  using Key = std::vector<std::uint64_t>;

  /// That of variables in C order, without names.
  static Key key_of(const std::vector<Variable>& variables) {
    const std::size_t slots = variables.empty() ? 0 : variables.front().slots.size();
    Key key{variables.size(), slots};
    key.reserve(2 + variables.size() * 2 * (slots + 3));
    const auto add = [&](const TensorView& view) {
      key.push_back(view.present ? reinterpret_cast<std::uintptr_t>(view.data) : 0);
      key.push_back(static_cast<std::uint64_t>(view.size) << 3 |
                    static_cast<std::uint64_t>(view.dtype) << 1 | (view.present ? 1 : 0));
    };
    for (const Variable& variable : variables) {
      add(variable.value);
      for (const TensorView& slot : variable.slots) add(slot);
      add(variable.average);
      add(variable.accumulator);
    }
    return key;
  }

  std::optional<Plan> take(const Key& key) {
    const std::lock_guard lock(mutex_);
    for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
      if (kept->first != key) continue;
      std::optional<Plan> plan(std::move(kept->second));
      kept_.erase(kept);
      return plan;
    }
    return std::nullopt;
  }

  void give_back(Key key, Plan plan) {
    const std::lock_guard lock(mutex_);
    kept_.emplace_front(std::move(key), std::move(plan));
    if (kept_.size() > most) kept_.pop_back();
  }

 private:
  static constexpr std::size_t most = 16;

  std::mutex mutex_;
  std::deque<std::pair<Key, Plan>> kept_;  ///< the last one used comes first
};

}  // namespace ravine::python
