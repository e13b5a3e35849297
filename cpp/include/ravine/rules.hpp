// The list of the optimizers. A rule named here is compiled by every backend.
//
// A rule is a plain struct of its hyperparameters, under Keras's names, with
//   check()         throws if a number is out of its range;
//   slots()         the names of the state that each variable needs, in the order of its kernel;
//   advance(t)      moves its own scalar state to update number t (the first is 1);
//   take_state()    takes over the scalar state of another, and none of its hyperparameters;
//   visit_kernel()  hands out the formula for one element, a functor `void (T& w, T g, T& slot...)`
//                   with `slot_count` and `rounded<T>()`: its numbers are computed in double and
//                   rounded once to the type of the arithmetic. T may stand for many numbers, so
//                   that it chooses by the functions of choices.hpp.
#pragma once

#include <variant>

#include "ravine/rules/adam.hpp"
#include "ravine/rules/handed_over.hpp"
#include "ravine/rules/nadam.hpp"
#include "ravine/rules/rmsprop.hpp"
#include "ravine/rules/sgd.hpp"

namespace ravine {

using AnyRule = std::variant<SGD, RMSprop, Nadam, Adam, HandedOver>;

}  // namespace ravine
