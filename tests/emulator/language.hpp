// The words of CUDA C++ that kernels use, for a compiler that has them not. Not among them: blocks
// and grids of more than one dimension, and shared memory whose size the launch gives.
//
// https://docs.nvidia.com/cuda/cuda-c-programming-guide/#c-language-extensions
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block.hpp"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
// One block runs at a time. Not poisoned between blocks; AddressSanitizer sees beyond its ends
// where the kernel is no template, or is in an unnamed namespace.
#define __shared__ static

constexpr int warpSize = 32;

inline void __threadfence() {}

inline void __syncthreads(ravine::emulator::Place place = ravine::emulator::Place::here()) {
  ravine::emulator::wait_for_block(place);
}

inline void __syncwarp(unsigned mask = ~0u,
                       ravine::emulator::Place place = ravine::emulator::Place::here()) {
  ravine::emulator::exchange(ravine::emulator::Operation::syncwarp, mask, 0, 0, place);
}

namespace ravine::emulator {

// CUDA has its functions for some types and not for others.
template <class T, class... Types>
concept one_of = (std::same_as<T, Types> || ...);

/// The value that the lane `source` passes.
template <class T>
T shuffle(Operation operation, unsigned mask, T value, unsigned source, Place place) {
  static_assert(
      one_of<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(operation, mask, bits, source, place);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace ravine::emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              ravine::emulator::Place place = ravine::emulator::Place::here()) {
  const unsigned lane = ravine::emulator::current_lane();
  const auto last = static_cast<unsigned>(width - 1);
  return ravine::emulator::shuffle(ravine::emulator::Operation::shfl, mask, value,
                                   (lane & ~last) + (static_cast<unsigned>(source) & last), place);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  ravine::emulator::Place place = ravine::emulator::Place::here()) {
  const unsigned lane = ravine::emulator::current_lane();
  const unsigned other = lane ^ static_cast<unsigned>(lane_mask);
  const unsigned end = (lane | static_cast<unsigned>(width - 1)) + 1;
  return ravine::emulator::shuffle(ravine::emulator::Operation::shfl_xor, mask, value,
                                   other < end ? other : lane, place);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   ravine::emulator::Place place = ravine::emulator::Place::here()) {
  const unsigned lane = ravine::emulator::current_lane();
  const unsigned end = (lane | static_cast<unsigned>(width - 1)) + 1;
  return ravine::emulator::shuffle(ravine::emulator::Operation::shfl_down, mask, value,
                                   delta < end - lane ? lane + delta : lane, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              ravine::emulator::Place place = ravine::emulator::Place::here()) {
  return static_cast<unsigned>(ravine::emulator::exchange(ravine::emulator::Operation::ballot, mask,
                                                          predicate != 0, 0, place));
}

inline int __any_sync(unsigned mask, int predicate,
                      ravine::emulator::Place place = ravine::emulator::Place::here()) {
  return ravine::emulator::exchange(ravine::emulator::Operation::any, mask, predicate != 0, 0,
                                    place) != 0;
}

// Nothing needs to be atomic: threads take turns only where they wait.

template <class T>
  requires ravine::emulator::one_of<T, int, unsigned, unsigned long long, float, double>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  // Wraps, where a signed sum would overflow.
  if constexpr (std::same_as<T, int>) {
    *address = static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value));
  } else {
    *address = old + value;
  }
  return old;
}

inline unsigned atomicInc(unsigned* address, unsigned limit) {
  const unsigned old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}

template <class T>
  requires ravine::emulator::one_of<T, int, unsigned, unsigned long long, float>
T atomicExch(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  *address = value;
  return old;
}

template <class T>
  requires ravine::emulator::one_of<T, int, unsigned, unsigned short, unsigned long long>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}
