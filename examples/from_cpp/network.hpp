// A network of two layers with its gradients. It knows nothing of optimizers.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "digits.hpp"

/// An array that is trained, and its gradient.
struct Parameter {
  std::string name;
  std::vector<float> value, gradient;

  Parameter(std::string called, std::size_t size)
      : name(std::move(called)), value(size), gradient(size) {}
};

/// 64 pixels, 64 neurons (ReLU), 10 logits.
class Network {
 public:
  /// Normal weights of variance 2 / inputs (He et al., 2015), the same for the same seed.
  explicit Network(unsigned seed);

  /// The mean cross-entropy of a batch; leaves its gradients in the parameters.
  float loss_and_gradients(std::span<const Digit> batch);

  /// Which part of the digits is recognized.
  float accuracy(std::span<const Digit> digits);

  std::vector<Parameter>& parameters() { return parameters_; }

 private:
  void forward(const Digit& digit);
  void backward(const Digit& digit, float share);

  std::vector<Parameter> parameters_;
  std::vector<float> hidden_, probabilities_;
};
