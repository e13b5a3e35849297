#!/usr/bin/env bash
# The Python tests, as the README says, in a virtual environment of their own: without CUDA, also
# where there is nvcc. With it, cuda.sh runs them.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
export CMAKE_ARGS="${CMAKE_ARGS:-} -DRAVINE_CUDA=OFF"
install_for_tests ".[test]"
python -c 'from ravine import _core; raise SystemExit(_core.has_cuda())'
run_pytest "$@"
