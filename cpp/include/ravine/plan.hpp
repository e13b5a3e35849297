// Plan: variables and their slots, checked once and cut into chunks; steps over all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ravine/options.hpp"
#include "ravine/rules.hpp"
#include "ravine/tensor.hpp"

namespace ravine {

/// An array to train and the state that goes with it. All are the caller's and must outlive the
/// plan. Slots, average and accumulator have the size of the variable and the type
/// `arithmetic_dtype(value.dtype)`, and lie without gaps in the order in which the elements of the
/// variable lie in memory.
struct Variable {
  std::string name;  ///< for messages
  TensorView value;
  std::vector<TensorView> slots;
  TensorView average;      ///< for `Options::use_ema`; may be absent
  TensorView accumulator;  ///< for `Options::gradient_accumulation_steps`; may be absent
};

/// What `Plan::step` did.
struct StepReport {
  std::int64_t gradients = 0;  ///< how many were present
  bool updated = false;        ///< false: only accumulated
};

/// Variables of one device, bound, checked and cut once, then stepped together.
///
/// A step that throws has changed nothing. Steps on one plan exclude each other; steps on different
/// plans may run at the same time.
class Plan {
 public:
  /// Throws `ArgumentError` if a view does not fit its variable, is read-only, or if two of the
  /// arrays share memory.
  explicit Plan(std::vector<Variable> variables);
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();

  /// One call of Keras's `apply`: accumulates the gradients or updates the variables, one gradient
  /// for each variable, in their order, an empty view for one that is missing. Any supported type
  /// and any strides; the shape of the variable, or none: then its elements are taken to lie in the
  /// order of those of the variable.
  ///
  /// `iteration` counts the calls before this one, `learning_rate` is that of this call. `rule`
  /// advances when the variables are updated. Throws `ArgumentError`.
  ///
  /// On a GPU the work is put on `stream` and nothing waits for it. Arrays must be without gaps,
  /// gradients in the order of their variables.
  StepReport step(AnyRule& rule, const Options& options, double learning_rate,
                  std::int64_t iteration, std::span<const TensorView> gradients,
                  Stream stream = nullptr);

  /// Copies the averages into the variables, all or those of these numbers.
  void overwrite_with_averages(Stream stream = nullptr);
  void overwrite_with_averages(std::span<const std::size_t> indices, Stream stream = nullptr);

  /// The limit of a step, to be timed beside it: reads and writes the arrays that a step with these
  /// options would, in the same chunks and threads, with one addition an element. It spoils their
  /// values. The arrays must be without gaps, gradients of the type of their variables.
  void stream(const Options& options, std::span<const TensorView> gradients);

  /// Whether weight decay applies to variable number `index`; true at first.
  void set_decays(std::size_t index, bool decays);

  /// Whether variable number `index` has received a gradient since its last update.
  bool received(std::size_t index) const;
  void set_received(std::size_t index, bool received);

  std::size_t size() const;
  const Device& device() const;

  /// Only for arrays on a GPU, without effect on others: what makes steps fit for a CUDA graph.
  ///
  /// Replays of a step that was captured advance the iteration, and the scalar state of the rule,
  /// on the device; from then on `step` goes on from there and does not look at its `iteration`.
  /// Options and hyperparameters are those of the capture, but for the learning rate.

  /// Loads the kernels of a rule and sends its state: to be called before the first step if that is
  /// captured, and when a state was loaded. Waits for the device.
  void prepare(const AnyRule& rule, std::int64_t iteration = 0);
  /// The learning rate of the replays that follow on the stream.
  void set_learning_rate(double learning_rate, Stream stream = nullptr);
  /// Whether a step was captured.
  bool counts_on_device() const;
  /// Reads what the device counts, and waits for it; leaves both alone where the host counts.
  void read_progress(AnyRule& rule, std::int64_t& iteration) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ravine
