#!/usr/bin/env python3
"""What is in a source distribution and a wheel, and that a repaired wheel has no more in it.

check_package.py DIST [REPAIRED]: folders with one of each.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

TOP = {
    *("CMakeLists.txt", "pyproject.toml", "PKG-INFO"),
    *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("cpp", "cuda", "python", "tests", "docs", "examples", "benchmarks", ".ci"),
}
UNWANTED = (".h", ".hpp", ".cpp", ".cu", ".cuh", ".a", ".o", ".cmake", ".in", ".txt", ".pyc")


def check_sdist(sdist):
    """Check that it holds the sources, and nothing that was made of them."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    top = {name.partition("/")[0] for name in names}
    assert top == TOP, f"missing: {TOP - top}, unexpected: {top - TOP}"
    made = [n for n in names if n.endswith((".so", ".pyd", ".pyc", ".o")) or "__pycache__" in n]
    assert not made, made
    return f"{sdist.name}: {len(names)} files, {sdist.stat().st_size / 1e6:.2f} MB"


def check_wheel(wheel):
    """Check that it holds the package with one extension, and a licence."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = [name for name in names if not name.partition("/")[0].endswith(".dist-info")]
    assert {name.partition("/")[0] for name in package} == {"ravine"}, package
    assert not [name for name in package if name.endswith(UNWANTED)], package
    extensions = [name for name in names if name.endswith((".so", ".pyd"))]
    assert len(extensions) == 1, extensions
    assert extensions[0].startswith("ravine/_core."), extensions
    for name in ("ravine/__init__.py", "ravine/_core.pyi", "ravine/py.typed"):
        assert name in names, name
    assert any(name.endswith("/licenses/LICENSE") for name in names), names
    assert wheel.stat().st_size < 5e6, wheel.stat().st_size
    return f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.2f} MB"


def contents(wheel):
    """Return the files by name, but for those that hold the name of the wheel, or hashes."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        own = (".dist-info/WHEEL", ".dist-info/RECORD")
        return {name: archive.read(name) for name in names if not name.endswith(own)}


def main(dist, repaired=None):
    """Check and tell."""
    (wheel,) = Path(dist).glob("*.whl")
    if repaired is None:
        (sdist,) = Path(dist).glob("*.tar.gz")
        print(check_sdist(sdist), check_wheel(wheel), sep="\n")
        return
    (other,) = Path(repaired).glob("*.whl")
    print(check_wheel(other))
    changed = {name for name, _ in contents(other).items() ^ contents(wheel).items()}
    assert not changed, changed
    assert "manylinux" in other.name, other.name


if __name__ == "__main__":
    main(*sys.argv[1:])
