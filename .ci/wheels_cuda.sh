#!/usr/bin/env bash
# Before cibuildwheel builds on Linux or Windows: the compiler of CUDA into a folder.
#
# wheels_cuda.sh FOLDER
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cuda_tools.sh"

# The images of manylinux have many a Python, and none of them on the path.
if ! command -v pip >/dev/null; then PATH=/opt/python/cp312-cp312/bin:$PATH; fi
install_nvcc "$1"
"$1/bin/nvcc" --version
