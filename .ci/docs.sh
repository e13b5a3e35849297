#!/usr/bin/env bash
# The documentation, without a warning: every link inside, every name in a docstring. Its code runs as
# tests.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
# The wheel of package.sh, or one made for this.
compgen -G "$work/dist/*.whl" >/dev/null || CMAKE_ARGS="${CMAKE_ARGS:-} -DRAVINE_CUDA=OFF" \
  pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" .
wheel=$(compgen -G "$work/dist/*.whl" | head -1)
use_venv docs "$wheel[docs]"
sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html -d "$work/doctrees" docs "$work/html"
echo "docs: $(find "$work/html" -name '*.html' | wc -l) pages, no warnings"
