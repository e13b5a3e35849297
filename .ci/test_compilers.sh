#!/usr/bin/env bash
# The C++ tests with another compiler and on another processor: clang, in C++23, and aarch64 under
# QEMU. Among them are hashes of what every rule makes of fixed numbers: those of GCC on x86-64.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
use_venv tools cmake ninja

echo "clang"
build clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_STANDARD=23 -DCMAKE_BUILD_TYPE=Release \
  -DRAVINE_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
run_tests clang
"$here/check_symbols.sh" "$work/clang"
"$here/check_assembly.sh" "$work/clang"
"$here/check_flags.sh" "$work/clang"

if [[ $(uname -m) != x86_64 ]]; then
  echo "aarch64: only from x86-64"
  exit 0
fi
echo "aarch64"
prefix=$work/aarch64_prefix
{
  cmake -S /usr/src/googletest -B "$work/googletest" -G Ninja -Wno-dev -DBUILD_GMOCK=OFF \
    -DCMAKE_BUILD_TYPE=Debug --toolchain "$here/aarch64.cmake" -DCMAKE_INSTALL_PREFIX="$prefix"
  cmake --build "$work/googletest"
  cmake --install "$work/googletest"
} >"$work/googletest.log" 2>&1 || { cat "$work/googletest.log"; exit 1; }
# A Debug build. The loop is optimized in any case; of the tests, more would take longer than it saves.
build aarch64 --toolchain "$here/aarch64.cmake" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 -DRAVINE_TESTS=ON \
  -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
# Left out, since here QEMU stands between the tests and the system: it fails where a child that was
# forked from several threads starts threads, and the system does not know how to run the program of
# a test anew, as those of the dispatch are.
run_tests aarch64 --exclude-regex '^(Threads\.WorkInA|DispatchDeathTest\.)'
"$here/check_symbols.sh" "$work/aarch64"
"$here/check_flags.sh" "$work/aarch64"
