"""Who may include and import whom: every file of the product has its row, and keeps to it."""

import ast
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from layers import DEFAULT_OTHERS, IMPORTS, INCLUDES, OTHERS, STANDARD

ROOT = Path(__file__).parents[1]


def row_of(name, table):
    """Return the row for a name: its own, or the one pattern that fits."""
    if name in table:
        return name
    rows = [row for row in table if fnmatchcase(name, row) and name.count("/") == row.count("/")]
    assert len(rows) == 1, f"{name} needs one row of its own, it has {rows}"
    return rows[0]


def allowed(target, names):
    return any(fnmatchcase(target, name) and target.count("/") == name.count("/") for name in names)


def native_files():
    return sorted(
        str(path.relative_to(ROOT))
        for folder in ("cpp", "cuda", "python/bindings")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".hpp", ".cpp", ".h", ".cu", ".cuh")
    )


def includes(file, text):
    """Return what a file includes: files of ours by their path, others as they are written."""
    result = []
    for quote, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.MULTILINE):
        places = [(ROOT / file).parent, ROOT / "cpp/src", ROOT / "cpp/include", ROOT]
        found = [place / name for place in places if (place / name).is_file()]
        if quote == '"' and found:
            name = str(found[0].resolve().relative_to(ROOT))
        result.append(name)
    return result


def forbidden_includes(file, text):
    row = row_of(file, INCLUDES)
    own = [file, file.replace(".cpp", ".hpp")]
    return [
        name
        for name in includes(file, text)
        if not STANDARD.fullmatch(name) and name not in own and not allowed(name, INCLUDES[row])
    ]


def modules():
    package = ROOT / "python/ravine"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }


def imports(module, text):
    """Return the modules that a module imports when it runs, ours without ``ravine.``."""
    known = {*modules(), "_core"}
    packages = {name.removesuffix(".__init__") for name in known if name.endswith(".__init__")}
    result = []

    def add(name):
        if name != "ravine" and not name.startswith("ravine."):
            result.append(name)
            return
        name = name.partition(".")[2] or "__init__"
        result.append(f"{name}.__init__" if name in packages else name)

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}".partition(".")[2]
                add(f"{node.module}.{alias.name}" if inside in known | packages else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(text, module))
    return result


def forbidden_imports(module, text):
    row = row_of(module, IMPORTS)
    ours, others = IMPORTS[row], OTHERS.get(row, DEFAULT_OTHERS)
    known = {*modules(), "_core"}
    return [
        name
        for name in imports(module, text)
        if (
            not allowed(name, ours)
            if name in known
            else name.partition(".")[0] not in {*sys.stdlib_module_names, *others}
        )
    ]


@pytest.mark.parametrize("file", native_files())
def test_file_includes_only_what_its_layer_may(file):
    assert forbidden_includes(file, (ROOT / file).read_text()) == []


@pytest.mark.parametrize("module", modules())
def test_module_imports_only_what_its_layer_may(module):
    assert forbidden_imports(module, modules()[module].read_text()) == []


def test_every_row_is_needed():
    assert {row_of(file, INCLUDES) for file in native_files()} == set(INCLUDES)
    assert {row_of(module, IMPORTS) for module in modules()} == set(IMPORTS)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cpp/include/ravine/rules/sgd.hpp", '#include "ravine/plan.hpp"'),
        ("cpp/include/ravine/rules/sgd.hpp", "#include <cuda_runtime.h>"),
        ("cpp/include/ravine/plan.hpp", "#  include <pybind11/numpy.h>"),
        ("cpp/include/ravine/plan.hpp", "#include <Python.h>"),
        ("cpp/src/cpu/loop.cpp", '#include "binding.hpp"'),
        ("cpp/src/cpu/loop.cpp", '#include "ravine/plan.hpp"'),
        ("cpp/src/cpu/loop.cpp", '#include "cuda/backend.hpp"'),
        ("python/bindings/plan.cpp", '#include "cpu/backend.hpp"'),
        ("python/bindings/plan.cpp", '#include "../../cpp/src/chunks.hpp"'),
    ],
)
def test_forbidden_include_is_found(file, line):
    assert len(forbidden_includes(file, line + "\n")) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("optimizer", "import cupy"),
        ("optimizer", "import torch.nn"),
        ("_settings", "from ravine import _core"),
        ("_settings", "from ravine._core import SGD"),
        ("schedules._decay", "import numpy as np"),
        ("schedules._decay", "from ravine import schedules"),
        ("schedules.__init__", "def f():\n    from ravine.optimizer import Optimizer"),
        ("sgd", "import ravine"),
        ("demo.network", "from ravine._arrays import Array"),
        ("demo.data", "import sklearn.datasets"),
    ],
)
def test_forbidden_import_is_found(module, line):
    assert len(forbidden_imports(module, line + "\n")) == 1


@pytest.mark.parametrize("module", sorted(set(modules()) - {"_cuda"}))
def test_only_one_module_names_cupy(module):
    names = [
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(modules()[module].read_text()))
        if isinstance(node, (ast.Name, ast.Attribute))
    ]
    assert "cupy" not in names
