// One Python class a rule, and the options that all share.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>

#include "bind.hpp"
#include "members.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/options.hpp"
#include "ravine/power.hpp"
#include "ravine/rules.hpp"

namespace py = pybind11;

namespace ravine::python {
namespace {

/// Tells Python's classes of the rules apart; all hold the same.
template <class Rule>
struct BoundRuleOf : BoundRule {
  BoundRuleOf() : BoundRule{Rule{}} {}
};

template <class Rule>
auto bind_rule(py::module_& module) {
  using Bound = BoundRuleOf<Rule>;
  py::class_<Bound, BoundRule> bound(module, Members<Rule>::name);
  bound.def(py::init<>()).def("copy", [](const Bound& self) { return self; });
  for_each_member<Rule>([&]<class Number>(const char* number, Number Rule::*member) {
    bound.def_property(
        number,
        [member](const Bound& self) {
          const SettingsLock lock;
          return std::get<Rule>(self.rule).*member;
        },
        [member](Bound& self, Number value) {
          const SettingsLock lock;
          std::get<Rule>(self.rule).*member = value;
        });
  });
  return bound;
}

template <class Class>
Class copied(const Class& object) {
  const SettingsLock lock;
  return object;
}

/// The numbers that are set, by name.
template <class Class>
py::dict numbers(const Class& object) {
  py::dict result;
  for_each_member<Class>([&](const char* name, auto member) {
    py::object value = py::cast(object.*member);
    if (!value.is_none()) result[name] = std::move(value);
  });
  return result;
}

/// Defines the attribute `name` of a class of Python's.
template <class Class, class Value>
void attribute(py::class_<Class>& bound, const char* name, Value Class::*member) {
  bound.def_property(
      name,
      [member](const Class& self) {
        const SettingsLock lock;
        return self.*member;
      },
      [member](Class& self, const Value& value) {
        const SettingsLock lock;
        self.*member = value;
      });
}

py::tuple slots(const BoundRule& bound) {
  return std::visit(
      [](const auto& rule) {
        const SlotNames names = rule.slots();
        py::tuple result(names.size());
        std::size_t i = 0;
        for (const std::string_view name : names) result[i++] = py::str(name.data(), name.size());
        return result;
      },
      bound.rule);
}

}  // namespace

double momentum_product(const Nadam& rule, std::int64_t updates) {
  // From there on the momentum is beta_1 to the last bit.
  constexpr std::int64_t warm = 1024;
  Nadam moved = rule;
  moved.momentum_product = 1.0;
  for (std::int64_t t = 1; t <= std::min(updates, warm); ++t) moved.advance(t);
  return moved.momentum_product * power(rule.beta_1, std::max(updates - warm, std::int64_t{0}));
}

void bind_rules(py::module_& module) {
  py::class_<BoundRule> rule(module, "Rule");
  attribute(rule, "calls", &BoundRule::calls);
  rule.def_property_readonly("slots", &slots)
      .def("copy", [](const BoundRule& bound) { return bound; })
      .def("numbers",
           [](const BoundRule& bound) {
             return std::visit([](const auto& rule) { return numbers(rule); }, copied(bound).rule);
           })
      .def(
          "take_state",
          [](BoundRule& bound, const BoundRule& other, std::int64_t calls) {
            bound.take_state(other.rule, calls);
          },
          py::arg("other"), py::arg("calls"))
      .def("check", [](const BoundRule& bound) {
        std::visit([](const auto& rule) { rule.check(); }, bound.rule);
      });

  bind_rule<SGD>(module);
  bind_rule<RMSprop>(module);
  bind_rule<Nadam>(module).def(
      "product_after",
      [](const BoundRuleOf<Nadam>& self, std::int64_t updates) {
        return momentum_product(std::get<Nadam>(copied<BoundRule>(self).rule), updates);
      },
      py::arg("updates"));
  bind_rule<Adam>(module);
  bind_rule<HandedOver>(module);

  py::class_<LossScale> loss_scale(module, "LossScale");
  loss_scale.def(py::init<>())
      .def("copy", [](const LossScale& self) { return self; })
      .def("check", &LossScale::check);
  attribute(loss_scale, "dynamic_growth_steps", &LossScale::dynamic_growth_steps);
  attribute(loss_scale, "dynamic_scale", &LossScale::dynamic_scale);
  attribute(loss_scale, "step_counter", &LossScale::step_counter);

  py::class_<Options> options(module, "Options");
  options.def(py::init<>())
      .def("copy", [](const Options& self) { return self; })
      .def("check", &Options::check);
  options.def("numbers", [](const Options& self) { return numbers(copied(self)); });
  for_each_member<Options>(
      [&](const char* name, auto member) { attribute(options, name, member); });
}

}  // namespace ravine::python
