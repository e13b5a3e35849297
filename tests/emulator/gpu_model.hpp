// A model twice over the same numbers, in a plan on the CPU and in one on a GPU of the emulator:
// after the same steps the two must agree in every bit.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fixtures.hpp"
#include "gpu_arrays.hpp"
#include "model.hpp"
#include "ravine/cuda.hpp"
#include "ravine/plan.hpp"

namespace ravine::test {

/// A model on one device.
class Side {
 public:
  Side(const std::vector<Spec>& specs, const AnyRule& its_rule, const Device& on)
      : rule(its_rule), device(on) {
    std::vector<Variable> variables;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      arrays.push_back(make(specs[i], plain_slot_count(rule), 100 * i));
      const std::vector<Elements>& all = arrays.back();
      Variable variable{"", all[0].view(on), {}, all[1].view(on), all[2].view(on)};
      for (std::size_t k = 3; k < all.size(); ++k) variable.slots.push_back(all[k].view(on));
      variables.push_back(std::move(variable));
    }
    plan.emplace(std::move(variables));
  }

  StepReport step(const Options& options, double learning_rate, std::int64_t iteration,
                  const Gradients& gradients, const Indices& missing = {},
                  Stream stream = nullptr) {
    return plan->step(rule, options, learning_rate, iteration, gradients.views(device, missing),
                      stream, loss_scale ? &*loss_scale : nullptr);
  }

  /// Variable, average, accumulator, slots.
  std::vector<std::vector<Elements>> arrays;
  AnyRule rule;
  std::optional<LossScale> loss_scale;
  Device device;
  std::optional<Plan> plan;

 private:
  static std::vector<Elements> make(const Spec& spec, std::size_t slots, std::uint64_t seed) {
    const DType state = arithmetic_dtype(spec.dtype);
    std::vector<Elements> all;
    all.emplace_back(spec.size, spec.dtype, spec.shifts[0]);
    all.emplace_back(spec.size, state, spec.shifts[2]);
    all.emplace_back(spec.size, state, spec.shifts[3]);
    for (std::size_t k = 0; k < slots; ++k) {
      all.emplace_back(spec.size, state, spec.shifts[4 + k]);
    }
    // Positive, as mean squares are; the accumulator is zero between windows.
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (k != 2) all[k].draw(seed + k, k == 0 ? -2.0 : 0.25, 2.0);
    }
    return all;
  }
};

/// The same model on both.
class Twins {
 public:
  Twins(std::vector<Spec> all, const AnyRule& rule, int index = 0)
      : specs(std::move(all)), cpu(specs, rule, {}), gpu(specs, rule, test::gpu(index)) {}

  /// One step of both, with gradients of its own, which stay until the work is done. Returns what
  /// the one on the CPU has done.
  StepReport step(const Options& options, double learning_rate, std::int64_t iteration,
                  const Indices& missing = {}, Stream stream = nullptr, double scale = 1.0) {
    held_.push_back(
        std::make_unique<Gradients>(specs, static_cast<std::uint64_t>(7 + 11 * iteration), scale));
    return step(options, learning_rate, iteration, *held_.back(), missing, stream);
  }
  StepReport step(const Options& options, double learning_rate, std::int64_t iteration,
                  const Gradients& gradients, const Indices& missing = {},
                  Stream stream = nullptr) {
    const StepReport a = cpu.step(options, learning_rate, iteration, gradients, missing);
    const StepReport b = gpu.step(options, learning_rate, iteration, gradients, missing, stream);
    EXPECT_EQ(a.gradients, b.gradients);
    if (!gpu.plan->counts_on_device()) {
      EXPECT_EQ(a.updated, b.updated);
    }
    return a;
  }

  void set_decays(std::size_t index, bool decays) {
    cpu.plan->set_decays(index, decays);
    gpu.plan->set_decays(index, decays);
  }

  void set_multipliers(const std::vector<Multipliers>& multipliers) {
    cpu.plan->set_multipliers(multipliers);
    gpu.plan->set_multipliers(multipliers);
  }

  /// Gives both a loss scale.
  void set_loss_scale(const LossScale& scale) {
    cpu.loss_scale = gpu.loss_scale = scale;
    prepare(0);
  }
  void prepare(std::int64_t iteration) {
    gpu.plan->prepare(gpu.rule, iteration, gpu.loss_scale ? &*gpu.loss_scale : nullptr);
  }

  /// Waits for the GPU, and takes over what it has counted.
  void expect_equal() {
    emulator::synchronize_all();
    std::int64_t iteration = 0;
    gpu.plan->read_progress(gpu.rule, iteration, gpu.loss_scale ? &*gpu.loss_scale : nullptr);
    for (const auto& gradients : held_) ASSERT_TRUE(gradients->intact());
    held_.clear();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      for (std::size_t k = 0; k < cpu.arrays[i].size(); ++k) {
        ASSERT_TRUE(gpu.arrays[i][k].same(cpu.arrays[i][k]))
            << "variable " << i << " of " << specs[i].size << " elements, array " << k;
        ASSERT_TRUE(gpu.arrays[i][k].intact()) << "variable " << i << ", array " << k;
      }
      ASSERT_EQ(gpu.plan->received(i), cpu.plan->received(i));
    }
    if (const auto* nadam = std::get_if<Nadam>(&gpu.rule)) {
      ASSERT_EQ(nadam->momentum_product, std::get<Nadam>(cpu.rule).momentum_product);
    }
    if (cpu.loss_scale) {
      ASSERT_EQ(gpu.loss_scale->dynamic_scale, cpu.loss_scale->dynamic_scale);
      ASSERT_EQ(gpu.loss_scale->step_counter, cpu.loss_scale->step_counter);
    }
  }

  std::vector<Spec> specs;
  Side cpu, gpu;

 private:
  std::vector<std::unique_ptr<Gradients>> held_;
};

/// Models by the dozen, one after the other under several orders of threads and streams.
class ManyModels : public Emulator {
 protected:
  void next_schedule() { emulator::set_schedule(schedule_++ % 4); }

 private:
  std::uint64_t schedule_ = 0;
};

/// Options that are as by default but for what `change` sets.
template <class Change>
Options options_with(const Change& change) {
  Options options;
  change(options);
  return options;
}

}  // namespace ravine::test
