"""The public face: names, signatures, examples in docstrings, and what importing costs."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest
from checks import raises

import ravine

CLASSES = [each for each in map(vars(ravine).get, ravine.__all__) if isinstance(each, type)]
# The demo and what is inside of frameworks have tests of their own.
ELSEWHERE = ("demo", "keras", "torch", "thinc", "_tensors", "__main__", "_core")
MODULES = [
    "ravine",
    *(
        module.name
        for package in (ravine, ravine.schedules)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        if module.name.removeprefix("ravine.") not in ELSEWHERE
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


def test_every_public_function_is_documented():
    functions = [f for f in (getattr(ravine, n) for n in ravine.__all__) if inspect.isroutine(f)]
    assert len(functions) == 6
    for function in functions:
        assert getattr(ravine, function.__name__) is function
        assert function.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "must be at least 1 and below 2**31. Received: 0."),
        (1 << 31, "must be at least 1 and below 2**31. Received: 2147483648."),
        (1.0, "must be a whole number. Received: 1.0."),
        ("2", "must be a whole number. Received: '2'."),
        (True, "must be a whole number. Received: True."),
    ],
)
def test_number_of_threads_that_is_refused_leaves_the_old_one(count, said):
    before = ravine.get_num_threads()
    with raises(ValueError, f"The number of threads {said}"):
        ravine.set_num_threads(count)
    assert ravine.get_num_threads() == before


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
