// Exceptions of C++ as those of Python.
#pragma once

#include <exception>

namespace ravine::python {

/// Sets the exception of Python that stands for one of the library; another one is thrown again. As
/// pybind11 calls a translator.
void set_library_error(std::exception_ptr error);

/// Sets the exception of Python that stands for any.
void set_error(const std::exception_ptr& error);

}  // namespace ravine::python
