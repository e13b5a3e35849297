"""No framework is imported before it is asked for, and a missing one is named."""

import subprocess
import sys

import pytest

FRAMEWORKS = ("keras", "torch", "thinc", "jax", "tensorflow", "cupy", "ml_dtypes")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_ravine_imports_no_framework():
    done = run(f"import sys, ravine; print([m for m in {FRAMEWORKS} if m in sys.modules])")
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "name"), [("keras", "Keras"), ("torch", "PyTorch"), ("thinc", "Thinc")]
)
def test_missing_framework_is_named(module, name):
    done = run(f"import sys; sys.modules['{module}'] = None; import ravine.{module}")
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"ImportError: ravine.{module} needs {name}, which cannot be imported (")
    assert said.endswith(f"). Install it: pip install 'ravine[{module}]'")
