// How long the host takes for the calls of CUDA that a step is made of: the floor of its host time.
//
//     nvcc -O2 -o host_calls benchmarks/gpu/host_calls.cu && ./host_calls
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace {

struct Arguments {
  char bytes[256];
};
__global__ void nothing(const Arguments) {}

double now() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Prints the median of 300 calls, ten from each empty queue on.
template <class Call>
void time(const char* name, const Call& call) {
  std::vector<double> seconds;
  for (int i = 0; i < 300; ++i) {
    if (i % 10 == 0) cudaDeviceSynchronize();
    const double start = now();
    call();
    seconds.push_back(now() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("%-24s %6.2f us\n", name, 1e6 * seconds[seconds.size() / 2]);
}

}  // namespace

int main() {
  cudaStream_t stream;
  cudaEvent_t event;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  Arguments arguments{};
  void* pointers[] = {&arguments};
  const auto launch = [&] {
    cudaLaunchKernel(reinterpret_cast<const void*>(nothing), dim3(1), dim3(256), pointers, 0,
                     stream);
  };
  launch();
  time("one launch", launch);
  time("two launches", [&] { launch(), launch(); });
  time("record an event", [&] { cudaEventRecord(event, stream); });
  time("let a stream wait", [&] { cudaStreamWaitEvent(stream, event, 0); });
  time("wait, launch, record", [&] {
    cudaStreamWaitEvent(stream, event, 0);
    launch();
    cudaEventRecord(event, stream);
  });
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) {
    std::printf("%s\n", cudaGetErrorString(error));
    return 1;
  }
  return 0;
}
