// Steps whose instructions callgrind counts: on one thread, alike to the instruction in every run,
// however busy the machine is. `.ci/check_instructions.py` runs it and compares.
#include <valgrind/callgrind.h>

#include <bit>
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "ravine/ravine.hpp"

namespace {

using namespace ravine;

constexpr int step_count = 4;

const std::pair<std::string, AnyRule> rules[] = {
    {"sgd", SGD{}},
    {"nesterov", SGD{.momentum = 0.9, .nesterov = true}},
    {"rmsprop", RMSprop{}},
    {"rmsprop centered momentum", RMSprop{.momentum = 0.9, .centered = true}},
    {"nadam", Nadam{}},
    {"adam", Adam{}},
    {"adam amsgrad", Adam{.amsgrad = true}},
};

struct Model {
  std::string name;
  std::vector<std::int64_t> sizes;
  DType dtype = DType::float32;
};

/// What a step costs an element, and what it costs an array.
const Model models[] = {
    {"65536 elements", {65536}},
    {"65536 elements of bfloat16", {65536}, DType::bfloat16},
    {"1000 arrays", std::vector<std::int64_t>(1000, 16)},
};

Options all_options() {
  Options options;
  options.global_clipnorm = 1.0;
  options.weight_decay = 0.01;
  options.use_ema = true;
  return options;
}

/// Arrays of a model, all of one value.
class Arrays {
 public:
  Arrays(const std::vector<std::int64_t>& sizes, float value, DType dtype = DType::float32)
      : dtype_(dtype) {
    // The same value twice, if there are 16 bits: half of each array is used then.
    const auto bits = std::bit_cast<std::uint32_t>(value) >> 16;
    if (dtype == DType::bfloat16) value = std::bit_cast<float>(bits << 16 | bits);
    for (const std::int64_t size : sizes) {
      values_.emplace_back(static_cast<std::size_t>(size), value);
    }
  }
  TensorView view(std::size_t i) {
    return {values_[i].data(), static_cast<std::int64_t>(values_[i].size()), dtype_};
  }

 private:
  DType dtype_;
  std::vector<std::vector<float>> values_;
};

std::size_t slot_count(const AnyRule& rule) {
  return std::visit([](const auto& each) { return each.slots().size(); }, rule);
}

void count(const std::string& name, AnyRule rule, const Model& model, const Options& options) {
  const std::vector<std::int64_t>& sizes = model.sizes;
  Arrays w(sizes, 1.0f, model.dtype), g(sizes, 0.001f, model.dtype), average(sizes, 0.0f);
  std::vector<Arrays> slots(slot_count(rule), Arrays(sizes, 0.0f));
  std::vector<Variable> variables;
  std::vector<TensorView> gradients;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Variable variable{"", w.view(i), {}, average.view(i), {}};
    for (Arrays& slot : slots) variable.slots.push_back(slot.view(i));
    variables.push_back(std::move(variable));
    gradients.push_back(g.view(i));
  }
  Plan plan(std::move(variables));
  int iteration = 0;
  for (; iteration < 2; ++iteration) plan.step(rule, options, 0.01, iteration, gradients);
  CALLGRIND_ZERO_STATS;
  CALLGRIND_TOGGLE_COLLECT;
  for (int i = 0; i < step_count; ++i) plan.step(rule, options, 0.01, iteration++, gradients);
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS_AT(name.c_str());
}

}  // namespace

int main() {
  set_num_threads(1);
  std::cout << __VERSION__ << ' ' << instruction_set() << '\n';
  for (const auto& [rule_name, rule] : rules) {
    for (const Model& model : models) {
      const std::string name = rule_name + ", " + model.name;
      count(name, rule, model, {});
      count(name + ", options", rule, model, all_options());
    }
  }
}
