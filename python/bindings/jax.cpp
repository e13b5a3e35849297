// The step as XLA calls it, from inside of a program that JAX has compiled: without Python, on any
// thread, several at once.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "bind.hpp"
#include "kept_plans.hpp"
#include "members.hpp"
#include "ravine/error.hpp"
#include "ravine/plan.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
namespace py = pybind11;

namespace ravine::python {
namespace {

/// What XLA has found, or an exception that says what it has not.
template <class Value>
Value require(ffi::ErrorOr<Value> found, const char* what) {
  if (found.has_error()) throw ArgumentError(std::string(what) + ": " + found.error().message());
  return *found;
}

template <class Value>
Value attribute(const ffi::Dictionary& attributes, const char* name) {
  return require(attributes.get<Value>(name), name);
}

/// The attribute for a member, which may do without.
template <class Value>
struct Read {
  static Value from(const ffi::Dictionary& attributes, const char* name) {
    return attribute<Value>(attributes, name);
  }
};
template <class Value>
struct Read<std::optional<Value>> : Read<Value> {};

/// A rule or options, of the attributes that have the names of its members.
template <class Class>
Class read(const ffi::Dictionary& attributes) {
  Class result;
  for_each_member<Class>([&]<class Value>(const char* name, Value Class::*member) {
    if (attributes.contains(name)) result.*member = Read<Value>::from(attributes, name);
  });
  return result;
}

template <class... Rules>
AnyRule rule_called(std::string_view name, const ffi::Dictionary& attributes,
                    std::type_identity<std::variant<Rules...>>) {
  AnyRule result;
  const bool found =
      ((name == Members<Rules>::name && (result = read<Rules>(attributes), true)) || ...);
  if (!found) throw ArgumentError("There is no rule of the name " + std::string(name) + ".");
  return result;
}

DType dtype_of(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::DataType::F32:
      return DType::float32;
    case ffi::DataType::F64:
      return DType::float64;
    case ffi::DataType::F16:
      return DType::float16;
    case ffi::DataType::BF16:
      return DType::bfloat16;
    default:
      throw TypeError("Arrays must have dtype float32, float64, float16 or bfloat16.");
  }
}

/// XLA lays out all arrays in C order, as the call asks for.
TensorView view_of(const ffi::AnyBuffer& buffer) {
  return {buffer.untyped_data(), static_cast<std::int64_t>(buffer.element_count()),
          dtype_of(buffer)};
}

template <class Number>
Number number_in(const ffi::AnyBuffer& buffer) {
  Number number;
  std::memcpy(&number, buffer.untyped_data(), sizeof number);
  return number;
}

std::int64_t integer_in(const ffi::AnyBuffer& buffer) {
  if (buffer.element_type() == ffi::DataType::S64) return number_in<std::int64_t>(buffer);
  if (buffer.element_type() == ffi::DataType::S32) return number_in<std::int32_t>(buffer);
  throw TypeError("The iteration must have dtype int32 or int64.");
}

/// Of a number of Python's, which JAX would round to float32, two words have the bits.
double real_in(const ffi::AnyBuffer& buffer) {
  if (buffer.element_type() == ffi::DataType::F32) return number_in<float>(buffer);
  if (buffer.size_bytes() == sizeof(double)) return number_in<double>(buffer);
  throw TypeError("The learning rate must have dtype float32 or float64.");
}

/// One call. Operands are the iteration, the learning rate, the product of the momenta if the rule
/// is Nadam, the variables, each of the slots, the averages, the accumulators, and those gradients
/// that are there. Results are all of them but the first two and the gradients, in their place.
class Call {
 public:
  Call(ffi::RemainingArgs operands, ffi::RemainingRets results, const ffi::Dictionary& attributes)
      : operands_(operands),
        results_(results),
        present_(attribute<std::string_view>(attributes, "gradients")),
        decays_(attribute<std::string_view>(attributes, "decays")),
        options_(read<Options>(attributes)),
        rule_(rule_called(attribute<std::string_view>(attributes, "rule"), attributes,
                          std::type_identity<AnyRule>{})) {
    if (present_.size() == decays_.size()) return;
    throw ArgumentError("gradients and decays must have a letter for each variable.");
  }

  void run() {
    const std::int64_t iteration = integer_in(operand());
    const double learning_rate = real_in(operand());
    auto* const nadam = std::get_if<Nadam>(&rule_);
    std::optional<ffi::AnyBuffer> product;
    if (nadam != nullptr) {
      product = result();
      nadam->momentum_product = real_in(*product);
      if (nadam->momentum_product == 1.0) {
        nadam->momentum_product = momentum_product(*nadam, iteration / options_.window());
      }
    }
    std::vector<Variable> variables = read_variables();
    std::vector<TensorView> gradients(variables.size());
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (present_[i] == '1') gradients[i] = view_of(operand());
    }
    KeptPlans::Key key = KeptPlans::key_of(variables);
    std::optional<Plan> kept = plans().take(key);
    Plan plan = kept ? std::move(*kept) : Plan(variables);
    for (std::size_t i = 0; i < variables.size(); ++i) {
      plan.set_decays(i, decays_[i] == '1');
      if (gradients[i].present || !options_.updates(iteration)) continue;
      plan.set_received(i, has_any(variables[i].accumulator));
    }
    plan.step(rule_, options_, learning_rate, iteration, gradients);
    plans().give_back(std::move(key), std::move(plan));
    if (product) write(*product, nadam->momentum_product);
  }

 private:
  /// Never freed: at exit a thread may still be in a step.
  static KeptPlans& plans() {
    static auto* const kept = new KeptPlans;
    return *kept;
  }

  ffi::AnyBuffer operand() {
    return require(operands_.get<ffi::AnyBuffer>(next_operand_++), "An operand");
  }

  /// The next operand that is a result as well.
  ffi::AnyBuffer result() {
    const ffi::AnyBuffer from = operand();
    const ffi::AnyBuffer to = *require(results_.get<ffi::AnyBuffer>(next_result_++), "A result");
    if (to.untyped_data() != from.untyped_data()) {
      std::memcpy(to.untyped_data(), from.untyped_data(), from.size_bytes());
    }
    return to;
  }

  std::vector<Variable> read_variables() {
    std::vector<Variable> variables(present_.size());
    for (Variable& variable : variables) variable.value = view_of(result());
    const std::size_t slots =
        std::visit([](const auto& rule) { return rule.slots().size(); }, rule_);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      for (Variable& variable : variables) variable.slots.push_back(view_of(result()));
    }
    if (options_.use_ema) {
      for (Variable& variable : variables) variable.average = view_of(result());
    }
    if (options_.gradient_accumulation_steps) {
      for (Variable& variable : variables) variable.accumulator = view_of(result());
    }
    return variables;
  }

  /// Whether a variable has received gradients that do not add up to zero.
  static bool has_any(const TensorView& accumulator) {
    if (!accumulator.present) return false;
    const auto any = [&]<class Element>(const Element* elements) {
      return std::any_of(elements, elements + accumulator.size,
                         [](Element element) { return element != 0; });
    };
    if (accumulator.dtype == DType::float64) return any(static_cast<double*>(accumulator.data));
    return any(static_cast<float*>(accumulator.data));
  }

  static void write(const ffi::AnyBuffer& buffer, double number) {
    const auto rounded = static_cast<float>(number);
    const bool is_float = buffer.element_type() == ffi::DataType::F32;
    std::memcpy(buffer.untyped_data(), is_float ? static_cast<const void*>(&rounded) : &number,
                buffer.size_bytes());
  }

  ffi::RemainingArgs operands_;
  ffi::RemainingRets results_;
  std::string_view present_, decays_;  ///< a letter for each variable
  Options options_;
  AnyRule rule_;
  std::size_t next_operand_ = 0, next_result_ = 0;
};

/// Exceptions must not reach XLA.
ffi::Error step(ffi::RemainingArgs operands, ffi::RemainingRets results,
                const ffi::Dictionary& attributes) {
  try {
    Call(operands, results, attributes).run();
    return ffi::Error::Success();
  } catch (const ArgumentError& error) {
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::bad_alloc& error) {
    return {ffi::ErrorCode::kResourceExhausted, error.what()};
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

ffi::Error refuse_gpu(ffi::RemainingArgs, ffi::RemainingRets, const ffi::Dictionary&) {
  return {ffi::ErrorCode::kUnimplemented,
          "ravine's step on arrays of JAX runs on the CPU only. Set JAX_PLATFORMS=cpu, or use "
          "Keras's backend torch for a GPU."};
}

XLA_FFI_DEFINE_HANDLER(on_cpu, step, ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs());
XLA_FFI_DEFINE_HANDLER(on_gpu, refuse_gpu,
                       ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs());

}  // namespace

void bind_jax(py::module_& module) {
  const auto capsule = [](XLA_FFI_Handler* handler) {
    return py::capsule(reinterpret_cast<void*>(handler));
  };
  py::dict handlers;
  handlers["cpu"] = capsule(on_cpu);
  handlers["CUDA"] = capsule(on_gpu);
  handlers["ROCM"] = capsule(on_gpu);
  module.attr("jax_handlers") = handlers;
}

}  // namespace ravine::python
