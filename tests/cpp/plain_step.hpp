// The step once more as plain loops over vectors, written from the description of the step and not
// from the library: the two must agree in every bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <tuple>
#include <vector>

#include "plain_rules.hpp"
#include "ravine/options.hpp"

namespace ravine::test {

/// `count` normal numbers of magnitude about `scale`, always the same for the same `seed`. Making
/// them is most of the work of a test, so they are kept.
template <class T>
const std::vector<T>& random_values(std::size_t count, unsigned seed, double scale = 1.0) {
  static std::map<std::tuple<std::size_t, unsigned, double>, std::vector<T>> made;
  std::vector<T>& values = made[{count, seed, scale}];
  if (values.size() == count) return values;
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<T>(normal(generator)));
  return values;
}

/// Adds up to a power of two of values by halving.
inline double plain_halve(std::vector<double> values) {
  while (values.size() > 1) {
    const std::size_t half = values.size() / 2;
    for (std::size_t i = 0; i < half; ++i) values[i] = values[i] + values[i + half];
    values.resize(half);
  }
  return values[0];
}

/// Value i to accumulator i % 256, in order; then the accumulators by halving.
inline double plain_sum_tree(const std::vector<double>& values) {
  std::vector<double> accumulators(256, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) accumulators[i % 256] += values[i];
  return plain_halve(accumulators);
}

/// One sum for each tile of 2,048: 128 lanes in order, neighbours in fours, then by halving.
template <class T>
std::vector<double> plain_tiles(const std::vector<T>& g) {
  std::vector<double> tiles;
  for (std::size_t begin = 0; begin < g.size(); begin += 2048) {
    std::vector<double> lanes(128, 0.0);
    for (std::size_t i = begin; i < std::min(g.size(), begin + 2048); ++i) {
      lanes[(i - begin) % 128] += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    }
    std::vector<double> fours(32);
    for (std::size_t i = 0; i < 32; ++i) {
      fours[i] = (lanes[4 * i] + lanes[4 * i + 1]) + (lanes[4 * i + 2] + lanes[4 * i + 3]);
    }
    tiles.push_back(plain_halve(fours));
  }
  return tiles;
}

template <class T>
double plain_sum_squares(const std::vector<T>& g) {
  return g.empty() ? 0.0 : plain_sum_tree(plain_tiles(g));
}

template <class T>
struct PlainVariable {
  std::vector<T> w;
  std::vector<std::vector<T>> slots;
  std::vector<T> average, accumulator;
  bool decays = true;
  Multipliers multipliers;
  bool received = false;

  PlainVariable(std::vector<T> values, std::size_t slot_count)
      : w(std::move(values)),
        slots(slot_count, std::vector<T>(w.size())),
        average(w.size()),
        accumulator(w.size()) {}
};

/// A gradient, or none.
template <class T>
using PlainGradient = std::optional<std::vector<T>>;

template <class T>
std::vector<double> plain_clip_factors(const Options& options,
                                       const std::vector<PlainGradient<T>>& gradients) {
  std::vector<double> squares;
  for (const auto& g : gradients) squares.push_back(g ? plain_sum_squares(*g) : 0.0);
  std::vector<double> factors(gradients.size(), 1.0);
  const auto factor = [](double norm, double bound) { return norm <= bound ? 1.0 : bound / norm; };
  if (options.clipnorm) {
    for (std::size_t i = 0; i < squares.size(); ++i) {
      factors[i] = factor(std::sqrt(squares[i]), *options.clipnorm);
    }
  } else if (options.global_clipnorm) {
    const double norm = std::sqrt(plain_sum_tree(squares));
    const double common = std::isfinite(norm) ? factor(norm, *options.global_clipnorm)
                                              : std::numeric_limits<double>::quiet_NaN();
    std::fill(factors.begin(), factors.end(), common);
  }
  return factors;
}

template <class T>
void plain_average(const Options& options, std::int64_t update, PlainVariable<T>& variable) {
  const T mu = T(options.ema_momentum), rest = T(1 - options.ema_momentum);
  for (std::size_t i = 0; i < variable.w.size(); ++i) {
    T& mean = variable.average[i];
    mean = update == 0 ? variable.w[i] : mu * mean + rest * variable.w[i];
  }
  const auto every = options.ema_overwrite_frequency;
  if (every && (update + 1) % *every == 0) variable.w = variable.average;
}

/// One call of Keras's `apply`. Returns whether the variables were updated.
template <class T>
bool plain_step(AnyRule& rule, const Options& options, double learning_rate, std::int64_t iteration,
                std::vector<PlainVariable<T>>& variables, std::vector<PlainGradient<T>> gradients) {
  const std::int64_t window = options.gradient_accumulation_steps.value_or(1);
  for (auto& g : gradients) {
    if (!g || !options.loss_scale_factor) continue;
    for (T& value : *g) value = value * T(1 / *options.loss_scale_factor);
  }
  if ((iteration + 1) % window != 0) {
    for (std::size_t k = 0; k < variables.size(); ++k) {
      if (!gradients[k]) continue;
      for (std::size_t i = 0; i < variables[k].w.size(); ++i) {
        variables[k].accumulator[i] += (*gradients[k])[i];
      }
      variables[k].received = true;
    }
    return false;
  }
  if (window > 1) {
    for (std::size_t k = 0; k < variables.size(); ++k) {
      PlainVariable<T>& variable = variables[k];
      if (!gradients[k] && variable.received) {
        gradients[k] = std::vector<T>(variable.w.size(), T(0));
      }
      for (std::size_t i = 0; i < variable.w.size(); ++i) {
        if (gradients[k]) {
          (*gradients[k])[i] = ((*gradients[k])[i] + variable.accumulator[i]) / T(window);
        }
        variable.accumulator[i] = 0;
      }
      variable.received = false;
    }
  }
  const std::int64_t update = iteration / window;
  plain_advance(rule, update + 1);
  const std::vector<double> factors = plain_clip_factors(options, gradients);
  for (std::size_t k = 0; k < variables.size(); ++k) {
    if (!gradients[k]) continue;
    PlainVariable<T>& variable = variables[k];
    const double rate = learning_rate * variable.multipliers.learning_rate;
    const double weight_decay =
        options.weight_decay.value_or(0.0) * variable.multipliers.weight_decay;
    const PlainRule<T> apply = plain_rule<T>(rule, rate, update + 1);
    for (T& g : *gradients[k]) {
      g = g * T(factors[k]);
      if (options.clipvalue) {
        if (g < -T(*options.clipvalue)) g = -T(*options.clipvalue);
        if (g > T(*options.clipvalue)) g = T(*options.clipvalue);
      }
    }
    const double decay = weight_decay * rate;
    if (variable.decays && decay != 0) {
      for (T& w : variable.w) w = w - w * T(decay);
    }
    apply(variable.w, *gradients[k], variable.slots);
  }
  if (options.use_ema) {
    for (PlainVariable<T>& variable : variables) plain_average(options, update, variable);
  }
  return true;
}

}  // namespace ravine::test
