// The kernels, launched by the host. All return at once; the work is done in the order of the
// stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ravine/passes.hpp"
#include "ravine/rules.hpp"
#include "tables.hpp"

namespace ravine::cuda {

/// Where the numbers of an update come from.
enum class Counting {
  on_host,    ///< by value; the update leaves them in `Progress`
  on_device,  ///< from `Numbers`, which `advance` has left
};

/// The types that all variables and gradients of a step have, so that a kernel need not ask for
/// each: one, or any that are computed in float32, in float64, or in both.
enum class ArrayTypes { float32, float16, bfloat16, single_precision, double_precision, mixed };

constexpr bool is_one_type(ArrayTypes types) {
  return types == ArrayTypes::float32 || types == ArrayTypes::float16 ||
         types == ArrayTypes::bfloat16;
}

/// Updates the rows that have a gradient and averages all, a launch for each group, at least one.
/// `rule` has advanced to update `t`.
void update(const Tables& tables, std::span<const GroupTable> groups, ArrayTypes types,
            Counting counting, const AnyRule& rule, const Passes& passes, double learning_rate,
            std::int64_t t, std::int64_t iteration, bool clips_to_norm, Stream stream);

/// Loads all that `update` and the others may launch for this rule.
void load_kernels(const AnyRule& rule);

/// Adds the unscaled gradients to the accumulators of the rows that have one.
void accumulate(const Tables& tables, const Passes& passes, Stream stream);

/// Copies the averages into the variables of the rows whose marks say that they are updated.
void overwrite(const Tables& tables, Stream stream);

/// Sums the squares of the gradients that the passes will clip, and finds the factors by which to.
struct NormBound {
  enum Kind { none, of_each, of_all } kind = none;
  double bound = 0.0;
};
void find_clip_factors(const Tables& tables, ArrayTypes types, const Passes& passes,
                       NormBound bound, Stream stream);

/// Moves `Progress` on by one call and leaves what it does in `Numbers`, having found the factors
/// by which to clip. With `scales`, gradients are unscaled by the loss scale that is there, and the
/// call is left out if they are not finite. With `learning_rate` nullptr, at the rate that is
/// there.
void advance(const Tables& tables, ArrayTypes types, const AnyRule& rule, const Passes& passes,
             NormBound bound, bool scales, const double* learning_rate, Stream stream);

/// Writes words into the memory of the device. They travel in the parameters of launches, so that
/// nothing is waited for and a graph keeps them.
void store(void* target, std::span<const std::uint64_t> words, Stream stream);

/// For `load_kernels`: those of the other files.
void load_norm_kernels(const AnyRule& rule);
void load_store_kernels();

}  // namespace ravine::cuda
