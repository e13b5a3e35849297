#!/usr/bin/env bash
# The wheel and the source distribution: what is in them, and that they work where there is only
# NumPy. Without CUDA: cuda.sh looks at the wheel that has it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_venv package build
export CMAKE_ARGS="${CMAKE_ARGS:-} -DRAVINE_CUDA=OFF"
dist=$work/dist
rm -rf "$dist"

# The source distribution, and a wheel built from it; a wheel built from the tree.
python -m build --outdir "$dist" "$root" >"$work/package.log" 2>&1 ||
  { cat "$work/package.log"; exit 1; }
pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$dist/tree" "$root"

python - "$dist" <<'PYTHON'
import pathlib
import sys
import tarfile
import zipfile

dist = pathlib.Path(sys.argv[1])
(sdist,) = dist.glob("*.tar.gz")
(wheel,) = dist.glob("*.whl")
(tree_wheel,) = (dist / "tree").glob("*.whl")

names = sorted(zipfile.ZipFile(wheel).namelist())
assert names == sorted(zipfile.ZipFile(tree_wheel).namelist()), "sdist and tree give other wheels"
unwanted = (".h", ".hpp", ".cpp", ".a", ".o", ".cmake", ".txt.in", "CMakeLists.txt", ".pyc")
assert not [name for name in names if name.endswith(unwanted)], names
folders = {name.split("/")[0] for name in names}
assert {f for f in folders if not f.endswith(".dist-info")} == {"ravine"}, folders
extensions = [name for name in names if name.endswith((".so", ".pyd"))]
assert len(extensions) == 1 and "/_core." in extensions[0], extensions
for name in ("ravine/__init__.py", "ravine/_core.pyi", "ravine/py.typed"):
    assert name in names, name
assert any(name.endswith("/licenses/LICENSE") for name in names), names
assert wheel.stat().st_size < 5e6, wheel.stat().st_size

with tarfile.open(sdist) as archive:
    sources = {name.partition("/")[2] for name in archive.getnames()}
for name in ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"):
    assert name in sources, name
top = {name.split("/")[0] for name in sources if name}
unexpected = top - {
    *("CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"),
    *("cpp", "cuda", "python", "tests"),
}
assert not unexpected, unexpected
assert not [name for name in sources if name.endswith((".so", ".pyc", ".o"))], sources
print(f"wheel: {len(names)} files, {wheel.stat().st_size / 1e6:.2f} MB; sdist: {len(sources)} files")
PYTHON

use_venv installed "$dist"/*.whl
cd "$work"
python - <<'PYTHON'
import importlib.metadata

import numpy as np
import ravine

others = {d.name for d in importlib.metadata.distributions()} - {"pip", "setuptools"}
assert others == {"numpy", "ravine"}, others
assert ravine.__version__ == importlib.metadata.version("ravine")
w = {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float64)}
for optimizer in (ravine.SGD(0.5), ravine.RMSprop(0.5), ravine.Nadam(0.5)):
    for array in w.values():
        array[...] = 1
    optimizer.build(w)
    optimizer.apply({name: np.ones_like(array) for name, array in w.items()})
    assert optimizer.iterations == 1
    assert all((array < 1).all() for array in w.values()), w
print(f"installed: ravine {ravine.__version__} with {ravine.instruction_set()} works")
PYTHON
