// The CUDA backend in a build without CUDA.
#include "cuda/backend.hpp"
#include "ravine/cuda.hpp"
#include "ravine/error.hpp"

namespace ravine::cuda {

struct Backend::State {};

namespace {

[[noreturn]] void refuse() {
  throw UnavailableError(
      "This build of ravine has no CUDA backend. Install a wheel with CUDA, build with "
      "RAVINE_CUDA=ON, or pass NumPy arrays.");
}

}  // namespace

void require(const Device&) { refuse(); }

// No object of this class can be made: what follows is never reached.
Backend::Backend(const Device&, std::span<const Row>) { refuse(); }
Backend::~Backend() = default;
void Backend::prepare(const AnyRule&, std::int64_t, const LossScale*, std::span<const char>) {
  refuse();
}
bool Backend::counts_in_step(const AnyRule&, const Options&, bool, std::int64_t, Stream) const {
  refuse();
}
void Backend::wait_for(Stream, Stream) { refuse(); }
void Backend::let_wait(Stream) { refuse(); }
void Backend::take(std::span<const Row>) { refuse(); }
void Backend::regroup(std::span<const Row>) { refuse(); }
void Backend::step(const AnyRule&, const Options&, double, bool, Stream) { refuse(); }
void Backend::run(AnyRule&, const Options&, double, std::int64_t, Stream) { refuse(); }
void Backend::accumulate(const Passes&, Stream) { refuse(); }
void Backend::overwrite(Stream) { refuse(); }
bool Backend::counts_on_device() const { refuse(); }
void Backend::read_progress(AnyRule&, std::int64_t&, LossScale*, std::span<char>) const {
  refuse();
}
void Backend::set_learning_rate(double, Stream) { refuse(); }
void Backend::set_learning_rates(std::int64_t, std::span<const double>, Stream) { refuse(); }
const float* Backend::loss_scale() const { refuse(); }

}  // namespace ravine::cuda

namespace ravine {

bool has_cuda() { return false; }
int cuda_device_of(const void*) { cuda::refuse(); }
bool is_capturing(Stream) { return false; }
CudaCounts cuda_counts() { return {}; }

}  // namespace ravine
