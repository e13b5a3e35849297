# Sourced by the scripts beside it: where things are, and a Python of their own. All that they make
# goes to $work: a temporary folder, or RAVINE_CI_DIR if that is set.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -n ${RAVINE_CI_DIR:-} ]]; then
  work=$RAVINE_CI_DIR
  mkdir -p "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_BUILD_PARALLEL_LEVEL
# Many builds of the checks compile the same files in the same way: each once. What is kept is as
# short-lived as $work, so every run compiles all of its own sources.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR=$work/ccache CCACHE_NOHASHDIR=1
fi

# use_venv NAME [PACKAGE...]: a virtual environment with these packages, first on the path.
use_venv() {
  local venv=$work/$1
  shift
  [[ -x $venv/bin/python ]] || "${PYTHON:-python3}" -m venv "$venv"
  export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv
  hash -r
  if (($#)); then pip install --quiet --disable-pip-version-check "$@"; fi
}

# build NAME [OPTION...]: configures and builds the C++ library in $work/NAME, without CUDA unless
# told otherwise.
build() {
  local folder=$work/$1
  shift
  cmake -S "$root" -B "$folder" -G Ninja -DRAVINE_CUDA=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@" \
    >"$folder.log" 2>&1 || {
    cat "$folder.log"
    return 1
  }
  cmake --build "$folder" >"$folder.log" 2>&1 || {
    cat "$folder.log"
    return 1
  }
}

# run_tests NAME [OPTION...]: the C++ tests that were built in $work/NAME.
run_tests() {
  local folder=$work/$1
  shift
  ctest --test-dir "$folder" --parallel "$CMAKE_BUILD_PARALLEL_LEVEL" --timeout 180 \
    --output-on-failure "$@" >"$folder.log" 2>&1 || {
    cat "$folder.log"
    return 1
  }
  grep 'tests passed' "$folder.log"
}

# install_for_tests REQUIREMENT [OPTION...]: a ravine, and what its Python tests need, into the
# virtual environment `test`, which the scripts share.
install_for_tests() {
  use_venv test pytest-xdist
  pip install --quiet --disable-pip-version-check "$@"
}

# run_pytest [ARGUMENT...]: Python tests, side by side.
run_pytest() {
  pytest --numprocesses "$CMAKE_BUILD_PARALLEL_LEVEL" "$@"
}

# loop_objects [FOLDER]: the objects of the loop, one a line, of a Release build, made if not given.
loop_objects() {
  local folder=${1:-$work/release}
  if (($# == 0)); then
    use_venv tools cmake ninja >&2
    build release -DCMAKE_BUILD_TYPE=Release >&2
  fi
  find "$folder/cpp" -path '*ravine_loop_*' -name '*.o' | sort
}
