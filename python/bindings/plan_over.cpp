#include "plan_over.hpp"

#include <deque>
#include <utility>

#include "arrays.hpp"

namespace py = pybind11;

namespace ravine::python {

Plan plan_over(const std::vector<std::string>& names, const py::list& variables,
               const std::vector<py::list>& slots, const std::optional<py::list>& averages,
               const std::optional<py::list>& accumulators) {
  std::vector<Variable> result;
  std::deque<ShapeStorage> storage;  // until the plan has copied what it keeps
  const auto view = [&](py::handle array, const Which& which) {
    return view_of(array, which, storage.emplace_back());
  };
  for (std::size_t i = 0; i < names.size(); ++i) {
    Variable variable{names[i], view(variables[i], {"Variable", i, names[i]}), {}, {}, {}};
    for (const py::list& slot : slots) {
      variable.slots.push_back(view(slot[i], {"Slot of variable", i, names[i]}));
    }
    if (averages) variable.average = view((*averages)[i], {"Average", i, names[i]});
    if (accumulators) {
      variable.accumulator = view((*accumulators)[i], {"Accumulator", i, names[i]});
    }
    result.push_back(std::move(variable));
  }
  return Plan(std::move(result));
}

}  // namespace ravine::python
