#!/usr/bin/env bash
# The CUDA backend where there is no GPU: its kernels compiled for the CPU, on an emulated device. All
# C++ tests, as a Release build without warnings and with AddressSanitizer and
# UndefinedBehaviorSanitizer, which see into the kernels; then the Python tests of GPUs.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_venv tools cmake ninja

echo "Release"
build emulator -DRAVINE_CUDA=EMULATOR -DCMAKE_BUILD_TYPE=Release -DRAVINE_TESTS=ON \
  -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
run_tests emulator

echo "AddressSanitizer and UndefinedBehaviorSanitizer"
# Optimized less: of so many tests, more would take longer than it saves. The loop is in any case.
build emulator_address -DRAVINE_CUDA=EMULATOR -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 \
  -DRAVINE_TESTS=ON -DRAVINE_SANITIZE=address,undefined
run_tests emulator_address

echo "Python"
cd "$root"
make_wheel emulator_dist EMULATOR
install_for_tests "$wheel"
python -c 'from ravine import _core; _core.emulator'
run_pytest "$@" tests/gpu
