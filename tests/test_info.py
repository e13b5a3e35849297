"""The command `info`: as text and as JSON, what it says of threads, instruction sets and GPUs."""

import ctypes
import json
import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

import ravine
from ravine import _core, _driver, _info
from ravine.__main__ import main


def run_info(*arguments, **environment):
    """Run the command in a process of its own, without the variables that it reads."""
    read = ("RAVINE_ISA", "RAVINE_NUM_THREADS", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in read}
    done = subprocess.run(
        [sys.executable, "-m", "ravine", "info", *arguments],
        capture_output=True,
        text=True,
        env=kept | environment,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_json_has_all_there_is():
    found = json.loads(run_info("--json"))

    assert found["version"] == ravine.__version__
    assert found["numpy"] == np.__version__
    assert found["python"]["version"] == sys.version.split()[0]
    assert found["build"] == {n: _core.build_info()[n] for n in ("compiler", "build_type", "flags")}
    assert all(found["build"].values())
    if "MSVC" not in found["build"]["compiler"]:
        assert "-ffp-contract=off" in found["build"]["flags"].split()
    assert found["instruction_set"] == {
        "in_use": _core.instruction_sets()[0],
        "available": _core.instruction_sets(),
        "RAVINE_ISA": None,
        "problem": None,
    }
    assert found["cuda"].keys() == {"compiled", "architectures", "driver", "problem"}
    assert bool(found["cuda"]["compiled"]) is _core.has_cuda()
    assert bool(found["jax"]["xla_ffi"]) is bool(_core.jax_handlers)


def test_text_says_the_same():
    found = json.loads(run_info("--json"))
    lines = dict(line.split("  ", 1) for line in run_info().splitlines())
    lines = {name: value.strip() for name, value in lines.items()}

    assert list(lines)[:7] == [
        *("ravine", "Python", "NumPy", "build", "instruction set", "threads", "CUDA")
    ]
    assert lines["ravine"] == ravine.__version__
    assert lines["build"] == ", ".join(found["build"].values())
    sets = found["instruction_set"]["available"]
    assert lines["instruction set"] == f"{sets[0]}, the widest of {', '.join(sets)}"
    assert lines["NumPy"] == np.__version__
    interface = found["jax"]["xla_ffi"]
    said = f"XLA's FFI {interface}" if interface else "not in this build"
    assert lines["steps in JAX"] == said
    for name, version in found["packages"].items():
        assert lines[name] == (version or "not installed")


def test_the_environment_is_given_as_the_reason():
    narrowest = _core.instruction_sets()[-1]
    environment = {"RAVINE_ISA": narrowest, "RAVINE_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    found = json.loads(run_info("--json", **environment))
    text = run_info(**environment)

    assert found["instruction_set"]["in_use"] == narrowest == found["instruction_set"]["RAVINE_ISA"]
    assert f"{narrowest}, by RAVINE_ISA of {', '.join(_core.instruction_sets())}\n" in text
    assert found["threads"]["in_use"] == 1
    assert found["threads"]["bound_by"][0] == "RAVINE_NUM_THREADS"
    assert "OMP_NUM_THREADS" not in found["threads"]["bound_by"]
    assert "  1, by RAVINE_NUM_THREADS" in text


def test_an_instruction_set_that_is_not_there_is_told():
    found = json.loads(run_info("--json", RAVINE_ISA="v9"))["instruction_set"]

    assert found["in_use"] is None
    assert found["problem"].startswith('RAVINE_ISA is "v9", which this machine or build lacks.')
    assert f"  none: {found['problem']}\n" in run_info(RAVINE_ISA="v9")


def test_a_number_of_threads_that_is_none_is_told():
    found = json.loads(run_info("--json", RAVINE_NUM_THREADS="many"))["threads"]

    assert found["in_use"] is None
    assert 'must be a positive whole number. Received: "many".' in found["problem"]
    assert f"  none: {found['problem']}\n" in run_info(RAVINE_NUM_THREADS="many")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_affinity_is_given_as_the_reason():
    if os.cpu_count() == 1:
        pytest.skip("needs two CPUs")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        found, text = json.loads(run_info("--json"))["threads"], run_info()
    finally:
        os.sched_setaffinity(0, before)
    assert (found["in_use"], found["affinity"], found["cpus"]) == (1, 1, os.cpu_count())
    assert "affinity" in found["bound_by"]
    assert f"CPU affinity, of {os.cpu_count()} CPUs\n" in text


@pytest.mark.parametrize(
    ("limits", "in_use", "bound_by", "text"),
    [
        ((4, None, None, None), 4, ["affinity"], "4, by CPU affinity, of 8 CPUs"),
        ((8, None, None, None), 8, ["cpus"], "8, by the CPUs of the machine"),
        ((8, 3, None, 5), 3, ["quota"], "3, by the CPU quota of the control group"),
        ((8, 6, 2, 1), 2, ["RAVINE_NUM_THREADS"], "2, by RAVINE_NUM_THREADS"),
        ((8, 6, None, 1), 1, ["OMP_NUM_THREADS"], "1, by OMP_NUM_THREADS"),
        ((8, 6, 99, 1), 6, ["quota"], "6, by the CPU quota of the control group"),
        ((8, 6, None, None), 2, ["set_num_threads"], "2, by set_num_threads"),
        (
            (4, 4, 4, None),
            4,
            ["RAVINE_NUM_THREADS", "quota", "affinity"],
            "4, by RAVINE_NUM_THREADS and the CPU quota of the control group and CPU affinity, "
            "of 8 CPUs",
        ),
    ],
)
def test_the_least_bound_is_named(limits, in_use, bound_by, text, monkeypatch):
    names = ("cpus", "quota", "RAVINE_NUM_THREADS", "OMP_NUM_THREADS")
    monkeypatch.setattr(_core, "thread_limits", lambda: dict(zip(names, limits, strict=True)))
    monkeypatch.setattr(_core, "num_threads", lambda: in_use)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = _info.collect()

    assert found["threads"]["bound_by"] == bound_by
    assert f"\nthreads          {text}\n" in _info.as_text(found)


def test_packages_are_found_by_any_of_their_names(monkeypatch):
    installed = {"cupy-cuda12x": "14.0.0", "numpy": "2.0.0", "torch": "2.9.0"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    found = _info.collect()
    assert found["numpy"] == "2.0.0"
    assert found["packages"] == {
        **dict.fromkeys(_info.OPTIONAL_PACKAGES),
        "cupy": "14.0.0",
        "torch": "2.9.0",
    }


class FakeDriver:
    """NVIDIA's library for two GPUs; `fails` are its functions that return an error."""

    def __init__(self, version=13000, devices=2, fails=()):
        self.version, self.devices, self.fails = version, devices, fails

    def __getattr__(self, function):
        def call(*arguments):
            if function in self.fails:
                return 100
            self.write(function, *arguments)
            return 0

        return call

    def write(self, function, *arguments):
        """Write the result of a function to where it is told to."""
        match function, *arguments:
            case "cuInit", 0:
                pass
            case "cuDriverGetVersion", version:
                version._obj.value = self.version
            case "cuDeviceGetCount", count:
                count._obj.value = self.devices
            case "cuDeviceGet", device, ordinal:
                device._obj.value = 10 + ordinal
            case "cuDeviceGetName", name, size, device:
                name.value = f"GPU number {device.value}".encode()[: size - 1]
            case "cuDeviceTotalMem_v2", size, device:
                size._obj.value = device.value << 30
            case "cuDeviceGetAttribute", value, attribute, device:
                value._obj.value = {75: 9, 76: device.value - 10}[attribute]
            case "cuGetErrorName", 100, name:
                name._obj.value = b"CUDA_ERROR_NO_DEVICE"
            case _:
                raise AssertionError(f"{function}{arguments}")


@pytest.fixture
def machine(monkeypatch):
    """Return what makes a machine with a driver, or none, and a build with CUDA, or none."""

    def make(driver, compiled="13.0.88"):
        built = {**_core.build_info(), "cuda": compiled, "cuda_architectures": "80-real 90"}
        monkeypatch.setattr(_core, "build_info", lambda: built)
        monkeypatch.setattr(_driver, "_load", lambda: driver)
        found = _info.collect()
        return found["cuda"], _info.as_text(found).splitlines()

    return make


def test_gpus_are_listed(machine):
    cuda, lines = machine(FakeDriver())

    assert cuda == {
        "compiled": "13.0.88",
        "architectures": "80-real 90",
        "driver": {
            "cuda": "13.0",
            "devices": [
                {"name": "GPU number 10", "compute_capability": "9.0", "memory_bytes": 10 << 30},
                {"name": "GPU number 11", "compute_capability": "9.1", "memory_bytes": 11 << 30},
            ],
            "problem": None,
        },
        "problem": None,
    }
    assert lines[6:10] == [
        "CUDA             13.0.88 80-real 90",
        "driver           runs CUDA 13.0",
        "GPU 0            GPU number 10, 9.0, 10.0 GiB",
        "GPU 1            GPU number 11, 9.1, 11.0 GiB",
    ]
    assert not [line for line in lines if line.startswith("GPU arrays")]


@pytest.mark.parametrize(
    ("driver", "compiled", "problem"),
    [
        (None, "", "ravine was built without CUDA"),
        (FakeDriver(), "", "ravine was built without CUDA"),
        (None, "13.0.88", "there is no driver of NVIDIA's"),
        (
            FakeDriver(version=12040),
            "13.0.88",
            "the driver is too old, it runs CUDA 12.4 and not 13.0",
        ),
        (FakeDriver(devices=0), "13.0.88", "the driver finds no GPU"),
        (FakeDriver(fails=["cuInit"]), "13.0.88", "cuInit: CUDA_ERROR_NO_DEVICE"),
        (
            FakeDriver(fails=["cuDriverGetVersion"]),
            "13.0.88",
            "cuDriverGetVersion: CUDA_ERROR_NO_DEVICE",
        ),
        (FakeDriver(fails=["cuInit", "cuGetErrorName"]), "13.0.88", "cuInit: 100"),
        (None, "emulator", None),
    ],
)
def test_what_keeps_gpus_from_being_used_is_told(driver, compiled, problem, machine):
    cuda, lines = machine(driver, compiled)

    assert cuda["problem"] == problem
    told = [line for line in lines if line.startswith("GPU arrays")]
    assert told == ([f"GPU arrays       cannot be used: {problem}"] if problem else [])
    assert ("driver           none found" in lines) is (driver is None)
    assert compiled != "emulator" or "CUDA             emulator 80-real 90" in lines


def test_a_library_that_is_not_there_is_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert _driver.find_driver() is None


def test_info_is_a_command(capsys):
    assert main(["info"]) == 0
    assert capsys.readouterr().out.startswith("ravine  ")
