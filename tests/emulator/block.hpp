// Runs the blocks of a kernel one after the other, and the threads of a block in turns.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>

namespace ravine::emulator {

/// A kernel has done what would hang or be undefined on a GPU. Thrown by the call that ran it.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A kernel with its arguments, to be called by each thread.
struct Launch {
  unsigned blocks = 0, threads = 0;
  std::function<void()> kernel;
};

/// From one thread at a time. Throws `Fault`, or what the kernel throws.
void run(const Launch& launch);

/// The operations in which threads wait for each other.
enum class Operation : std::uint8_t {
  syncthreads,
  syncwarp,
  shfl,
  shfl_xor,
  shfl_down,
  ballot,
  any
};

/// A line of the kernel.
struct Place {
  const char* file = nullptr;
  int line = 0;

  /// Where the function is called that has this as the default of an argument.
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

constexpr unsigned warp_threads = 32;
constexpr unsigned largest_block = 1024;

/// Which lane of its warp the thread is that runs.
unsigned current_lane();

/// Lets the thread that runs wait until all threads of its block have come to this place.
void wait_for_block(Place place);

/// Lets it wait until all lanes in `mask` have come to this operation. Returns what the lane
/// `source` has passed as `value`, or for votes one bit a lane whose value is not 0.
std::uint64_t exchange(Operation operation, unsigned mask, std::uint64_t value, unsigned source,
                       Place place);

}  // namespace ravine::emulator

/// What CUDA declares of the thread that runs.
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
