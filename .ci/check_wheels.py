#!/usr/bin/env python3
"""What cibuildwheel would build on each system and processor: just the wheels that are promised."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t"]
SYSTEMS = {
    ("linux", "x86_64"): "manylinux_x86_64",
    ("linux", "aarch64"): "manylinux_aarch64",
    ("macos", "arm64"): "macosx_arm64",
    ("macos", "x86_64"): "macosx_x86_64",
    ("windows", "AMD64"): "win_amd64",
}


def selected(system, processor):
    """Return the names of the builds."""
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers"]
    options = ["--platform", system, "--archs", processor, str(ROOT)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


for (system, processor), suffix in SYSTEMS.items():
    found, expected = selected(system, processor), [f"{python}-{suffix}" for python in PYTHONS]
    assert found == expected, f"{system}, {processor}: {found}, and not {expected}"
print(f"cibuildwheel: {len(PYTHONS)} wheels on each of {len(SYSTEMS)} systems")
