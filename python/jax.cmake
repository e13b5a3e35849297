# Whether the step is built for programs of JAX, in the variable has_jax: needs the headers of XLA's
# FFI that jaxlib comes with, and nothing of it to link or to run.
set(RAVINE_JAX AUTO CACHE STRING "The step for JAX: AUTO (where there are jaxlib's headers), ON, OFF")
set_property(CACHE RAVINE_JAX PROPERTY STRINGS AUTO ON OFF)
set(RAVINE_JAX_INCLUDE_DIR "" CACHE PATH "jaxlib's headers, as of jax.ffi.include_dir()")
if(NOT RAVINE_JAX MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "RAVINE_JAX must be AUTO, ON or OFF. Received: ${RAVINE_JAX}")
endif()

set(has_jax OFF)
set(jax_version "")
if(NOT RAVINE_JAX STREQUAL OFF)
  set(jax_include ${RAVINE_JAX_INCLUDE_DIR})
  if(NOT jax_include)
    # Without importing it: of the Python that builds.
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, os
spec = u.find_spec('jaxlib')
print(os.path.join(spec.submodule_search_locations[0], 'include') if spec else '', end='')"
      OUTPUT_VARIABLE jax_include)
  endif()
  set(jax_header xla/ffi/api/c_api.h)
  if(jax_include AND EXISTS ${jax_include}/${jax_header})
    set(has_jax ON)
    file(STRINGS ${jax_include}/${jax_header} jax_version REGEX "define XLA_FFI_API_M[AI][JN]OR ")
    string(REGEX REPLACE "[^0-9;]" "" jax_version "${jax_version}")
    list(JOIN jax_version "." jax_version)
  elseif(RAVINE_JAX STREQUAL ON AND jax_include)
    message(FATAL_ERROR "RAVINE_JAX is ON, and there is no ${jax_header} in ${jax_include}. "
      "Set RAVINE_JAX_INCLUDE_DIR to what jax.ffi.include_dir() returns.")
  elseif(RAVINE_JAX STREQUAL ON)
    message(FATAL_ERROR "RAVINE_JAX is ON, and ${Python_EXECUTABLE} has no jaxlib. Install it there, "
      "or set RAVINE_JAX_INCLUDE_DIR to what jax.ffi.include_dir() returns.")
  endif()
endif()
message(STATUS "ravine: step for JAX ${has_jax} (RAVINE_JAX=${RAVINE_JAX})")
