// The numbers of rules and options, by the names that Python and compiled programs have for them.
#pragma once

#include <tuple>

#include "ravine/options.hpp"
#include "ravine/rules.hpp"

namespace ravine::python {

template <class Class, class Value>
struct Member {
  const char* name;
  Value Class::*pointer;

  constexpr Member(const char* named, Value Class::*member) : name(named), pointer(member) {}
};

/// What a class is called, and its members.
template <class Class>
struct Members;

template <>
struct Members<SGD> {
  static constexpr const char* name = "SGD";
  static constexpr std::tuple all{
      Member("momentum", &SGD::momentum),
      Member("nesterov", &SGD::nesterov),
  };
};

template <>
struct Members<RMSprop> {
  static constexpr const char* name = "RMSprop";
  static constexpr std::tuple all{
      Member("rho", &RMSprop::rho),
      Member("momentum", &RMSprop::momentum),
      Member("epsilon", &RMSprop::epsilon),
      Member("centered", &RMSprop::centered),
  };
};

template <>
struct Members<Nadam> {
  static constexpr const char* name = "Nadam";
  static constexpr std::tuple all{
      Member("beta_1", &Nadam::beta_1),
      Member("beta_2", &Nadam::beta_2),
      Member("epsilon", &Nadam::epsilon),
      Member("momentum_product", &Nadam::momentum_product),
  };
};

template <>
struct Members<Adam> {
  static constexpr const char* name = "Adam";
  static constexpr std::tuple all{
      Member("beta_1", &Adam::beta_1),
      Member("beta_2", &Adam::beta_2),
      Member("epsilon", &Adam::epsilon),
      Member("amsgrad", &Adam::amsgrad),
  };
};

template <>
struct Members<HandedOver> {
  static constexpr const char* name = "HandedOver";
  static constexpr std::tuple all{Member("takes_back", &HandedOver::takes_back)};
};

template <>
struct Members<Options> {
  static constexpr const char* name = "Options";
  static constexpr std::tuple all{
      Member("weight_decay", &Options::weight_decay),
      Member("clipnorm", &Options::clipnorm),
      Member("clipvalue", &Options::clipvalue),
      Member("global_clipnorm", &Options::global_clipnorm),
      Member("use_ema", &Options::use_ema),
      Member("ema_momentum", &Options::ema_momentum),
      Member("ema_overwrite_frequency", &Options::ema_overwrite_frequency),
      Member("loss_scale_factor", &Options::loss_scale_factor),
      Member("gradient_accumulation_steps", &Options::gradient_accumulation_steps),
  };
};

/// Calls `visit` with the name and the pointer of each member.
template <class Class, class Visit>
void for_each_member(Visit&& visit) {
  std::apply([&](const auto&... member) { (visit(member.name, member.pointer), ...); },
             Members<Class>::all);
}

}  // namespace ravine::python
