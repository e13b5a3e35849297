// The rules once more, for one element at a time, written from the description of the step and not
// from the library; and those that the tests go through.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <variant>
#include <vector>

#include "ravine/rules.hpp"

namespace ravine::test {

/// Every formula there is, and numbers that are not the defaults.
inline const std::vector<AnyRule> rules{
    SGD{},
    SGD{.momentum = 0.9},
    SGD{.momentum = 0.9, .nesterov = true},
    SGD{.momentum = 1.0},
    RMSprop{},
    RMSprop{.momentum = 0.8},
    RMSprop{.centered = true},
    RMSprop{.rho = 0.5, .momentum = 0.8, .epsilon = 0.0, .centered = true},
    Nadam{},
    Nadam{.beta_1 = 0.5, .beta_2 = 0.9, .epsilon = 1e-3},
    Adam{},
    Adam{.amsgrad = true},
    Adam{.beta_1 = 0.5, .beta_2 = 0.25, .epsilon = 0.0, .amsgrad = true},
    HandedOver{},
    HandedOver{.takes_back = true},
};

inline double plain_power(double base, std::int64_t exponent) {
  double result = 1.0;
  while (exponent != 0) {
    if (exponent % 2 == 1) result = result * base;
    base = base * base;
    exponent = exponent / 2;
  }
  return result;
}

/// All elements of one variable, each by itself. The formulas are for element `i`, whose slot
/// number k is `slots[k][i]`.
template <class T>
using PlainRule = std::function<void(std::vector<T>& w, const std::vector<T>& g,
                                     std::vector<std::vector<T>>& slots)>;

// ------------------------------------------------------------------------------------------ SGD

inline std::size_t plain_slot_count(const SGD& rule) { return rule.momentum != 0 ? 1 : 0; }

template <class T>
auto plain_rule(const SGD& rule, double learning_rate, std::int64_t) {
  const T rate = T(learning_rate), mu = T(rule.momentum);
  return [=, has_momentum = rule.momentum != 0, nesterov = rule.nesterov](T& w, T g, auto& slots,
                                                                          std::size_t i) {
    if (!has_momentum) {
      w = w - g * rate;
      return;
    }
    T& velocity = slots[0][i];
    velocity = velocity * mu - g * rate;
    w = nesterov ? w + (velocity * mu - g * rate) : w + velocity;
  };
}

// -------------------------------------------------------------------------------------- RMSprop

inline std::size_t plain_slot_count(const RMSprop& rule) {
  return 1 + (rule.momentum > 0 ? 1 : 0) + (rule.centered ? 1 : 0);
}

template <class T>
auto plain_rule(const RMSprop& rule, double learning_rate, std::int64_t) {
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

// ---------------------------------------------------------------------------------------- Nadam

inline std::size_t plain_slot_count(const Nadam&) { return 2; }

inline double plain_momentum(const Nadam& rule, std::int64_t t) {
  return rule.beta_1 * (1 - 0.5 * plain_power(0.96, t));
}

template <class T>
auto plain_rule(const Nadam& rule, double learning_rate, std::int64_t t) {
  // The product includes the momentum of this update.
  const double now = plain_momentum(rule, t), next = plain_momentum(rule, t + 1);
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

// ----------------------------------------------------------------------------------------- Adam

inline std::size_t plain_slot_count(const Adam& rule) { return rule.amsgrad ? 3 : 2; }

template <class T>
auto plain_rule(const Adam& rule, double learning_rate, std::int64_t t) {
  const double correction = std::sqrt(1 - plain_power(rule.beta_2, t));
  const T alpha = T(learning_rate * correction / (1 - plain_power(rule.beta_1, t)));
  const T one_minus_beta_1 = T(1 - rule.beta_1), one_minus_beta_2 = T(1 - rule.beta_2);
  const T epsilon = T(rule.epsilon);
  return [=, amsgrad = rule.amsgrad](T& w, T g, auto& slots, std::size_t i) {
    T &momentum = slots[0][i], &velocity = slots[1][i];
    momentum = momentum + (g - momentum) * one_minus_beta_1;
    velocity = velocity + (g * g - velocity) * one_minus_beta_2;
    T divisor = velocity;
    if (amsgrad) {
      T& largest = slots[2][i];
      if (std::isnan(velocity) || velocity > largest) largest = velocity;
      divisor = largest;
    }
    w = w - (momentum * alpha) / (std::sqrt(divisor) + epsilon);
  };
}

// ---------------------------------------------------------------------------------- handed over

inline std::size_t plain_slot_count(const HandedOver& rule) { return rule.takes_back ? 0 : 1; }

template <class T>
auto plain_rule(const HandedOver& rule, double, std::int64_t) {
  return [=](T& w, T g, auto& slots, std::size_t i) { (rule.takes_back ? w : slots[0][i]) = g; };
}

// ------------------------------------------------------------------------------------- any rule

/// How many slots a rule keeps, in the order of the plan.
inline std::size_t plain_slot_count(const AnyRule& any) {
  return std::visit([](const auto& rule) { return plain_slot_count(rule); }, any);
}

/// Moves the scalar state, which only Nadam has, to update number `t` (the first is 1).
inline void plain_advance(AnyRule& any, std::int64_t t) {
  if (auto* nadam = std::get_if<Nadam>(&any)) nadam->momentum_product *= plain_momentum(*nadam, t);
}

/// The rule of update number `t`; its own state must be that of the update.
template <class T>
PlainRule<T> plain_rule(const AnyRule& any, double learning_rate, std::int64_t t) {
  return std::visit(
      [&](const auto& rule) -> PlainRule<T> {
        return
            [apply = plain_rule<T>(rule, learning_rate, t)](auto& w, const auto& g, auto& slots) {
              for (std::size_t i = 0; i < w.size(); ++i) apply(w[i], g[i], slots, i);
            };
      },
      any);
}

/// Of each optimizer the first of `rules` that has the most slots.
inline std::vector<AnyRule> rules_with_all_slots() {
  std::vector<AnyRule> result;
  for (const AnyRule& rule : rules) {
    const auto known = std::find_if(result.begin(), result.end(), [&](const AnyRule& other) {
      return other.index() == rule.index();
    });
    if (known == result.end()) {
      result.push_back(rule);
    } else if (plain_slot_count(rule) > plain_slot_count(*known)) {
      *known = rule;
    }
  }
  return result;
}

}  // namespace ravine::test
