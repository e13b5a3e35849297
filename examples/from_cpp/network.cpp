#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <utility>

namespace {

constexpr std::size_t hidden_count = 64, digit_count = 10;

/// out = in * kernel + bias, the kernel in rows of outputs.
void layer(const std::vector<float>& in, const Parameter& kernel, const Parameter& bias,
           std::vector<float>& out) {
  out = bias.value;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const float* const row = kernel.value.data() + i * out.size();
    for (std::size_t j = 0; j < out.size(); ++j) out[j] += in[i] * row[j];
  }
}

/// Adds to the gradients of a layer what the error behind it makes of them.
void add_gradients(const std::vector<float>& in, const std::vector<float>& error, Parameter& kernel,
                   Parameter& bias) {
  for (std::size_t j = 0; j < error.size(); ++j) bias.gradient[j] += error[j];
  for (std::size_t i = 0; i < in.size(); ++i) {
    float* const row = kernel.gradient.data() + i * error.size();
    for (std::size_t j = 0; j < error.size(); ++j) row[j] += in[i] * error[j];
  }
}

}  // namespace

Network::Network(unsigned seed)
    : parameters_{{"kernel_1", pixel_count * hidden_count},
                  {"bias_1", hidden_count},
                  {"kernel_2", hidden_count * digit_count},
                  {"bias_2", digit_count}} {
  std::mt19937 generator(seed);
  for (const auto& [index, inputs] : {std::pair(0, pixel_count), std::pair(2, hidden_count)}) {
    std::normal_distribution<float> normal(0, std::sqrt(2 / static_cast<float>(inputs)));
    for (float& weight : parameters_[index].value) weight = normal(generator);
  }
}

void Network::forward(const Digit& digit) {
  layer(digit.pixels, parameters_[0], parameters_[1], hidden_);
  for (float& neuron : hidden_) neuron = std::max(neuron, 0.0f);
  layer(hidden_, parameters_[2], parameters_[3], probabilities_);
  const float largest = *std::ranges::max_element(probabilities_);
  float sum = 0;
  for (float& each : probabilities_) sum += each = std::exp(each - largest);
  for (float& each : probabilities_) each /= sum;
}

void Network::backward(const Digit& digit, float share) {
  std::vector<float> error = probabilities_;
  error[digit.label] -= 1;
  for (float& each : error) each *= share;
  add_gradients(hidden_, error, parameters_[2], parameters_[3]);

  std::vector<float> hidden_error(hidden_.size());
  for (std::size_t i = 0; i < hidden_.size(); ++i) {
    const float* const row = parameters_[2].value.data() + i * error.size();
    for (std::size_t j = 0; j < error.size() && hidden_[i] > 0; ++j) {
      hidden_error[i] += row[j] * error[j];
    }
  }
  add_gradients(digit.pixels, hidden_error, parameters_[0], parameters_[1]);
}

float Network::loss_and_gradients(std::span<const Digit> batch) {
  for (Parameter& parameter : parameters_) std::ranges::fill(parameter.gradient, 0.0f);
  const float share = 1 / static_cast<float>(batch.size());
  float loss = 0;
  for (const Digit& digit : batch) {
    forward(digit);
    loss -= share * std::log(std::max(probabilities_[digit.label], 1e-30f));
    backward(digit, share);
  }
  return loss;
}

float Network::accuracy(std::span<const Digit> digits) {
  const auto right = std::ranges::count_if(digits, [&](const Digit& digit) {
    forward(digit);
    const auto largest = std::ranges::max_element(probabilities_) - probabilities_.begin();
    return largest == static_cast<std::ptrdiff_t>(digit.label);
  });
  return static_cast<float>(right) / static_cast<float>(digits.size());
}
