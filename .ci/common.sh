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
# short-lived as $work, so every run compiles all of its own sources. To ccache, another name of the
# compiler is another compiler.
export CXX=${CXX:-g++}
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR=$work/ccache CCACHE_NOHASHDIR=1
fi

# Any time, but the same in all builds of a wheel: files that are made by them are given it.
build_time=1767225600

# use_venv NAME [PACKAGE...]: a virtual environment with these packages, first on the path.
use_venv() {
  local venv=$work/$1
  shift
  [[ -x $venv/bin/python ]] || "${PYTHON:-python3}" -m venv --without-pip "$venv"
  export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv
  hash -r
  if (($#)); then pip install --quiet --disable-pip-version-check "$@"; fi
}

# pip install ARGUMENT...: works on the environment in use. One serves all: it takes longer to make than
# they. What is not imported is not compiled: most modules of what is installed.
pip() {
  [[ -x $work/pip/bin/python ]] || "${PYTHON:-python3}" -m venv "$work/pip"
  "$work/pip/bin/python" -m pip --python "$VIRTUAL_ENV/bin/python" "$1" --no-compile "${@:2}"
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

# make_wheel FOLDER CUDA: the source distribution and the wheel of this tree, with RAVINE_CUDA as told,
# in $work/FOLDER, and its path in $wheel: once for all checks, unless a source is newer. Many of its
# objects are in ccache, for which pybind11 is always at the same place. package.sh builds as users do.
make_wheel() {
  local folder=$work/$1 newer=(-type f -newer "$work/$1.log" -not -path '*/.*' -not -name '*.pyc')
  if ! compgen -G "$folder/*.whl" >/dev/null ||
    [[ -n $(cd "$root" && find . "${newer[@]}" -print -quit) ]]; then
    rm -f "$folder"/*.{whl,tar.gz}
    (
      use_venv tools build cmake ninja 'scikit-build-core>=1.0' 'pybind11>=3.0'
      SOURCE_DATE_EPOCH=$build_time python -m build --no-isolation --sdist --wheel \
        --outdir "$folder" -C "cmake.define.RAVINE_CUDA=$2" \
        -C cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON "$root" >"$folder.log" 2>&1 ||
        { cat "$folder.log"; exit 1; }
    )
  fi
  wheel=$(compgen -G "$folder/*.whl")
}

# reinstall WHEEL: in place of another one of the same version, which would stay otherwise.
reinstall() {
  pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$1"
}

# install_for_tests WHEEL: a ravine, and what its Python tests need, into the virtual environment
# `test`, which the scripts share.
install_for_tests() {
  use_venv test pytest-xdist "$1[test]"
  reinstall "$1"
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
