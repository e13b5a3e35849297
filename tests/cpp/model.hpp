// A small model, trained by a plan and by the plain step beside it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "guarded.hpp"
#include "plain_step.hpp"
#include "ravine/plan.hpp"

namespace ravine::test {

/// A model in the plan and in plain vectors.
template <class T>
class Model {
 public:
  Model(const std::vector<std::size_t>& sizes, const AnyRule& rule)
      : rule_(rule), plain_rule_(rule) {
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      const auto values = random_values<T>(sizes[k], static_cast<unsigned>(100 + k));
      variables_.push_back(std::make_unique<PlainVariable<T>>(values, plain_slot_count(rule)));
      plain_.push_back(*variables_.back());
    }
    plan_.emplace(bound());
  }

  std::vector<Variable> bound() {
    std::vector<Variable> all;
    for (auto& each : variables_) {
      Variable variable{"", view(each->w), {}, view(each->average), view(each->accumulator)};
      for (auto& slot : each->slots) variable.slots.push_back(view(slot));
      all.push_back(variable);
    }
    return all;
  }

  static TensorView view(std::vector<T>& values) {
    return {values.data(), static_cast<std::int64_t>(values.size())};
  }

  /// One step of both. `missing`: the variables without a gradient.
  void step(const Options& options, double learning_rate, std::int64_t iteration,
            const std::vector<std::size_t>& missing = {}, double scale = 1.0) {
    std::vector<PlainGradient<T>> gradients;
    std::vector<TensorView> views;
    for (std::size_t k = 0; k < variables_.size(); ++k) {
      const auto seed = static_cast<unsigned>(1000 * (iteration + 1) + static_cast<int>(k));
      gradients.emplace_back(random_values<T>(variables_[k]->w.size(), seed, scale));
    }
    for (const std::size_t k : missing) gradients[k].reset();
    for (auto& gradient : gradients) views.push_back(gradient ? view(*gradient) : TensorView());
    const StepReport report = plan_->step(rule_, options, learning_rate, iteration, views);
    const bool updated =
        plain_step(plain_rule_, options, learning_rate, iteration, plain_, gradients);
    EXPECT_EQ(report.updated, updated);
    EXPECT_EQ(report.gradients, static_cast<std::int64_t>(variables_.size() - missing.size()));
  }

  void expect_equal() const {
    for (std::size_t k = 0; k < plain_.size(); ++k) {
      ASSERT_TRUE(same_bits(variables_[k]->w, plain_[k].w)) << "variable " << k;
      for (std::size_t s = 0; s < plain_[k].slots.size(); ++s) {
        ASSERT_TRUE(same_bits(variables_[k]->slots[s], plain_[k].slots[s])) << "slot " << s;
      }
      ASSERT_TRUE(same_bits(variables_[k]->average, plain_[k].average));
      ASSERT_TRUE(same_bits(variables_[k]->accumulator, plain_[k].accumulator));
      EXPECT_EQ(plan_->received(k), plain_[k].received);
    }
    if (const auto* nadam = std::get_if<Nadam>(&rule_)) {
      EXPECT_EQ(nadam->momentum_product, std::get<Nadam>(plain_rule_).momentum_product);
    }
  }

  void set_decays(std::size_t index, bool decays) {
    plan_->set_decays(index, decays);
    plain_[index].decays = decays;
  }

  void set_multipliers(const std::vector<Multipliers>& multipliers) {
    plan_->set_multipliers(multipliers);
    for (std::size_t k = 0; k < plain_.size(); ++k) plain_[k].multipliers = multipliers[k];
  }

  Plan& plan() { return *plan_; }
  std::vector<T>& w(std::size_t index) { return variables_[index]->w; }
  PlainVariable<T>& plain(std::size_t index) { return plain_[index]; }
  PlainVariable<T>& own(std::size_t index) { return *variables_[index]; }

 private:
  AnyRule rule_, plain_rule_;
  std::vector<std::unique_ptr<PlainVariable<T>>> variables_;
  std::vector<PlainVariable<T>> plain_;
  std::optional<Plan> plan_;
};

}  // namespace ravine::test
