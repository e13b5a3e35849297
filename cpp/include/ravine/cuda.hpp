// What this library knows of GPUs: whether they can be used, and what was asked of them.
#pragma once

#include <cstdint>

#include "ravine/export.hpp"
#include "ravine/tensor.hpp"

namespace ravine {

/// Whether this build has a CUDA backend. A driver and a GPU may still be missing.
RAVINE_API bool has_cuda();

/// The index of the GPU on which memory lies. Throws `UnavailableError`, which says what is
/// missing, where GPUs cannot be used, and `ArgumentError` if the memory is not that of a GPU.
RAVINE_API int cuda_device_of(const void* memory);

/// Whether what is put on the stream goes into a CUDA graph that is being captured.
RAVINE_API bool is_capturing(Stream stream);

/// What this process has asked of the CUDA runtime so far.
struct CudaCounts {
  std::int64_t launches = 0;
  std::int64_t synchronizations = 0;  ///< calls in which the host waited; a step makes none
  std::int64_t allocations = 0;       ///< nor of these
};
RAVINE_API CudaCounts cuda_counts();

}  // namespace ravine
