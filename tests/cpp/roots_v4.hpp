// The roots of cpu/root.hpp for tests that are compiled for every machine.
#pragma once

#include <cstdint>

namespace ravine::test {

/// The roots of `count` numbers, a multiple of 16.
void roots_v4(const float* x, std::int64_t count, float* root);

/// How many of the floats with these bits have another root than the processor gives.
std::int64_t wrong_roots_v4(std::uint32_t first, std::uint32_t last);

}  // namespace ravine::test
