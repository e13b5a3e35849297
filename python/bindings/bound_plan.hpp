// A plan with the arrays of Python that it steps.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "gradients.hpp"
#include "known.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/options.hpp"
#include "ravine/plan.hpp"
#include "tensor_type.hpp"

namespace ravine::python {

/// The variables of one optimizer, bound once, and its steps without the interpreter's lock.
/// Streams are handles, as Python has them.
class BoundPlan {
 public:
  BoundPlan(std::vector<std::string> names, const pybind11::list& variables,
            const std::vector<pybind11::list>& slots, const std::optional<pybind11::list>& averages,
            const std::optional<pybind11::list>& accumulators);

  /// One call of `apply`. `on_missing` is called, if it is not None, with the gradients when some
  /// are missing, before anything is written. Counts the step, so that no interrupt can come
  /// between. On a GPU the step is put on `stream`, and waits for `producer`, the stream on which
  /// CuPy's arrays are made. With a loss scale, a step that is left out is not counted. That is
  /// optional: of a plain pointer pybind11 asks None whether it comes from another module, which
  /// takes longer than all else of a small step.
  void step(BoundRule& bound, const Options& live_options, double learning_rate,
            const pybind11::object& gradients, const pybind11::object& on_missing,
            std::uintptr_t stream, std::optional<std::uintptr_t> producer,
            std::optional<LossScale*> optional_scale);

  /// Lets `step_bound` make the steps of an optimizer: by its rule and options, which stay the same
  /// objects, and under its lock. To be called once, before others know the plan.
  void bind_step(const pybind11::object& rule, const pybind11::object& options,
                 const pybind11::object& lock);

  /// `step` with what was bound, on the CPU and without a loss scale. False: nothing was done, for
  /// nothing is bound, or it was suspended when the lock was there.
  bool step_bound(const pybind11::object& gradients, double learning_rate,
                  const pybind11::object& on_missing);
  bool is_suspended() const { return is_suspended_; }
  /// To be called under the lock.
  void set_suspended(bool suspended) { is_suspended_ = suspended; }

  /// Seconds of one of `repeats` steps, without Python in between. They are not counted.
  double time_steps(const BoundRule& bound, const Options& options, double learning_rate,
                    const pybind11::object& gradients, int repeats);
  /// Seconds of one of `repeats` streams over the same arrays.
  double time_streams(const Options& options, const pybind11::object& gradients, int repeats);
  /// Seconds of one of `repeats` rounds of the divisions and roots of a step.
  double time_divisions(const BoundRule& bound, int repeats);

  void overwrite_with_averages(const std::vector<std::size_t>& indices, std::uintptr_t stream);

  /// The index of the GPU; nothing for the CPU.
  std::optional<int> device() const;

  void prepare(const BoundRule& bound, const LossScale* loss_scale);
  bool counts_on_device() const { return plan_.counts_on_device(); }
  void read_progress(BoundRule& bound, LossScale* loss_scale);
  void set_learning_rate(double learning_rate, std::uintptr_t stream);
  void set_learning_rates(std::int64_t begin, const std::vector<double>& rates,
                          std::uintptr_t stream);
  /// Where the loss scale is on the GPU, for what is put on the stream to read.
  std::uintptr_t loss_scale_address(std::uintptr_t stream);
  bool is_capturing(std::uintptr_t stream) const;
  /// Lets what is put on the stream wait for the last step.
  void let_wait(std::uintptr_t stream);

  void touch_state();
  /// The array is kept alive.
  void guard(const pybind11::object& array, const std::string& label);
  void take_tensors(const TensorType& type) { gradients_.take_tensors(type); }
  void set_decays(std::size_t index, bool decays) { plan_.set_decays(index, decays); }
  /// Pairs of learning rate and weight decay.
  void set_multipliers(const std::vector<std::pair<double, double>>& pairs);

  std::vector<bool> received() const;
  void set_received(const std::vector<bool>& received);

  /// NumPy lets an array be resized or made read-only behind our back.
  void check_variables() const;

 private:
  /// A list of our own: another thread may change the caller's while the lock is released.
  pybind11::list held_list(const pybind11::object& gradients) const;

  /// Calls `use` with views of the gradients, by `run`.
  template <class Use>
  void with_views(pybind11::list held, const pybind11::object& on_missing, Use&& use);

  /// Calls `use`, without the interpreter's lock unless that takes hardly longer than to give it
  /// up: where others wait for it, it comes back only after they had their turn of milliseconds.
  template <class Use>
  void run(pybind11::list held, Use&& use) const;

  template <class Repeated>
  double seconds_each(const pybind11::object& gradients, int repeats, Repeated&& repeated);

  bool is_on_gpu() const { return plan_.device().type == DeviceType::cuda; }

  std::vector<std::string> names_;
  std::vector<pybind11::object> variables_, state_;  ///< kept alive
  std::vector<KnownMemory> memory_;                  ///< of the variables, when they were bound
  std::vector<TensorView> views_;  ///< kept for its storage: a step allocates nothing
  bool are_bound_ = false;         ///< what is known is what the plan holds
  bool keeps_lock_ = false;        ///< that of the interpreter, during a step
  Stream producer_ = nullptr;
  Plan plan_;
  Gradients gradients_;

  bool is_suspended_ = false;
  pybind11::object rule_, options_, acquire_, release_;  ///< of `bind_step`
  BoundRule* bound_rule_ = nullptr;                      ///< in `rule_`
  const Options* bound_options_ = nullptr;               ///< in `options_`
};

}  // namespace ravine::python
