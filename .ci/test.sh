#!/usr/bin/env bash
# The Python tests, as the README says, in a virtual environment of their own.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
use_venv test
pip install --quiet --disable-pip-version-check ".[test]"
pytest "$@"
