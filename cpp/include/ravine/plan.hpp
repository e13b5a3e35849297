// Plan: variables and their slots, checked once and cut into chunks; steps over all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ravine/export.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/options.hpp"
#include "ravine/rules.hpp"
#include "ravine/tensor.hpp"

namespace ravine {

/// An array to train and the state that goes with it. All are the caller's and must outlive the
/// plan. Slots, average and accumulator have the size of the variable and the type
/// `arithmetic_dtype(value.dtype)`, and lie without gaps in the order in which the elements of the
/// variable lie in memory.
struct Variable {
  std::string name{};  ///< for messages
  TensorView value{};
  std::vector<TensorView> slots{};
  TensorView average{};      ///< for `Options::use_ema`; may be absent
  TensorView accumulator{};  ///< for `Options::gradient_accumulation_steps`; may be absent
};

/// What `Plan::step` did.
struct StepReport {
  std::int64_t gradients = 0;  ///< how many were present
  bool updated = false;        ///< false: only accumulated, or nothing
  bool skipped = false;        ///< gradients were not finite, and there is a loss scale
};

/// Variables of one device, bound, checked and cut once, then stepped together.
///
/// A step that throws has changed nothing. Steps on one plan exclude each other; steps on different
/// plans may run at the same time.
class RAVINE_API Plan {
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
  /// With a loss scale, gradients are unscaled by it, it is moved on, and a step whose gradients
  /// are not finite changes nothing else.
  ///
  /// On a GPU the work is put on `stream` and nothing waits for it. Arrays must be without gaps,
  /// gradients in the order of their variables. Where the device counts, the report knows of no
  /// update that depends on that.
  StepReport step(AnyRule& rule, const Options& options, double learning_rate,
                  std::int64_t iteration, std::span<const TensorView> gradients,
                  Stream stream = nullptr, LossScale* loss_scale = nullptr);

  /// The same with the gradients of the last step: the very arrays, which the caller vouches for,
  /// so that nothing is asked of each again. On a GPU, `producer` is the stream on which they are
  /// being computed. Throws `ArgumentError` unless `holds_gradients()`.
  StepReport step_again(AnyRule& rule, const Options& options, double learning_rate,
                        std::int64_t iteration, Stream stream = nullptr,
                        std::optional<Stream> producer = {}, LossScale* loss_scale = nullptr);
  /// Whether the gradients of the last step are still bound; not if others have taken their place,
  /// as zeros do at the end of a window for those that are missing.
  bool holds_gradients() const;

  /// Copies the averages into the variables, all or those of these numbers.
  void overwrite_with_averages(Stream stream = nullptr);
  void overwrite_with_averages(std::span<const std::size_t> indices, Stream stream = nullptr);

  /// The limit of a step, to be timed beside it: reads and writes the arrays that a step with these
  /// options would, in the same chunks and threads, with one addition an element. It spoils their
  /// values. The arrays must be without gaps, gradients of the type of their variables.
  void stream(const Options& options, std::span<const TensorView> gradients);

  /// The other limit of a step, where arrays are in the cache: as many divisions and roots as the
  /// formula of the rule has for the elements of all variables, on other data and next to nothing
  /// else, in the same threads. Not for a GPU.
  void divide(const AnyRule& rule);

  /// Writes to each page of slots, averages and accumulators on the thread that will update what
  /// lies there, and changes nothing. The first step does so by itself; to be called before memory
  /// that nobody has written yet is filled otherwise, as from a file, since a system with several
  /// nodes of memory takes a page from the node of the thread that first writes to it. Does nothing
  /// after a step or a call before, nor on a GPU.
  void touch_state();

  /// Steps refuse gradients that share memory with this array, too: one that is not the plan's,
  /// and that the caller writes after each step. `label` names it in the message. To be called
  /// before the first step.
  void guard(const TensorView& array, const std::string& label);

  /// Whether weight decay applies to variable number `index`; true at first.
  void set_decays(std::size_t index, bool decays);

  /// One for each variable, in their order; all 1 at first. Variables of the same multipliers are
  /// updated together: on a GPU by a launch for each distinct pair. Waits for a GPU. Throws
  /// `ArgumentError` if a number is not finite, their number is another, or a step was captured in
  /// a CUDA graph: replays would take one variable for another.
  void set_multipliers(std::span<const Multipliers> multipliers);

  /// Whether variable number `index` has received a gradient since its last update. Where the
  /// device counts: as of the last `read_progress`, and sent by `prepare`.
  bool received(std::size_t index) const;
  void set_received(std::size_t index, bool received);

  std::size_t size() const;
  const Device& device() const;

  /// Only for arrays on a GPU, without effect on others: counting on the device.
  ///
  /// Steps that are captured in a CUDA graph, or have a loss scale, advance the iteration, the
  /// scalar state of the rule and that of the loss scale on the device; from then on `step` goes on
  /// from there and does not look at its own. What replays do is that of the capture, but for the
  /// learning rate.

  /// Loads the kernels of a rule and sends its state and that of the loss scale: to be called
  /// before the first step if that is captured or has a loss scale, and when a state was loaded.
  /// Waits for the device.
  void prepare(const AnyRule& rule, std::int64_t iteration = 0,
               const LossScale* loss_scale = nullptr);
  /// The learning rate of the replays that follow on the stream.
  void set_learning_rate(double learning_rate, Stream stream = nullptr);
  /// The learning rates of the calls from number `begin` on, at most 512, for a rate that depends
  /// on the iteration where only the device knows that. They go before the one that `step` is
  /// given, until `set_learning_rate`.
  void set_learning_rates(std::int64_t begin, std::span<const double> rates,
                          Stream stream = nullptr);
  /// Lets what is put on the stream from now on wait for the last step, on whichever stream that
  /// was.
  void let_wait(Stream stream);
  /// The address, on the device, of the loss scale of the next step; nullptr on the CPU.
  const float* loss_scale() const;
  /// Whether the device counts.
  bool counts_on_device() const;
  /// Reads what the device counts, and waits for it; leaves all alone where the host counts.
  void read_progress(AnyRule& rule, std::int64_t& iteration, LossScale* loss_scale = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ravine
