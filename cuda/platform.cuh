// The language of the kernels: CUDA's, or where the compiler is not CUDA's, the same words as the
// emulator of the tests defines them.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "emulator.hpp"
#endif
