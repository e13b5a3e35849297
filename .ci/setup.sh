#!/usr/bin/env bash
# Installs what the checks need from the system, as far as it is missing. CMake, Ninja and the
# Python tools come from PyPI, into the virtual environments of the checks.
set -euo pipefail

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v objdump >/dev/null || missing+=(binutils)
command -v clang-tidy >/dev/null || missing+=(clang-tidy)
command -v ccache >/dev/null || missing+=(ccache)
command -v valgrind >/dev/null && [[ -e /usr/include/valgrind/callgrind.h ]] || missing+=(valgrind)
command -v clang++ >/dev/null || missing+=(clang)
command -v pkg-config >/dev/null || missing+=(pkg-config)
[[ -d /usr/src/googletest ]] || missing+=(googletest)
if [[ $(uname -m) == x86_64 ]]; then
  command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
  command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
fi
compgen -G '/usr/lib/*/cmake/GTest/GTestConfig.cmake' >/dev/null ||
  compgen -G '/usr/*/cmake/GTest/GTestConfig.cmake' >/dev/null || missing+=(libgtest-dev)
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"${PYTHON:-python3}" -c '
import pathlib, sysconfig
raise SystemExit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())
' || missing+=(python3-dev)

if ((${#missing[@]} == 0)); then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "Please install: ${missing[*]} (names of Debian's packages)." >&2
  exit 1
fi
as_root=()
if ((EUID != 0)); then as_root=(sudo); fi
echo "Installing ${missing[*]}"
log=$(mktemp)
if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
rm -f "$log"
