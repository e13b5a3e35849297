// The CUDA backend in a build without CUDA.
#include "cuda/backend.hpp"
#include "ravine/error.hpp"

namespace ravine::cuda {

void require(const Device&) {
  throw UnavailableError(
      "The arrays are on a GPU, and this build of ravine has no CUDA backend. Pass NumPy arrays.");
}

}  // namespace ravine::cuda
