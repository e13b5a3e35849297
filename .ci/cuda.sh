#!/usr/bin/env bash
# The wheel with the CUDA backend, made for all architectures: its kernels as they were compiled, what
# is in it, and the Python tests with it where there need not be a GPU. It stays in
# $RAVINE_CI_DIR/cuda, if that is set, for a machine that has one (.ci/gpu).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
source "$here/cuda_tools.sh"
use_venv tools cmake ninja
use_nvcc
use_disassembler

kept=$work/cuda/kept log=$work/cuda.log module=$work/cuda/module
rm -rf "$work/cuda"
mkdir -p "$kept" "$module"
# The very kernels of this wheel are looked at, so nvcc is to tell and keep more as it compiles them.
NVCC_APPEND_FLAGS="${NVCC_APPEND_FLAGS:-} -Xptxas=-v --keep --keep-dir=$kept" \
  make_wheel cuda ON

python "$here/check_package.py" "$work/cuda"
python - "$wheel" "$module" <<'PYTHON'
import sys
import zipfile

wheel = zipfile.ZipFile(sys.argv[1])
(extension,) = [name for name in wheel.namelist() if name.endswith(".so")]
wheel.extract(extension, sys.argv[2])
PYTHON
extension=$(echo "$module"/ravine/_core.*.so)
"$here/check_kernels.sh" "$log" "$kept" "$extension"
rm -rf "$kept"
# CUDA's runtime is in it; the driver is asked for by name when it is needed.
others=$(readelf --dynamic "$extension" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
  grep -vE '^(libstdc\+\+|libm|libgcc_s|libc|libpthread|libdl|librt|ld-linux.*)\.so\.[0-9]+$' || true)
if [[ -n $others ]]; then
  echo "cuda: $extension needs $others" >&2
  exit 1
fi

# Where nvcc is found it is used unasked.
cmake -S "$root" -B "$work/cuda/auto" -G Ninja >"$work/cuda/auto.log" || true
grep -qF 'CUDA backend ON (RAVINE_CUDA=AUTO)' "$work/cuda/auto.log" ||
  { cat "$work/cuda/auto.log"; exit 1; }

(
  use_venv cuda_installed "$wheel"
  cd "$work"
  python - <<'PYTHON'
import numpy as np
import ravine
from ravine import _core

assert _core.has_cuda(), "the wheel has no CUDA backend"
w = np.ones(3, np.float32)
optimizer = ravine.SGD(0.5)
optimizer.build([w])
optimizer.apply([np.ones(3, np.float32)])
assert (w == 0.5).all(), w
assert set(_core.cuda_counts().values()) == {0}, _core.cuda_counts()
print("installed: the wheel has its CUDA backend, and leaves it alone for NumPy's arrays")
PYTHON
)

install_for_tests "$wheel"
cd "$root"
# What may differ from the wheel of test.sh: all else is made of the same sources with the same flags.
# Where steps meet a GPU that is not there, what the module says of itself, and a few steps.
run_pytest "$@" tests/gpu tests/test_api.py tests/test_binary.py tests/test_errors.py \
  tests/test_info.py tests/test_nadam.py tests/test_plan.py tests/test_plan_again.py \
  tests/test_state.py tests/test_step_errors.py tests/test_threads.py
