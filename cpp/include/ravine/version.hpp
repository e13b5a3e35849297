// The version of the library; CMake and the Python package read it from here.
#pragma once

#define RAVINE_VERSION "0.1.0"
