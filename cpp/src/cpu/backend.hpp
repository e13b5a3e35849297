// All that a CPU backend does; there is one for each instruction set.
#pragma once

#include <cstdint>

#include "chunks.hpp"
#include "ravine/passes.hpp"
#include "ravine/rules.hpp"

namespace ravine::cpu {

/// The rows of one step and how they are cut.
struct Work {
  const Row* rows = nullptr;
  const Chunk* chunks = nullptr;
  const std::int64_t* items = nullptr;
  std::int64_t item_count = 0;
  std::int64_t bytes = 0;      ///< memory traffic, about: decides whether threads pay
  bool touches_state = false;  ///< what is kept for the rows may be memory that nobody wrote yet
};

struct Backend {
  const char* name;
  /// Updates the rows that have a gradient and averages all.
  void (*run)(const AnyRule& rule, double learning_rate, std::int64_t t, const Passes& passes,
              const Work& work);
  /// Adds the unscaled gradients to the accumulators.
  void (*accumulate)(const Passes& passes, const Work& work);
  /// The sum of squares of each tile of the gradients that the passes will clip.
  void (*sum_squares)(const Passes& passes, const Work& work, double* tiles);
  /// Copies the averages into the variables of the rows that are updated.
  void (*overwrite)(const Work& work);
  /// The memory traffic of an update, and of a norm, with next to no arithmetic.
  void (*stream)(const Work& work, int slot_count, bool averages);
  void (*read_gradients)(const Work& work, double* tiles);
  /// The divisions and roots of an update, and nothing else.
  void (*divide)(const AnyRule& rule, const Work& work);
};

/// The backend of this machine. Throws `UnavailableError` if RAVINE_ISA asks for one that it lacks.
const Backend& backend();

}  // namespace ravine::cpu
