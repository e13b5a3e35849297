// The one macro that a formula needs to be compiled for the host and for a GPU.
#pragma once

#if defined(__CUDACC__)
#define RAVINE_PORTABLE __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define RAVINE_PORTABLE __forceinline
#else
#define RAVINE_PORTABLE inline __attribute__((always_inline))
#endif
