#!/usr/bin/env bash
# The adapters inside the frameworks themselves, and on an emulated GPU. Keras has one backend a
# process.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
# As users do who want JAX: its headers come from where the wheel is built.
use_venv frameworks torch==2.13.0 jax spacy scikit-learn 'pytest>=8.2' pytest-xdist
RAVINE_JAX=1 pip install --quiet --disable-pip-version-check -C cmake.define.RAVINE_CUDA=OFF \
  ".[keras,torch,jax,thinc]"
export OMP_NUM_THREADS=1  # of each of the tests that run side by side
KERAS_BACKEND=torch run_pytest tests/frameworks
KERAS_BACKEND=numpy run_pytest tests/frameworks/test_keras_numpy.py
python -m ravine info | grep 'steps in JAX  *XLA'
# Most of the time there is the compiler's: it need not try hard.
KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 run_pytest tests/frameworks/test_*keras*.py
# Every peer that is here takes part in the benchmark.
pip install --quiet --disable-pip-version-check numba optax
python -m ravine bench --workloads flat10 --rules sgd adam --rounds 1 --seconds 0 \
  --json "$work/bench.json" >"$work/bench.log" || { cat "$work/bench.log"; exit 1; }
python - "$work/bench.json" <<'PYTHON'
import json
import sys

found = json.load(open(sys.argv[1]))
names = {row["name"] for row in found["rows"]}
for name in ("numpy", "numba", "torch fused", "optax", "keras torch", "keras jax", "thinc"):
    assert name in names, (name, found["left_out"])
print(f"bench: {len(names)} contenders, left out: {found['left_out']}")
PYTHON
make_wheel emulator_dist EMULATOR
reinstall "$wheel"
KERAS_BACKEND=torch run_pytest tests/gpu/test_gpu_torch.py
