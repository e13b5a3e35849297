// The names of the state that a rule keeps for each variable.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace ravine {

/// The most slots that any rule gives a variable.
inline constexpr std::size_t max_slots = 3;

/// A short list of names, without an allocation.
struct SlotNames {
  std::array<std::string_view, max_slots> names{};
  std::size_t count = 0;

  void add(std::string_view name) { names[count++] = name; }
  std::size_t size() const { return count; }
  const std::string_view* begin() const { return names.data(); }
  const std::string_view* end() const { return names.data() + count; }
};

}  // namespace ravine
