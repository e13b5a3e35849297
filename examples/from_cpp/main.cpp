// Trains a small network on handwritten digits, with Nadam: weight decay, clipping by the norm of
// all gradients, and averages of the weights, which are used in the end.
//
// from_cpp FILE: what export_digits.py has written. Exit code 1 if too few digits are recognized.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <numbers>
#include <random>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include <ravine/ravine.hpp>

#include "digits.hpp"
#include "network.hpp"

namespace {

constexpr int epochs = 20;
constexpr std::size_t batch_size = 32;
constexpr float enough = 0.95f;

ravine::TensorView view(std::vector<float>& array) {
  return {array.data(), static_cast<std::int64_t>(array.size())};
}

/// The parameters of a network bound to a rule, with the state that it needs.
class Optimizer {
 public:
  Optimizer(std::vector<Parameter>& parameters, ravine::AnyRule rule, ravine::Options options)
      : rule_(rule), options_(options), plan_(bind(parameters)) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      plan_.set_decays(i, parameters[i].name.starts_with("kernel"));
      gradients_.push_back(view(parameters[i].gradient));
    }
  }

  void step(double learning_rate) {
    plan_.step(rule_, options_, learning_rate, iteration_++, gradients_);
  }

  void use_averages() { plan_.overwrite_with_averages(); }

 private:
  /// The state lies in `state_`, which must not move it once it is bound.
  std::vector<ravine::Variable> bind(std::vector<Parameter>& parameters) {
    const auto names = std::visit([](const auto& rule) { return rule.slots(); }, rule_);
    state_.reserve(parameters.size() * (names.size() + 1));
    std::vector<ravine::Variable> variables;
    for (Parameter& parameter : parameters) {
      const auto new_state = [&] { return view(state_.emplace_back(parameter.value.size())); };
      ravine::Variable variable{.name = parameter.name, .value = view(parameter.value)};
      for (std::size_t slot = 0; slot < names.size(); ++slot) variable.slots.push_back(new_state());
      variable.average = new_state();
      variables.push_back(variable);
    }
    return variables;
  }

  ravine::AnyRule rule_;
  ravine::Options options_;
  std::vector<std::vector<float>> state_;
  std::vector<ravine::TensorView> gradients_;
  std::int64_t iteration_ = 0;
  ravine::Plan plan_;
};

/// Trains, and returns the accuracy on digits that were not trained on.
float train(std::vector<Digit> training, const std::vector<Digit>& test) {
  Network network(1);
  Optimizer optimizer(
      network.parameters(), ravine::Nadam{},
      {.weight_decay = 0.01, .global_clipnorm = 1.0, .use_ema = true, .ema_momentum = 0.98});
  std::mt19937 generator(2);
  for (int epoch = 0; epoch < epochs; ++epoch) {
    std::ranges::shuffle(training, generator);
    const double part = static_cast<double>(epoch) / epochs;
    const double learning_rate = 0.001 * (1 + std::cos(part * std::numbers::pi));
    float loss = 0;
    int batches = 0;
    for (std::size_t begin = 0; begin < training.size(); begin += batch_size, ++batches) {
      const std::size_t size = std::min(batch_size, training.size() - begin);
      loss += network.loss_and_gradients(std::span(training).subspan(begin, size));
      optimizer.step(learning_rate);
    }
    std::printf("epoch %2d   loss %.4f   accuracy %.4f\n", epoch + 1,
                loss / static_cast<float>(batches), network.accuracy(test));
  }
  optimizer.use_averages();
  const float accuracy = network.accuracy(test);
  std::printf("averaged weights:     accuracy %.4f\n", accuracy);
  return accuracy;
}

}  // namespace

int main(int argument_count, char** arguments) try {
  if (argument_count != 2) {
    std::fprintf(stderr, "usage: %s FILE, from export_digits.py\n", arguments[0]);
    return 2;
  }
  std::vector<Digit> training, test;
  for (const Digit& digit : read_digits(arguments[1])) {
    (test.size() * 5 <= training.size() + test.size() ? test : training).push_back(digit);
  }
  std::printf("%zu digits to train on, %zu to test; %s, %d threads\n", training.size(), test.size(),
              ravine::instruction_set(), ravine::num_threads());
  return train(std::move(training), test) >= enough ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
