// A model whose steps on the GPU are replays of a captured one, or not, in any mixture.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "gpu_model.hpp"

namespace ravine::test {

/// Captures what `call` puts on the stream.
template <class Call>
emulator::Graph captured(Stream stream, const Call& call) {
  emulator::begin_capture(stream);
  call();
  return emulator::end_capture(stream);
}

/// Twins and gradients that stay where they are, for steps and replays of them.
class Recorded {
 public:
  Recorded(const std::vector<Spec>& specs, const AnyRule& rule, const Options& options)
      : stream(emulator::create_stream()),
        gradients(specs, 1),
        twins(specs, rule),
        options_(options) {}
  ~Recorded() { emulator::synchronize_all(); }

  Plan& plan() { return *twins.gpu.plan; }

  void set_rate(double value) {
    rate_ = value;
    plan().set_learning_rate(value, stream);
  }

  /// There may be several; they have numbers in their order.
  void capture(const Indices& missing = {}) {
    graphs_.push_back(captured(
        stream, [&] { twins.gpu.step(options_, rate_, iteration_, gradients, missing, stream); }));
    missing_.push_back(missing);
    EXPECT_TRUE(plan().counts_on_device());
  }

  /// Both with other numbers at the same place. `planted` becomes one of them.
  void replay(int times = 1, std::size_t graph = 0, std::optional<double> planted = {}) {
    for (int i = 0; i < times; ++i) {
      draw();
      if (planted) gradients.at(1).set(3, *planted);
      count(twins.cpu.step(options_, rate_, iteration_, gradients, missing_[graph]));
      graphs_[graph].launch(stream);
    }
  }

  /// A step without a graph.
  void eager(double rate, const Indices& missing = {}) {
    rate_ = rate;
    count(twins.step(options_, rate, iteration_, missing, stream));
  }
  void eager_in_place(double rate, const Indices& missing = {},
                      std::optional<double> planted = {}) {
    draw();
    if (planted) gradients.at(1).set(3, *planted);
    rate_ = rate;
    count(twins.step(options_, rate, iteration_, gradients, missing, stream));
  }

  void expect_equal() {
    twins.expect_equal();
    std::int64_t iteration = iteration_;
    plan().read_progress(twins.gpu.rule, iteration);
    EXPECT_EQ(iteration, iteration_);
  }

  std::int64_t& iteration() { return iteration_; }

  Stream stream;
  Gradients gradients;
  Twins twins;

 private:
  void draw() {
    emulator::synchronize_all();
    gradients.draw(50 + ++draws_);
  }
  void count(const StepReport& report) { iteration_ += !report.skipped; }

  Options options_;
  double rate_ = 0.1;
  std::int64_t iteration_ = 0;
  std::uint64_t draws_ = 0;
  std::vector<emulator::Graph> graphs_;
  std::vector<Indices> missing_;  // of each graph
};

}  // namespace ravine::test
