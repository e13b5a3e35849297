// The parts that the module is made of, one a file.
#pragma once

#include <pybind11/pybind11.h>

#include "ravine/rules.hpp"

namespace ravine::python {

/// A rule as Python holds it: any rule, so that `Plan.step` takes them all.
struct BoundRule {
  AnyRule rule;
};

void bind_rules(pybind11::module_& module);
void bind_plan(pybind11::module_& module);

}  // namespace ravine::python
