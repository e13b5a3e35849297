// The step once more as plain loops over vectors, written from the description of the step and not
// from the library: the two must agree in every bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <variant>
#include <vector>

#include "ravine/options.hpp"
#include "ravine/rules.hpp"

namespace ravine::test {

/// `count` normal numbers of magnitude about `scale`, always the same for the same `seed`.
template <class T>
std::vector<T> random_values(std::size_t count, unsigned seed, double scale = 1.0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

inline double plain_power(double base, std::int64_t exponent) {
  double result = 1.0;
  while (exponent != 0) {
    if (exponent % 2 == 1) result = result * base;
    base = base * base;
    exponent = exponent / 2;
  }
  return result;
}

/// Which slots a rule keeps, in the order of the plan.
inline std::size_t plain_slot_count(const AnyRule& rule) {
  if (const auto* sgd = std::get_if<SGD>(&rule)) return sgd->momentum != 0 ? 1 : 0;
  if (const auto* rmsprop = std::get_if<RMSprop>(&rule)) {
    return 1 + (rmsprop->momentum > 0 ? 1 : 0) + (rmsprop->centered ? 1 : 0);
  }
  return 2;
}

/// Element `i` of one variable: `slots[k][i]` is its slot number k.
template <class T>
using PlainRule = std::function<void(T& w, T g, std::vector<std::vector<T>>& slots, std::size_t i)>;

template <class T>
PlainRule<T> plain_sgd(const SGD& rule, double learning_rate) {
  const T rate = T(learning_rate), mu = T(rule.momentum);
  if (rule.momentum == 0) return [=](T& w, T g, auto&, std::size_t) { w = w - g * rate; };
  return [=, nesterov = rule.nesterov](T& w, T g, auto& slots, std::size_t i) {
    T& velocity = slots[0][i];
    velocity = velocity * mu - g * rate;
    w = nesterov ? w + (velocity * mu - g * rate) : w + velocity;
  };
}

template <class T>
PlainRule<T> plain_rmsprop(const RMSprop& rule, double learning_rate) {
  const T rate = T(learning_rate), rho = T(rule.rho), one_minus_rho = T(1 - rule.rho);
  const T mu = T(rule.momentum), epsilon = T(rule.epsilon);
  const bool has_momentum = rule.momentum > 0, centered = rule.centered;
  return [=](T& w, T g, auto& slots, std::size_t i) {
    T& velocity = slots[0][i];
    velocity = rho * velocity + one_minus_rho * (g * g);
    T denominator = velocity;
    if (centered) {
      T& mean = slots[has_momentum ? 2 : 1][i];
      mean = rho * mean + one_minus_rho * g;
      denominator = velocity - mean * mean;
      if (denominator < 0) denominator = 0;
    }
    T increment = (rate * g) / std::sqrt(denominator + epsilon);
    if (has_momentum) {
      T& momentum = slots[1][i];
      momentum = mu * momentum + increment;
      increment = momentum;
    }
    w = w - increment;
  };
}

template <class T>
PlainRule<T> plain_nadam(const Nadam& rule, double learning_rate, std::int64_t t) {
  const auto momentum_at = [&](std::int64_t update) {
    return rule.beta_1 * (1 - 0.5 * plain_power(0.96, update));
  };
  // The product includes the momentum of this update.
  const double now = momentum_at(t), next = momentum_at(t + 1);
  const double product = rule.momentum_product;
  const T of_momentum = T(learning_rate * next / (1 - product * next));
  const T of_gradient = T(learning_rate * (1 - now) / (1 - product));
  const T of_velocity = T(1 / (1 - plain_power(rule.beta_2, t)));
  const T one_minus_beta_1 = T(1 - rule.beta_1), one_minus_beta_2 = T(1 - rule.beta_2);
  const T epsilon = T(rule.epsilon);
  return [=](T& w, T g, auto& slots, std::size_t i) {
    T &momentum = slots[0][i], &velocity = slots[1][i];
    momentum = momentum + (g - momentum) * one_minus_beta_1;
    velocity = velocity + (g * g - velocity) * one_minus_beta_2;
    w = w -
        (of_momentum * momentum + of_gradient * g) / (std::sqrt(velocity * of_velocity) + epsilon);
  };
}

/// The rule of update number `t` (the first is 1); its own state must be that of the update.
template <class T>
PlainRule<T> plain_rule(const AnyRule& rule, double learning_rate, std::int64_t t) {
  if (const auto* sgd = std::get_if<SGD>(&rule)) return plain_sgd<T>(*sgd, learning_rate);
  if (const auto* rmsprop = std::get_if<RMSprop>(&rule)) {
    return plain_rmsprop<T>(*rmsprop, learning_rate);
  }
  return plain_nadam<T>(std::get<Nadam>(rule), learning_rate, t);
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
  if (auto* nadam = std::get_if<Nadam>(&rule)) {
    nadam->momentum_product *= nadam->beta_1 * (1 - 0.5 * plain_power(0.96, update + 1));
  }
  const PlainRule<T> apply = plain_rule<T>(rule, learning_rate, update + 1);
  const std::vector<double> factors = plain_clip_factors(options, gradients);
  for (std::size_t k = 0; k < variables.size(); ++k) {
    if (!gradients[k]) continue;
    PlainVariable<T>& variable = variables[k];
    for (std::size_t i = 0; i < variable.w.size(); ++i) {
      T g = (*gradients[k])[i] * T(factors[k]);
      if (options.clipvalue) {
        if (g < -T(*options.clipvalue)) g = -T(*options.clipvalue);
        if (g > T(*options.clipvalue)) g = T(*options.clipvalue);
      }
      T& w = variable.w[i];
      const double decay = options.weight_decay.value_or(0.0) * learning_rate;
      if (variable.decays && decay != 0) w = w - w * T(decay);
      apply(w, g, variable.slots, i);
    }
  }
  if (options.use_ema) {
    for (PlainVariable<T>& variable : variables) plain_average(options, update, variable);
  }
  return true;
}

}  // namespace ravine::test
