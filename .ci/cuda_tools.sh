# Sourced after common.sh: the tools of CUDA, those of the system or, without a change to it, of PyPI.

# use_nvcc: sets CUDACXX, and what nvcc needs beside it. Into the current virtual environment if need
# be.
use_nvcc() {
  local nvcc toolkit
  for nvcc in "${CUDACXX:-}" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc; do
    if [[ -x $nvcc ]] && "$nvcc" --version 2>/dev/null | grep -q 'release 13\.'; then
      export CUDACXX=$nvcc
      echo "nvcc of the system: $nvcc"
      return
    fi
  done
  toolkit=$work/cuda_toolkit
  install_nvcc "$toolkit"
  export CUDACXX=$toolkit/bin/nvcc
  echo "nvcc from PyPI: $("$CUDACXX" --version | grep release)"
}

# install_nvcc FOLDER: the compiler of CUDA 13.0 and what it needs, from PyPI, with the folders that
# it has where NVIDIA installs it.
install_nvcc() {
  [[ -e $1 ]] && return
  pip install --quiet --disable-pip-version-check --target "$1.packages" \
    'cuda-toolkit[nvcc,cudart,cccl]==13.0.*'
  mv "$1.packages/nvidia/cu13" "$1"
  rm -rf "$1.packages"
  # It looks for the runtime in lib64; on Windows it knows where it is.
  if [[ ! -d $1/lib/x64 ]]; then ln -s lib "$1/lib64"; fi
}

# use_disassembler: cuobjdump, and nvdisasm which it calls, on the path.
use_disassembler() {
  if ! command -v cuobjdump >/dev/null || ! command -v nvdisasm >/dev/null; then
    pip install --quiet --disable-pip-version-check 'nvidia-cuda-cuobjdump==13.*' \
      'nvidia-cuda-nvdisasm==13.*'
    PATH=$(nvidia_folder)/bin:$PATH
  fi
}

# Where NVIDIA's packages are in the current virtual environment.
nvidia_folder() {
  python -c 'import nvidia; print(nvidia.__path__[0] + "/cu13")'
}
