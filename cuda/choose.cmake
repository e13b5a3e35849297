# Which CUDA backend is built, in the variable cuda_backend: ON, OFF or EMULATOR. To be included where
# the project begins, since all folders link with the language that it enables.
set(RAVINE_CUDA AUTO CACHE STRING "The CUDA backend: AUTO (where there is nvcc), ON, OFF, EMULATOR")
set_property(CACHE RAVINE_CUDA PROPERTY STRINGS AUTO ON OFF EMULATOR)

if(RAVINE_CUDA STREQUAL AUTO)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(cuda_backend ON)
  else()
    set(cuda_backend OFF)
  endif()
elseif(RAVINE_CUDA MATCHES "^(ON|OFF|EMULATOR)$")
  set(cuda_backend ${RAVINE_CUDA})
else()
  message(FATAL_ERROR "RAVINE_CUDA must be AUTO, ON, OFF or EMULATOR. Received: ${RAVINE_CUDA}")
endif()

if(cuda_backend STREQUAL ON)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # Every generation from Turing on; those to come compile what is left in PTX.
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90-real 100-real 120)
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  # A program that links the static library need not know the language, hence the runtime by name.
  # CMake's own search wants the shared one too, which NVIDIA's packages on PyPI have not.
  find_library(RAVINE_CUDART cudart_static REQUIRED
    HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES})
  mark_as_advanced(RAVINE_CUDART)
  add_library(ravine::cudart INTERFACE IMPORTED GLOBAL)
  target_link_libraries(ravine::cudart INTERFACE ${RAVINE_CUDART})
  if(UNIX)
    target_link_libraries(ravine::cudart INTERFACE ${CMAKE_DL_LIBS} rt)
  endif()
endif()
message(STATUS "ravine: CUDA backend ${cuda_backend} (RAVINE_CUDA=${RAVINE_CUDA})")
