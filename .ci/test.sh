#!/usr/bin/env bash
# The Python tests, in a virtual environment of their own: without CUDA, also where there is nvcc.
# With it, cuda.sh runs them.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
make_wheel dist OFF
install_for_tests "$wheel"
python -c 'from ravine import _core; raise SystemExit(_core.has_cuda())'
run_pytest "$@"
