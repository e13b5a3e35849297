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
        name, [member](const Bound& self) { return std::get<Rule>(self.rule).*member; },
        [member](Bound& self, Number value) { std::get<Rule>(self.rule).*member = value; });
    return *this;
  }

 private:
  using Bound = BoundRuleOf<Rule>;
  py::class_<Bound, BoundRule> class_;
};

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
  py::class_<BoundRule>(module, "Rule")
      .def_property_readonly("slots", &slots)
      .def_readwrite("calls", &BoundRule::calls)
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

  py::class_<LossScale>(module, "LossScale")
      .def(py::init<>())
      .def("copy", [](const LossScale& self) { return self; })
      .def("check", &LossScale::check)
      .def_readwrite("dynamic_growth_steps", &LossScale::dynamic_growth_steps)
      .def_readwrite("dynamic_scale", &LossScale::dynamic_scale)
      .def_readwrite("step_counter", &LossScale::step_counter);

  py::class_<Options>(module, "Options")
      .def(py::init<>())
      .def("copy", [](const Options& self) { return self; })
      .def("check", &Options::check)
      .def_readwrite("weight_decay", &Options::weight_decay)
      .def_readwrite("clipnorm", &Options::clipnorm)
      .def_readwrite("clipvalue", &Options::clipvalue)
      .def_readwrite("global_clipnorm", &Options::global_clipnorm)
      .def_readwrite("use_ema", &Options::use_ema)
      .def_readwrite("ema_momentum", &Options::ema_momentum)
      .def_readwrite("ema_overwrite_frequency", &Options::ema_overwrite_frequency)
      .def_readwrite("loss_scale_factor", &Options::loss_scale_factor)
      .def_readwrite("gradient_accumulation_steps", &Options::gradient_accumulation_steps);
}

}  // namespace ravine::python
