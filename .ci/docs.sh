#!/usr/bin/env bash
# The documentation, without a warning: every link inside, every name in a docstring. Its code runs as
# tests.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
make_wheel dist OFF
use_venv docs "$wheel[docs]"
reinstall "$wheel"
sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html -d "$work/doctrees" docs "$work/html"
echo "docs: $(find "$work/html" -name '*.html' | wc -l) pages, no warnings"
