#!/usr/bin/env bash
# The C++ library as others use it: installed static and shared by GCC and clang, found by CMake and
# pkg-config, or made part of another project; C++20 and C++23. No Python is asked for.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
use_venv tools cmake ninja
strict='-Wall -Wextra -Wpedantic -Werror'

# run_quietly COMMAND...: shows what it printed, which is then in $log, only if it fails.
run_quietly() {
  log=$work/library.$BASHPID.log
  "$@" >"$log" 2>&1 || {
    echo "library: failed: $*" >&2
    cat "$log"
    return 1
  }
}

# all_at_once COMMAND...: each in one word, for the shell to split.
all_at_once() {
  local command job jobs=()
  for command in "$@"; do
    eval "$command" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}

# install_library NAME SHARED COMPILER [OPTION...]: in $work/NAME_prefix. The flags are those of the
# tests, whose objects ccache has.
install_library() {
  build "$1" -DBUILD_SHARED_LIBS="$2" -DCMAKE_CXX_COMPILER="$3" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_COMPILE_WARNING_AS_ERROR=ON -DCMAKE_INSTALL_PREFIX="$work/library_prefix" \
    -DCMAKE_DISABLE_FIND_PACKAGE_Python=ON -DCMAKE_DISABLE_FIND_PACKAGE_pybind11=ON "${@:4}"
  rm -rf "$work/library_prefix" "$work/$1_prefix"
  run_quietly cmake --install "$work/$1"
  # Moved, since no file may say where it was.
  mv "$work/library_prefix" "$work/$1_prefix"
  if grep -rIl -e "$work" -e "$root" "$work/$1_prefix"; then
    echo "library: the files above name folders of this machine" >&2
    return 1
  fi
}

# use SOURCE BUILD COMPILER STANDARD [OPTION...]: configures and builds a project.
use() {
  local source=$1 folder=$work/$2
  run_quietly cmake -S "$source" -B "$folder" -G Ninja -DCMAKE_CXX_COMPILER="$3" \
    -DCMAKE_CXX_STANDARD="$4" "${@:5}"
  run_quietly cmake --build "$folder"
}

# use_installed NAME COMPILER STANDARD: the projects that call find_package.
use_installed() {
  local at=-DCMAKE_PREFIX_PATH=$work/$1_prefix name=$1_$2_$3
  use "$root/tests/consumer/find_package" "consumer_$name" "$2" "$3" "$at" -DCMAKE_CXX_FLAGS="$strict"
  use "$root/examples/from_cpp" "from_cpp_$name" "$2" "$3" "$at" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS="$strict"
  run_quietly "$work/consumer_$name/consumer"
  run_quietly "$work/from_cpp_$name/from_cpp" "$work/digits.txt"
  echo "find_package: $name: $(tail -n 1 "$log")"
}

# use_pkg_config NAME COMPILER STANDARD: what the documentation shows; bits that are the same
# everywhere; and an exception that is known by its type on the other side.
use_pkg_config() {
  local flags programs=$work/programs_$1 prefix=$work/$1_prefix status=0
  flags=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --cflags --libs ravine)
  mkdir -p "$programs"
  for source in consumer/tour cpp/hashes; do
    # shellcheck disable=SC2086
    run_quietly "$2" -std="$3" $strict "$root/tests/$source.cpp" -o "$programs/${source#*/}" $flags
  done
  local -x LD_LIBRARY_PATH=$prefix/lib
  run_quietly "$programs/tour"
  run_quietly "$programs/hashes" "$root/tests/cpp/hashes.txt"
  echo "pkg-config: $1_$2_$3: $(tail -n 1 "$log")"
  RAVINE_ISA=none "$programs/hashes" >"$programs/log" || status=$?
  if ((status != 77)) || ! grep -q '^RAVINE_ISA is "none"' "$programs/log"; then
    echo "library: an UnavailableError came out as exit code $status" >&2
    return 1
  fi
}

# refuses COMPONENT TEXT: find_package says why it does not find it.
refuses() {
  mkdir -p "$work/refused"
  printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(refused LANGUAGES CXX)' \
    "find_package(ravine CONFIG REQUIRED COMPONENTS cpu $1)" >"$work/refused/CMakeLists.txt"
  if cmake -S "$work/refused" -B "$work/refused/build" -G Ninja --fresh \
    -DCMAKE_PREFIX_PATH="$work/gcc_static_prefix" >"$work/library.log" 2>&1 ||
    ! tr -s ' \n' ' ' <"$work/library.log" | grep -qF "$2"; then
    echo "library: expected of COMPONENTS $1: $2" >&2
    cat "$work/library.log"
    return 1
  fi
}

if [[ ! -f $work/digits.txt ]]; then
  (use_venv test scikit-learn && python "$root/examples/from_cpp/export_digits.py" "$work/digits.txt")
fi
install_library gcc_static OFF g++
install_library gcc_shared ON g++
install_library clang_static OFF clang++ -DCMAKE_CXX_STANDARD=23
install_library clang_shared ON clang++ -DCMAKE_CXX_STANDARD=23
"$here/check_exports.sh" "$work/gcc_shared_prefix/lib/libravine.so"
"$here/check_exports.sh" "$work/clang_shared_prefix/lib/libravine.so"
"$here/check_flags.sh" "$work"/{gcc,clang}_{static,shared}

all_at_once \
  'use_installed gcc_static g++ 20' \
  'use_installed gcc_shared g++ 23' \
  'use_installed clang_static clang++ 23' \
  'use_installed clang_shared clang++ 20' \
  'use_pkg_config gcc_static clang++ c++20' \
  'use_pkg_config gcc_shared g++ c++2b'
refuses cuda 'This ravine was built without CUDA.'
refuses opencl 'The components of ravine are cpu and cuda. Received: opencl.'

# Part of another project.
within=(-DRAVINE_CUDA=OFF -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=ON)
use "$root/tests/consumer/add_subdirectory" add_subdirectory g++ 20 "${within[@]}"
use "$root/tests/consumer/fetch_content" fetch_content clang++ 23 "${within[@]}" \
  -DBUILD_SHARED_LIBS=ON -DRAVINE_URL=not-used -DFETCHCONTENT_SOURCE_DIR_RAVINE="$root"
for way in add_subdirectory fetch_content; do
  echo "$way: $("$work/$way/consumer")"
done

# That project has its own settings, of which the library changes none.
run_quietly cmake -S "$root/tests/consumer/add_subdirectory" -B "$work/untouched" -G Ninja \
  -DRAVINE_CUDA=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
if ! grep -qx 'CMAKE_BUILD_TYPE:STRING=' "$work/untouched/CMakeCache.txt" ||
  grep '^BUILD_SHARED_LIBS' "$work/untouched/CMakeCache.txt" ||
  ! grep -E 'main\.cpp"' "$work/untouched/compile_commands.json" |
    grep -qE ' -I[^ ]+ +-std=[a-z+]+20 -o [^ ]+ -c [^ ]+"' ||
  grep -r --include=cmake_install.cmake 'file(INSTALL' "$work/untouched"; then
  echo "library: add_subdirectory changes the project that it is part of" >&2
  exit 1
fi
