"""The public face: names, signatures, types, examples in docstrings, and what importing costs."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import ravine

CLASSES = [each for each in map(vars(ravine).get, ravine.__all__) if isinstance(each, type)]
# The demo has tests of its own.
MODULES = [
    "ravine",
    *(
        module.name
        for module in pkgutil.walk_packages(ravine.__path__, "ravine.")
        if not module.name.startswith(("ravine.demo", "ravine.__main__", "ravine._core"))
    ),
]


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_public_names():
    assert ravine.__all__ == [
        "SGD",
        "Adam",
        "AdamW",
        "LossScaleOptimizer",
        "Nadam",
        "Optimizer",
        "RMSprop",
        "__version__",
        "deserialize",
        "get",
        "get_num_threads",
        "instruction_set",
        "ops",
        "schedules",
        "serialize",
        "set_num_threads",
    ]
    assert all(hasattr(ravine, name) for name in ravine.__all__)
    public = {name for name in vars(ravine) if not name.startswith("_")}
    # Modules of the package, which importing it brings along.
    modules = {module.name for module in pkgutil.iter_modules(ravine.__path__)}
    assert public - set(ravine.__all__) <= modules
    assert re.fullmatch(r"\d+\.\d+\.\d+", ravine.__version__)


def test_every_public_method_is_documented():
    schedules = [getattr(ravine.schedules, name) for name in ravine.schedules.__all__]
    for cls in (*CLASSES, *schedules):
        assert cls.__doc__
        for name, member in inspect.getmembers(cls):
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner()
    for example in finder.find(importlib.import_module(module)):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_the_classes_have_examples():
    finder = doctest.DocTestFinder()
    schedules = [getattr(ravine.schedules, name) for name in ravine.schedules.__all__]
    for thing in {*CLASSES, ravine.get, *schedules} - {ravine.Optimizer}:
        assert finder.find(thing)[0].examples, thing.__name__


# What stubtest finds that no stub can say, by name; members of these classes are still compared.
NO_STUB_CAN_SAY = [
    r"ravine\._core\.[A-Z]\w*",  # pybind11's own metaclass
    r"ravine\._python_plan\.PythonPlan",
    r"ravine\._core\.Rule\.__init__",  # there is none, pybind11 puts one that raises
    r"ravine\..*\.__signature__",  # set when the class is made
    r"ravine\..*\.<callable subtype of object>",  # made by mypy itself
]


def test_stub_describes_the_module(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "allowed").write_text("\n".join(NO_STUB_CAN_SAY))
    status, output = run(
        "-m",
        "mypy.stubtest",
        "ravine",
        "--ignore-unused-allowlist",
        "--allowlist",
        "allowed",
        cwd=tmp_path,
    )
    assert status == 0, output


USER = """
import copy
from pathlib import Path
from typing import Any

import numpy as np
import ravine
from numpy.typing import NDArray

w: dict[str, NDArray[Any]] = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2)}
optimizer = ravine.Nadam(0.01, beta_1=lambda: 0.9, global_clipnorm=1.0, use_ema=True)
optimizer.build(w)
optimizer.apply({"kernel": np.ones((3, 2)), "bias": None})
optimizer.apply([np.ones((3, 2)), 1.0], list(w.values()))
optimizer.learning_rate = ravine.schedules.ExponentialDecay(0.1, 10, 0.5)
optimizer.learning_rate = lambda: 0.5
optimizer.learning_rate = np.array(0.5)
optimizer.learning_rate = np.float32(0.5)
rate: float = optimizer.learning_rate
steps: int = optimizer.apply_gradients([(np.ones(2), w["bias"])])
loss: float = optimizer.minimize(lambda: (1.0, [np.ones(2)]), [w["bias"]])
with optimizer.averaged_weights():
    pass
optimizer.load_state_dict(optimizer.state_dict())
optimizer.set_weights(optimizer.get_weights())
optimizer.save("last.npz")
optimizer.load(Path("last.safetensors"))
same: ravine.Nadam = copy.deepcopy(optimizer)
new_w, state = optimizer.stateless_apply(optimizer.variables, {"kernel": None}, w)
other: ravine.Nadam = ravine.Nadam.from_config(optimizer.get_config())
base: ravine.Optimizer = ravine.SGD(momentum=0.9)
named: ravine.Optimizer | None = ravine.get("sgd")
again: ravine.Optimizer = ravine.deserialize(ravine.serialize(base))
value: float = ravine.schedules.CosineDecay(1, 100)(np.int64(3))


class Linear(ravine.schedules.LearningRateSchedule):
    def __call__(self, step: int) -> float:
        return 0.1 * step


ravine.deserialize({"class_name": "sgd"}, custom_objects={"Linear": Linear})
"""
WRONG = {
    "ravine.SGD(momentun=0.9)": "call-arg",
    "ravine.SGD(clipnorm='1')": "arg-type",
    "ravine.SGD().learning_rate = 'no'": "assignment",
    "ravine.SGD().apply(3)": "arg-type",
    "ravine.Lion()": "attr-defined",
}


def test_users_code_type_checks(tmp_path):
    pytest.importorskip("mypy")
    wrong = "import ravine\n" + "\n".join(WRONG) + "\n"
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(wrong)
    _, output = run("-m", "mypy", "--strict", "user.py", "wrong.py", cwd=tmp_path)
    assert "user.py:" not in output, output
    found = re.findall(r"^wrong.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    expected = [(str(line), code) for line, code in enumerate(WRONG.values(), start=2)]
    assert found == expected, output


def test_import_brings_no_other_package(tmp_path):
    code = (
        "import sys, ravine; "
        "names = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(names - set(sys.stdlib_module_names)))"
    )
    _, before = run("-c", code.replace("ravine", "numpy"), cwd=tmp_path)
    _, after = run("-c", code, cwd=tmp_path)
    new = set(names_in(after)) - set(names_in(before))
    assert new == {"ravine"}


def names_in(text):
    return re.findall(r"'([^']+)'", text)
