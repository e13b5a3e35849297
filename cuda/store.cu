// Writing a few words into the memory of the device.
#include <algorithm>

#include "kernels.hpp"
#include "launch.cuh"

namespace ravine::cuda {
namespace {

/// Words by value: few if few are sent, since all parameters of a launch travel.
template <std::size_t capacity>
struct StoreArguments {
  std::uint64_t* target;
  std::uint32_t count;
  std::uint64_t words[capacity];
};
constexpr std::size_t few = 32, some = 512, many = 4000;
// What a launch can take.
static_assert(sizeof(StoreArguments<many>) <= 32764);

template <std::size_t capacity>
__global__ void store_words(const StoreArguments<capacity> arguments) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < arguments.count) arguments.target[i] = arguments.words[i];
}

template <std::size_t capacity>
void store_part(std::uint64_t* target, std::span<const std::uint64_t> words, Stream stream) {
  StoreArguments<capacity> arguments;
  arguments.target = target;
  arguments.count = static_cast<std::uint32_t>(words.size());
  std::ranges::copy(words, arguments.words);
  const auto blocks = static_cast<std::int64_t>((words.size() + block_threads - 1) / block_threads);
  launch(store_words<capacity>, blocks, block_threads, stream, arguments);
}

}  // namespace

void store(void* target, std::span<const std::uint64_t> words, Stream stream) {
  auto* const begin = static_cast<std::uint64_t*>(target);
  for (std::size_t done = 0; done < words.size(); done += many) {
    const auto part = words.subspan(done, std::min(many, words.size() - done));
    if (part.size() <= few) {
      store_part<few>(begin + done, part, stream);
    } else if (part.size() <= some) {
      store_part<some>(begin + done, part, stream);
    } else {
      store_part<many>(begin + done, part, stream);
    }
  }
}

void load_store_kernels() {
  load(store_words<few>);
  load(store_words<some>);
  load(store_words<many>);
}

}  // namespace ravine::cuda
