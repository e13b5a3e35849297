// All that the CUDA backend does.
#pragma once

#include "ravine/tensor.hpp"

namespace ravine::cuda {

/// Throws `UnavailableError`, which says what is missing, if arrays of this device cannot be used.
void require(const Device& device);

}  // namespace ravine::cuda
