// All that the CUDA backend does.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "chunks.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/options.hpp"
#include "ravine/rules.hpp"
#include "ravine/tensor.hpp"

namespace ravine::cuda {

/// The most rates that the device keeps ahead.
inline constexpr std::size_t max_learning_rates = 512;

/// Throws `UnavailableError`, which says what is missing, if arrays of this device cannot be used.
void require(const Device& device);

/// The rows of a plan on their device, and the steps over them. No step waits for the device.
///
/// Where a step is captured in a CUDA graph, or has a loss scale, the device counts: from then on
/// the iteration, the scalar state of the rule and what came in a window of accumulation are there.
class Backend {
 public:
  /// Rows without gradients, cut. Their arrays must be without gaps.
  Backend(const Device& device, std::span<const Row> rows);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// Loads the kernels of a rule and leaves its state on the device, which counts from then on if
  /// there is a loss scale. Waits for the device.
  void prepare(const AnyRule& rule, std::int64_t iteration, const LossScale* loss_scale,
               std::span<const char> received);

  /// Whether the device counts in a step on this stream. Throws `ArgumentError` if it would have to
  /// and was not prepared.
  bool counts_in_step(const AnyRule& rule, const Options& options, bool scales,
                      std::int64_t iteration, Stream stream) const;

  /// Lets a step on `stream` wait for what is made on `producer`. Throws `ArgumentError` if only
  /// one of them is captured.
  void wait_for(Stream producer, Stream stream);

  /// Lets what is put on `stream` wait for the last step.
  void let_wait(Stream stream);

  /// The rows as they are in the calls that follow. Needed only when they have changed.
  void take(std::span<const Row> rows);

  /// Rows with other multipliers. Waits for the device. Throws `ArgumentError` if a step was
  /// captured.
  void regroup(std::span<const Row> rows);

  /// One call, where the device counts: it updates the rows, accumulates or does nothing.
  void step(const AnyRule& rule, const Options& options, double learning_rate, bool scales,
            Stream stream);

  /// One update of the rows, where the host counts; advances the rule.
  void run(AnyRule& rule, const Options& options, double learning_rate, std::int64_t iteration,
           Stream stream);

  /// Adds the unscaled gradients to the accumulators, where the host counts.
  void accumulate(const Passes& passes, Stream stream);

  /// Copies the averages into the variables of the rows that are updated.
  void overwrite(Stream stream);

  /// Whether only the device knows the iteration.
  bool counts_on_device() const;

  /// Reads what the device counts, and waits for it; nothing is read where the host counts.
  void read_progress(AnyRule& rule, std::int64_t& iteration, LossScale* loss_scale,
                     std::span<char> received) const;

  /// The rate of the replays that follow on the stream.
  void set_learning_rate(double learning_rate, Stream stream);

  /// The rates of the calls from number `begin` on, where the device counts.
  void set_learning_rates(std::int64_t begin, std::span<const double> rates, Stream stream);

  /// Where the loss scale is on the device.
  const float* loss_scale() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ravine::cuda
