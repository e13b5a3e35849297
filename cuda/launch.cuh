// Launching a kernel with its arguments, checked against its parameters.
#pragma once

#include <type_traits>

#include "platform.cuh"
#include "runtime.hpp"

namespace ravine::cuda {

/// Puts `kernel` on a stream with one argument by value.
template <class Arguments>
void launch(void (*kernel)(Arguments), std::int64_t blocks, unsigned threads, Stream stream,
            const std::type_identity_t<Arguments>& arguments) {
  if (blocks == 0) return;
#if defined(__CUDACC__)
  void* pointers[] = {const_cast<std::remove_const_t<Arguments>*>(&arguments)};
  runtime::launch(reinterpret_cast<const void*>(kernel), static_cast<unsigned>(blocks), threads,
                  stream, pointers);
#else
  emulator::enqueue(
      stream, static_cast<unsigned>(blocks), threads, [kernel, arguments] { kernel(arguments); },
      reinterpret_cast<const void*>(kernel));
#endif
}

/// Loads it ahead of its first launch.
template <class Arguments>
void load(void (*kernel)(Arguments)) {
  runtime::load(reinterpret_cast<const void*>(kernel));
}

}  // namespace ravine::cuda
