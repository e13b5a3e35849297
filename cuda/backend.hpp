// All that the CUDA backend does.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "chunks.hpp"
#include "ravine/options.hpp"
#include "ravine/rules.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cuda {

/// Throws `UnavailableError`, which says what is missing, if arrays of this device cannot be used.
void require(const Device& device);

/// The rows of a plan on their device, and the steps over them. No step waits for the device.
///
/// Where a step is captured in a CUDA graph, replays count on the device: from then on the
/// iteration and the scalar state of the rule are there, and steps outside of graphs go on from
/// them.
class Backend {
 public:
  /// Rows without gradients, cut. Their arrays must be without gaps.
  Backend(const Device& device, std::span<const Row> rows);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// Loads the kernels of a rule and leaves its state on the device: what must be done before the
  /// first step if that is captured. Waits for the device.
  void prepare(const AnyRule& rule, std::int64_t iteration);

  /// Lets a step on `stream` wait for what is made on `producer`.
  void wait_for(Stream producer, Stream stream);

  /// One update of the rows; advances the rule.
  void run(AnyRule& rule, const Options& options, double learning_rate, std::int64_t iteration,
           std::span<const Row> rows, Stream stream);

  /// Adds the unscaled gradients to the accumulators.
  void accumulate(const Passes& passes, std::span<const Row> rows, Stream stream);

  /// Copies the averages into the variables of the rows that are updated.
  void overwrite(std::span<const Row> rows, Stream stream);

  /// Whether a step was captured, so that only the device knows the iteration.
  bool counts_on_device() const;

  /// Reads and writes what the device counts. Both wait for it; nothing is read where the host
  /// counts.
  void read_progress(AnyRule& rule, std::int64_t& iteration) const;
  void write_progress(const AnyRule& rule, std::int64_t iteration);

  /// The rate of the replays that follow on the stream.
  void set_learning_rate(double learning_rate, Stream stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ravine::cuda
