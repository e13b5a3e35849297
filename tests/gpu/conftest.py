"""CuPy for the tests of this folder, and the emulator that stands for a GPU where there is none."""

import sys
from importlib import import_module

import pytest

from ravine import _core

emulator = getattr(_core, "emulator", None)
# In which order an emulated GPU does what has no order: ascending, descending, drawn at random.
SCHEDULES = [0, 1, 20] if emulator else [0]


def why_not():
    """Say why these tests cannot run here; None if they can."""
    if emulator:
        return None
    if not _core.has_cuda():
        return "this build of ravine has no CUDA backend"
    try:
        cupy = import_module("cupy")
    except ImportError:
        return "CuPy is not installed"
    return None if cupy.cuda.is_available() else "there is no GPU, or no driver for it"


@pytest.fixture(scope="session", autouse=True)
def cupy():
    """CuPy, or what stands for it on an emulated GPU."""
    if reason := why_not():
        pytest.skip(reason)
    if emulator is None:
        yield import_module("cupy")
        return
    with pytest.MonkeyPatch.context() as patch:
        fake = import_module("fake_cupy")
        patch.setitem(sys.modules, "cupy", fake)
        yield fake


@pytest.fixture(scope="session")
def own_stream(cupy):
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture(autouse=True)
def clean_emulator(cupy):
    """Let each test begin with an emulated GPU that nobody has touched."""
    yield
    if emulator:
        try:
            emulator.synchronize_all()
        finally:
            emulator.reset()
            emulator.set_schedule(0)


@pytest.fixture
def xp(cupy, own_stream):
    """CuPy, with a current stream that is not the default one: work there is done late."""
    with own_stream:
        yield cupy


@pytest.fixture
def emulated(cupy):
    """Return the emulator; tests that need it are skipped on a GPU."""
    if emulator is None:
        pytest.skip("needs an emulated GPU")
    return emulator


def pytest_generate_tests(metafunc):
    if "schedule" in metafunc.fixturenames:
        metafunc.parametrize("schedule", SCHEDULES, indirect=True)


@pytest.fixture
def schedule(request):
    """Run the test with each order in which an emulated GPU may do its work."""
    if emulator:
        emulator.set_schedule(request.param)
    return request.param
