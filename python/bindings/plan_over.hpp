// From lists of arrays in Python to a plan.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "ravine/plan.hpp"

namespace ravine::python {

/// A plan over variables, each list of slots, averages and accumulators: an array of each for each
/// name. It keeps none of them alive.
Plan plan_over(const std::vector<std::string>& names, const pybind11::list& variables,
               const std::vector<pybind11::list>& slots,
               const std::optional<pybind11::list>& averages,
               const std::optional<pybind11::list>& accumulators);

}  // namespace ravine::python
