"""Types, as users see them: the stub is the module, and two checkers know right from wrong."""

import ast
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ravine

TYPED = Path(__file__).parent / "typed"
USER, WRONG = TYPED / "user_file.py", TYPED / "wrong_uses.py"


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,  # where there is no configuration: the user's strictness, not ours
        env=os.environ | {"PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


# What stubtest finds that no stub can say, by name; members of these classes are still compared.
NO_STUB_CAN_SAY = [
    r"ravine\._core\.[A-Z]\w*",  # pybind11's own metaclass
    r"ravine\._python_plan\.PythonPlan",
    r"ravine\.(keras|torch|thinc|_tensors)(\..*)?",  # imports a framework
    r"ravine\._core\.Rule\.__init__",  # there is none, pybind11 puts one that raises
    r"ravine\..*\.__signature__",  # set when the class is made
    r"ravine\._(configurable|buildable)\.\w+\._(lock|plan)",  # stand-ins until they are set
    r"ravine\..*\.<callable subtype of object>",  # made by mypy itself
]
# Whether they are here or not.
NO_FRAMEWORKS = """
[mypy]
[mypy-keras.*,ml_dtypes.*,thinc.*,torch.*]
follow_imports = skip
ignore_missing_imports = True
"""


def test_stub_describes_the_module(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "allowed").write_text("\n".join(NO_STUB_CAN_SAY))
    (tmp_path / "mypy.ini").write_text(NO_FRAMEWORKS)
    options = ["--allowlist", "allowed", "--ignore-unused-allowlist"]
    options += ["--mypy-config-file", "mypy.ini"]
    status, output = run("mypy.stubtest", "ravine", *options, cwd=tmp_path)
    assert status == 0, output


def public(namespace):
    """Return the public names of a module or a class."""
    return [name for name in getattr(namespace, "__all__", dir(namespace)) if name[0] != "_"]


def keywords(cls):
    """Return what the public methods of a class take by name only."""
    members = [cls, *(getattr(cls, name) for name in public(cls))]
    signatures = [inspect.signature(member) for member in members if callable(member)]
    every = [parameter for each in signatures for parameter in each.parameters.values()]
    return {parameter.name for parameter in every if parameter.kind is parameter.KEYWORD_ONLY}


def test_the_users_file_uses_all_that_is_public():
    used = set()
    for node in ast.walk(ast.parse(USER.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=name):
                used.add(name)
            case ast.FunctionDef(name=name) | ast.alias(name=name):
                used.add(name)
    classes = [each for each in vars(ravine).values() if isinstance(each, type)]
    namespaces = [ravine, ravine.schedules, ravine.ops, *classes]
    expected = {name for namespace in namespaces for name in public(namespace)}
    expected = expected.union(*map(keywords, classes))
    assert {"AdamW", "CosineDecay", "beta_1", "cast", "value_and_grad"} <= expected
    assert expected - used == set()


def test_the_users_file_runs(tmp_path):
    runpy.run_path(str(USER))["main"](tmp_path)
    assert (tmp_path / "last.safetensors").is_file()


def test_mypy_knows_right_from_wrong(tmp_path):
    pytest.importorskip("mypy")
    _, output = run("mypy", "--strict", str(USER), str(WRONG), cwd=tmp_path)
    assert "user_file.py:" not in output, output
    found = {}
    for line, code in re.findall(
        r"wrong_uses.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE
    ):
        found.setdefault(int(line), set()).add(code)
    lines = enumerate(WRONG.read_text().splitlines(), start=1)
    expected = {i: {*line.split("  # ")[1].split(", ")} for i, line in lines if "  # " in line}
    assert found == expected, output


def test_pyright_knows_right_from_wrong(tmp_path):
    pytest.importorskip("pyright")
    _, output = run("pyright", "--pythonpath", sys.executable, str(USER), str(WRONG), cwd=tmp_path)
    assert "user_file.py:" not in output, output
    found = {int(line) for line in re.findall(r"wrong_uses.py:(\d+):\d+ - error", output)}
    lines = enumerate(WRONG.read_text().splitlines(), start=1)
    assert found == {i for i, line in lines if "  # " in line}, output
