// The text of what a call throws, whole, for comparison.
#pragma once

#include <string>

#include "ravine/error.hpp"

namespace ravine::test {

/// The text, if `Expected` or a class derived from it is thrown; otherwise what happened instead.
template <class Expected, class Call>
std::string thrown(const Call& call) {
  try {
    call();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("(another exception) ") + error.what();
  }
  return "(no exception)";
}

}  // namespace ravine::test
