#!/usr/bin/env bash
# The C++ tests: a Release build without warnings, with a look at its symbols and instructions; then
# with ThreadSanitizer. With the other sanitizers test_emulator.sh runs them.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_venv tools cmake ninja

echo "Release"
build release -DCMAKE_BUILD_TYPE=Release -DRAVINE_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
run_tests release
"$root/.ci/check_symbols.sh" "$work/release"
"$root/.ci/check_assembly.sh" "$work/release"
"$root/.ci/check_flags.sh" "$work/release"

echo "ThreadSanitizer"
build thread -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRAVINE_TESTS=ON -DRAVINE_SANITIZE=thread
# By default it ends a child of a process with threads that starts threads of its own. Left out are tests
# of arithmetic, on one thread, which take half of the time and leave it nothing to find.
TSAN_OPTIONS="die_after_fork=0 ${TSAN_OPTIONS:-}" run_tests thread \
  --exclude-regex '^(Formats/)?(Loop|Hashes|Root)'
