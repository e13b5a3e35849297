#!/usr/bin/env bash
# Format, lint and types, of Python and C++. The versions of the formatters are fixed: another one
# would format otherwise.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
use_venv lint cmake ninja ruff==0.17.5 clang-format==18.1.8 'mypy>=1.11' 'numpy>=1.26' \
  'pybind11>=3.0' pytest jaxlib

ruff format --check --no-cache . .ci/gpu
ruff check --no-cache . .ci/gpu
mypy --strict --cache-dir "$work/mypy"

mapfile -t sources < <(find cpp cuda python/bindings tests examples benchmarks -name '*.[ch]pp' -o -name '*.cu' \
  -o -name '*.cuh' | sort)
clang-format --dry-run -Werror "${sources[@]}"

# With the emulator the kernels are C++ too. This build leaves out cuda/unavailable.cpp, for which
# flags are guessed, and CUDA's own runtime.cu, which only nvcc can read.
cmake -S . -B "$work/tidy" -G Ninja -DRAVINE_PYTHON=ON -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
  -DRAVINE_CUDA=EMULATOR -DRAVINE_JAX=ON \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >"$work/tidy.log" ||
  { cat "$work/tidy.log"; exit 1; }
mapfile -t units < <(find cpp cuda python/bindings -name '*.cpp' -o -name '*.cu' | grep -v runtime.cu |
  sort --reverse)
# It counts on its error stream what it suppressed in the headers of others.
if ! printf '%s\n' "${units[@]}" |
  xargs -P "$CMAKE_BUILD_PARALLEL_LEVEL" -n 1 clang-tidy -p "$work/tidy" --quiet \
    --extra-arg="-I$root" >"$work/tidy.log" 2>&1; then
  grep -vE '^[0-9]+ warnings? (generated|treated)' "$work/tidy.log"
  exit 1
fi
echo "clang-tidy: ${#units[@]} files, nothing found"
