// One Python class a rule, and the options that all share.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind.hpp"
#include "ravine/loss_scale.hpp"
#include "ravine/options.hpp"
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
class RuleClass {
 public:
  RuleClass(py::module_& module, const char* name) : class_(module, name) {
    class_.def(py::init<>()).def("copy", [](const Bound& self) { return self; });
  }

  template <class Number>
  RuleClass& number(const char* name, Number Rule::*member) {
    class_.def_property(
        name,
        [member](const Bound& self) {
          const SettingsLock lock;
          return std::get<Rule>(self.rule).*member;
        },
        [member](Bound& self, Number value) {
          const SettingsLock lock;
          std::get<Rule>(self.rule).*member = value;
        });
    return *this;
  }

 private:
  using Bound = BoundRuleOf<Rule>;
  py::class_<Bound, BoundRule> class_;
};

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

void bind_rules(py::module_& module) {
  py::class_<BoundRule> rule(module, "Rule");
  attribute(rule, "calls", &BoundRule::calls);
  rule.def_property_readonly("slots", &slots)
      .def("copy", [](const BoundRule& bound) { return bound; })
      .def(
          "take_state",
          [](BoundRule& bound, const BoundRule& other, std::int64_t calls) {
            bound.take_state(other.rule, calls);
          },
          py::arg("other"), py::arg("calls"))
      .def("check", [](const BoundRule& bound) {
        std::visit([](const auto& rule) { rule.check(); }, bound.rule);
      });

  RuleClass<SGD>(module, "SGD")
      .number("momentum", &SGD::momentum)
      .number("nesterov", &SGD::nesterov);
  RuleClass<RMSprop>(module, "RMSprop")
      .number("rho", &RMSprop::rho)
      .number("momentum", &RMSprop::momentum)
      .number("epsilon", &RMSprop::epsilon)
      .number("centered", &RMSprop::centered);
  RuleClass<Nadam>(module, "Nadam")
      .number("beta_1", &Nadam::beta_1)
      .number("beta_2", &Nadam::beta_2)
      .number("epsilon", &Nadam::epsilon)
      .number("momentum_product", &Nadam::momentum_product);
  RuleClass<Adam>(module, "Adam")
      .number("beta_1", &Adam::beta_1)
      .number("beta_2", &Adam::beta_2)
      .number("epsilon", &Adam::epsilon)
      .number("amsgrad", &Adam::amsgrad);
  RuleClass<HandedOver>(module, "HandedOver").number("takes_back", &HandedOver::takes_back);

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
  attribute(options, "weight_decay", &Options::weight_decay);
  attribute(options, "clipnorm", &Options::clipnorm);
  attribute(options, "clipvalue", &Options::clipvalue);
  attribute(options, "global_clipnorm", &Options::global_clipnorm);
  attribute(options, "use_ema", &Options::use_ema);
  attribute(options, "ema_momentum", &Options::ema_momentum);
  attribute(options, "ema_overwrite_frequency", &Options::ema_overwrite_frequency);
  attribute(options, "loss_scale_factor", &Options::loss_scale_factor);
  attribute(options, "gradient_accumulation_steps", &Options::gradient_accumulation_steps);
}

}  // namespace ravine::python
