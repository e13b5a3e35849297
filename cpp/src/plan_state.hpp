// What a plan keeps, and the ways of a step through it, without locks.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "binding.hpp"
#include "chunks.hpp"
#include "cpu/backend.hpp"
#include "cuda/backend.hpp"
#include "ravine/plan.hpp"
#include "written_memory.hpp"

namespace ravine {

// A member of a public class is public too, unless it says otherwise.
struct [[gnu::visibility("hidden")]] Plan::State {
  std::mutex mutex;
  Device device;
  std::vector<Binding> bindings;
  std::vector<Row> rows;
  Chunks chunks;
  WrittenMemory written;
  std::size_t slot_count = 0;
  bool has_averages = true, has_accumulators = true;
  std::int64_t update_bytes = 0;
  bool state_is_new = true;       // on the CPU: nothing has touched slots and the like yet
  std::int64_t gradients = 0;     // that are bound to the rows; 0: none, or others by now
  bool rows_have_changed = true;  // since they were sent to a GPU
  std::vector<char> received;
  std::vector<double> tiles, sums;
  std::unique_ptr<cuda::Backend> gpu;  // for arrays on a GPU

  explicit State(std::vector<Variable> variables);

  void check(const AnyRule& rule, const Options& options, double learning_rate,
             std::int64_t iteration, const LossScale* loss_scale) const;
  void bind(std::span<const TensorView> views);
  void complete_window();
  void touch_state();
  void send_rows();
  void set_multipliers(std::span<const Multipliers> multipliers);
  double sum_squares(const Passes& passes);
  void find_clip_factors(const Options& options, double sum_of_all);
  template <class ForEachProducer>
  StepReport step(AnyRule& rule, const Options& options, double learning_rate,
                  std::int64_t iteration, Stream stream, LossScale* loss_scale,
                  const ForEachProducer& for_each_producer);
  StepReport step_on_cpu(AnyRule& rule, const Options& options, double learning_rate,
                         std::int64_t iteration, LossScale* loss_scale);
  StepReport step_on_gpu(AnyRule& rule, const Options& options, double learning_rate,
                         std::int64_t iteration, Stream stream, LossScale* loss_scale);
  cpu::Work work(std::int64_t bytes) const;
  cpu::Work work_of_update(const Group& group) const;
};

}  // namespace ravine
