"""Who may include and import whom: every file of the product has its row, and keeps to it."""

import ast
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = "cpp/include/ravine/"
CPU = "cpp/src/cpu/"

# File or pattern: what it may include, apart from its own header and the standard library.
# A file needs a row; a row that no file needs is an error too.
INCLUDES = {
    PUBLIC + "portable.hpp": [],
    PUBLIC + "version.hpp": [],
    PUBLIC + "threads.hpp": [],
    PUBLIC + "slots.hpp": [],
    PUBLIC + "tensor.hpp": [],
    PUBLIC + "error.hpp": [],
    PUBLIC + "cuda.hpp": [PUBLIC + "tensor.hpp"],
    PUBLIC + "power.hpp": [PUBLIC + "portable.hpp"],
    PUBLIC + "rules/*.hpp": [
        PUBLIC + "portable.hpp",
        PUBLIC + "power.hpp",
        PUBLIC + "slots.hpp",
        PUBLIC + "error.hpp",
    ],
    PUBLIC + "rules.hpp": [PUBLIC + "rules/*.hpp"],
    PUBLIC + "passes.hpp": [PUBLIC + "portable.hpp"],
    PUBLIC + "step.hpp": [PUBLIC + "portable.hpp", PUBLIC + "passes.hpp"],
    PUBLIC + "loss_scale.hpp": [PUBLIC + "portable.hpp"],
    PUBLIC + "options.hpp": [PUBLIC + "passes.hpp"],
    PUBLIC + "plan.hpp": [
        PUBLIC + "loss_scale.hpp",
        PUBLIC + "options.hpp",
        PUBLIC + "rules.hpp",
        PUBLIC + "tensor.hpp",
    ],
    PUBLIC + "ravine.hpp": [PUBLIC + "*.hpp"],
    "cpp/src/error.cpp": [PUBLIC + "error.hpp"],
    "cpp/src/loss_scale.cpp": [PUBLIC + "loss_scale.hpp", PUBLIC + "error.hpp"],
    "cpp/src/options.cpp": [PUBLIC + "options.hpp", PUBLIC + "error.hpp"],
    "cpp/src/half.hpp": [PUBLIC + "portable.hpp"],
    "cpp/src/layout.?pp": [PUBLIC + "tensor.hpp"],
    "cpp/src/chunks.?pp": ["cpp/src/layout.hpp", PUBLIC + "rules.hpp"],
    "cpp/src/written_memory.?pp": [
        "cpp/src/layout.hpp",
        PUBLIC + "tensor.hpp",
        PUBLIC + "error.hpp",
    ],
    "cpp/src/binding.?pp": [
        "cpp/src/chunks.hpp",
        "cpp/src/layout.hpp",
        "cpp/src/written_memory.hpp",
        PUBLIC + "plan.hpp",
        PUBLIC + "error.hpp",
    ],
    "cpp/src/plan_state.hpp": [
        PUBLIC + "plan.hpp",
        "cpp/src/binding.hpp",
        "cpp/src/chunks.hpp",
        "cpp/src/written_memory.hpp",
        CPU + "backend.hpp",
        "cuda/backend.hpp",
    ],
    "cpp/src/plan_state.cpp": [PUBLIC + "error.hpp", CPU + "floating_point.hpp"],
    "cpp/src/plan.cpp": [
        PUBLIC + "plan.hpp",
        PUBLIC + "error.hpp",
        "cpp/src/plan_state.hpp",
        CPU + "floating_point.hpp",
    ],
    CPU + "backend.hpp": [
        "cpp/src/chunks.hpp",
        PUBLIC + "passes.hpp",
        PUBLIC + "rules.hpp",
    ],
    # Compiled once for each instruction set: what it includes must not be shared with others.
    CPU + "loop.cpp": [
        CPU + "backend.hpp",
        CPU + "convert.hpp",
        CPU + "stream.hpp",
        CPU + "sum_squares.hpp",
        CPU + "threads.hpp",
        PUBLIC + "step.hpp",
    ],
    CPU + "convert.hpp": ["cpp/src/half.hpp", PUBLIC + "tensor.hpp", "immintrin.h"],
    CPU + "stream.hpp": ["cpp/src/chunks.hpp"],
    CPU + "sum_squares.hpp": ["cpp/src/chunks.hpp", "immintrin.h"],
    CPU + "floating_point.hpp": ["immintrin.h"],
    CPU + "dispatch.cpp": [
        CPU + "backend.hpp",
        PUBLIC + "error.hpp",
        PUBLIC + "threads.hpp",
        "intrin.h",
        "cpuid.h",
    ],
    CPU + "thread_limit.?pp": [],
    CPU + "pool.?pp": [CPU + "floating_point.hpp", PUBLIC + "error.hpp"],
    CPU + "threads.hpp": [],
    CPU + "threads.cpp": [
        CPU + "floating_point.hpp",
        CPU + "pool.hpp",
        CPU + "thread_limit.hpp",
        PUBLIC + "error.hpp",
        PUBLIC + "threads.hpp",
        "pthread.h",
    ],
    "cuda/backend.hpp": [
        "cpp/src/chunks.hpp",
        PUBLIC + "loss_scale.hpp",
        PUBLIC + "options.hpp",
        PUBLIC + "rules.hpp",
        PUBLIC + "tensor.hpp",
    ],
    "cuda/unavailable.cpp": ["cuda/backend.hpp", PUBLIC + "cuda.hpp", PUBLIC + "error.hpp"],
    # The host's side: no word of CUDA's.
    "cuda/tables.hpp": [
        "cpp/src/chunks.hpp",
        PUBLIC + "loss_scale.hpp",
        PUBLIC + "passes.hpp",
        PUBLIC + "portable.hpp",
        PUBLIC + "slots.hpp",
        PUBLIC + "tensor.hpp",
    ],
    "cuda/kernels.hpp": ["cuda/tables.hpp", PUBLIC + "passes.hpp", PUBLIC + "rules.hpp"],
    "cuda/runtime.hpp": [PUBLIC + "cuda.hpp", PUBLIC + "tensor.hpp"],
    "cuda/device_tables.?pp": [
        "cpp/src/chunks.hpp",
        "cuda/backend.hpp",
        "cuda/kernels.hpp",
        "cuda/runtime.hpp",
        "cuda/tables.hpp",
        PUBLIC + "error.hpp",
    ],
    "cuda/backend.cpp": [
        "cuda/device_tables.hpp",
        "cuda/kernels.hpp",
        PUBLIC + "cuda.hpp",
        PUBLIC + "error.hpp",
    ],
    # The device's: platform.cuh alone names the language, runtime.cu the library.
    "cuda/platform.cuh": ["cuda_runtime.h", "emulator.hpp"],
    "cuda/runtime.cu": ["cuda/runtime.hpp", PUBLIC + "error.hpp", "cuda_runtime.h"],
    "cuda/launch.cuh": ["cuda/platform.cuh", "cuda/runtime.hpp"],
    "cuda/memory.cuh": ["cuda/platform.cuh"],
    "cuda/elements.cuh": ["cuda/memory.cuh", "cpp/src/half.hpp", PUBLIC + "tensor.hpp"],
    "cuda/update.cuh": ["cuda/elements.cuh", "cuda/tables.hpp", PUBLIC + "step.hpp"],
    "cuda/loop.cu": ["cuda/kernels.hpp", "cuda/launch.cuh", "cuda/update.cuh"],
    "cuda/tile.cuh": [
        "cuda/elements.cuh",
        "cuda/kernels.hpp",
        "cuda/tables.hpp",
        PUBLIC + "passes.hpp",
    ],
    "cuda/norm.cu": [
        "cuda/kernels.hpp",
        "cuda/launch.cuh",
        "cuda/move_on.cuh",
        "cuda/tile.cuh",
    ],
    "cuda/store.cu": ["cuda/kernels.hpp", "cuda/launch.cuh"],
    "cuda/move_on.cuh": ["cuda/platform.cuh", "cuda/tables.hpp"],
    # module.cpp adds the emulator to an extension that is built for tests.
    "python/bindings/*.?pp": [
        "python/bindings/*.hpp",
        PUBLIC + "*.hpp",
        "pybind11/*.h",
        "tests/emulator/bindings.hpp",
    ],
}
# Headers of the standard library have neither a folder nor an extension.
STANDARD = re.compile(r"[a-z_0-9]+")

# Module: the modules of ravine that it may import, when it runs.
OPTIMIZER = ["_core", "_learning_rate", "_options", "_settings", "optimizer"]
IMPORTS = {
    "__init__": [
        "_core",
        "adam",
        "adamw",
        "_identity",
        "loss_scale_optimizer",
        "nadam",
        "ops",
        "optimizer",
        "rmsprop",
        "schedules.__init__",
        "sgd",
    ],
    "__main__": ["__init__", "demo.cli"],
    "_cuda": [],
    "_arrays": ["_cuda"],
    "_settings": ["_arrays", "_cuda"],
    "_options": [],
    "_serialized": [],
    "schedules.__init__": ["_serialized", "schedules.*"],
    "schedules._schedule": ["_settings"],
    "schedules.*": ["_settings", "schedules._schedule"],
    "_learning_rate": ["_settings", "schedules.__init__"],
    "_variables": ["_arrays", "_cuda"],
    "ops": [],
    "_attributes": [],
    "_python_plan": ["_core", "_arrays", "_cuda"],
    "_state": ["_core", "_arrays", "_cuda", "_python_plan", "_variables"],
    "_saved_state": ["_core", "_arrays", "_cuda", "_learning_rate"],
    "_files": ["_arrays"],
    "_npz": ["_arrays", "_files"],
    "_safetensors": ["_arrays", "_files"],
    "_checkpoint": ["_core", "_arrays", "_files", "_npz", "_safetensors", "_saved_state"],
    "_configurable": [
        "_core",
        "_learning_rate",
        "_options",
        "_serialized",
        "_settings",
        "_variables",
        "schedules.__init__",
    ],
    "_buildable": [
        "_core",
        "_arrays",
        "_configurable",
        "_cuda",
        "_learning_rate",
        "_options",
        "_saved_state",
        "_settings",
        "_state",
        "_variables",
    ],
    "_averages": ["_arrays", "_buildable", "_cuda", "_learning_rate", "_variables"],
    "_savable": ["_core", "_arrays", "_averages", "_checkpoint", "_saved_state", "_variables"],
    "_subclassable": [
        "_core",
        "_attributes",
        "_arrays",
        "_buildable",
        "_cuda",
        "_python_plan",
        "_savable",
        "_state",
        "_variables",
    ],
    "optimizer": [
        "_arrays",
        "_cuda",
        "_learning_rate",
        "_options",
        "_subclassable",
        "_variables",
        "schedules.__init__",
    ],
    "_identity": ["_serialized", "optimizer"],
    "loss_scale_optimizer": [
        "_core",
        "_arrays",
        "_identity",
        "_learning_rate",
        "_options",
        "_serialized",
        "_saved_state",
        "_settings",
        "_variables",
        "optimizer",
    ],
    "sgd": OPTIMIZER,
    "rmsprop": OPTIMIZER,
    "nadam": OPTIMIZER,
    "adam": OPTIMIZER,
    "adamw": ["_learning_rate", "_options", "_settings", "adam"],
    # A user of ravine like any other.
    "demo.*": ["__init__", "demo.*"],
}
# And what it may import from elsewhere, apart from Python's own library.
OTHERS = {
    "_cuda": ["numpy", "cupy"],
    "_options": [],
    "_serialized": [],
    "schedules.__init__": [],
    "schedules._schedule": [],
    "schedules.*": [],
}
DEFAULT_OTHERS = ["numpy"]


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
        if name == "ravine" or name.startswith("ravine."):
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
