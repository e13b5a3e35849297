// What the library throws.
#pragma once

#include <stdexcept>
#include <string>

#include "ravine/export.hpp"

namespace ravine {

/// The root of all exceptions of this library. Beside these, only what the standard library throws
/// where memory runs out.
class RAVINE_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument is wrong: which one, what was expected and what came stand in the text. Nothing has
/// been changed.
class RAVINE_API ArgumentError : public Error {
 public:
  using Error::Error;
};

/// An array has a type of elements that is not supported where it was passed.
class RAVINE_API TypeError : public ArgumentError {
 public:
  using ArgumentError::ArgumentError;
};

/// The machine or the build lacks what was asked for: an instruction set, a GPU.
class RAVINE_API UnavailableError : public Error {
 public:
  using Error::Error;
};

/// A GPU has not the memory that was asked for. Nothing has been changed.
class RAVINE_API OutOfMemoryError : public Error {
 public:
  using Error::Error;
};

/// Throws `ArgumentError` unless `value` is in [low, high], or in [low, high) if `high` is
/// excluded.
RAVINE_API void require_range(const char* name, double value, double low, double high,
                              bool excluded = false);

/// Throws `ArgumentError` unless `value` is finite.
RAVINE_API void require_finite(const char* name, double value);

/// Throws `ArgumentError` unless `value` is finite and at least 0, or above 0 if `positive`.
RAVINE_API void require_size(const char* name, double value, bool positive = false);

}  // namespace ravine
