// The 16-bit types to and from float, by integers and exact arithmetic: the same bits everywhere.
#pragma once

#include <bit>
#include <cstdint>

#include "ravine/portable.hpp"

namespace ravine {

RAVINE_PORTABLE float from_bfloat16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// Rounds to nearest, ties to even. A NaN becomes 0x7fff, as on a GPU.
RAVINE_PORTABLE std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>(value != value ? 0x7fff : rounded);
}

/// Exact. Without branches, so that it vectorizes where the machine has no conversion of its own.
RAVINE_PORTABLE float from_float16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  // Shifted into a float's place the exponent is 112 too small, for subnormals as well.
  const float scaled = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000u);
  const std::uint32_t finite = std::bit_cast<std::uint32_t>(scaled);
  const std::uint32_t special = magnitude > 0x7bffu ? 0x7f800000u : 0u;
  return std::bit_cast<float>(finite | special | sign);
}

/// Rounds to nearest, ties to even. A NaN stays one, quiet.
RAVINE_PORTABLE std::uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // From the bias of a float to that of a half, rounded by the bits that fall off.
  const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 leaves a subnormal half's bits, rounded, at the end of the sum's.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  std::uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude > 0x477fffffu ? special : result;
  return static_cast<std::uint16_t>(result | sign);
}

}  // namespace ravine
