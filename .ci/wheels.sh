#!/usr/bin/env bash
# All wheels for this machine's system and processor, into a folder: cibuildwheel as pyproject.toml
# sets it up. On Linux it needs Docker.
#
# wheels.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-dist}
python -m pip install --quiet --disable-pip-version-check cibuildwheel==4.3.5

if [[ $(uname -s) != MINGW* ]]; then
  exec python -m cibuildwheel --output-dir "$folder"
fi
# Ninja and nvcc take Microsoft's compiler from the path, where only a script of its own puts it.
vswhere="$(cygpath -u "${PROGRAMFILES} (x86)")/Microsoft Visual Studio/Installer/vswhere.exe"
studio=$("$vswhere" -latest -products '*' -property installationPath)
RAVINE_ROOT=$(cygpath -w "$PWD")
export RAVINE_ROOT RAVINE_DIST=$folder
cd "$studio/VC/Auxiliary/Build"
cmd //c "vcvars64.bat && cd /d %RAVINE_ROOT% && python -m cibuildwheel --output-dir %RAVINE_DIST%"
