#!/usr/bin/env bash
# The adapters inside the frameworks themselves, and on an emulated GPU. Keras has one backend a
# process.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
use_venv frameworks torch==2.13.0 jax spacy scikit-learn 'pytest>=8.2' pytest-xdist
pip install --quiet --disable-pip-version-check -C cmake.define.RAVINE_CUDA=OFF \
  ".[keras,torch,thinc]"
export OMP_NUM_THREADS=1  # of each of the tests that run side by side
KERAS_BACKEND=torch run_pytest tests/frameworks
KERAS_BACKEND=numpy run_pytest tests/frameworks/test_keras_numpy.py
pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
  -C cmake.define.RAVINE_CUDA=EMULATOR .
KERAS_BACKEND=torch run_pytest tests/gpu/test_gpu_torch.py
