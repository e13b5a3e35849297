"""Memory of state is taken when it is first written: by the thread that will update it."""

import subprocess
import sys

import numpy as np
import pytest

import ravine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")

# In a process of its own, whose memory nothing else has used. Below 4 MiB NumPy asks for no large
# pages, so that pages can be counted.
PREPARED = """
import os, resource, numpy as np, ravine
ravine.set_num_threads({threads})

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

page = resource.getpagesize()
elements = 1 << 19
pages = elements * 4 // page
w, g = np.ones(elements, np.float32), np.ones(elements, np.float32)
small = ravine.Nadam(use_ema=True)  # what else a first step brings
small.apply([g[:1 << 18]], [w[:1 << 18]])
"""


def in_process(code, threads=1):
    command = [sys.executable, "-c", PREPARED.format(threads=threads) + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_build_touches_no_page_of_the_state():
    in_process("""
before = resident()
optimizer = ravine.Nadam(use_ema=True, gradient_accumulation_steps=2)
optimizer.build([w])
assert resident() - before < pages // 4, (resident(), before)
optimizer.apply([g])
assert resident() - before >= 4 * pages, (resident(), before)
""")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("accumulates", [False, True])
def test_a_page_is_asked_for_once(threads, accumulates):
    """Read before it is written, it would be asked for twice: zeros first, then memory."""
    in_process(
        f"""
optimizer = ravine.SGD(momentum=0.9, gradient_accumulation_steps={2 if accumulates else None})
optimizer.build([w])
before = faults()
optimizer.apply([g])
assert faults() - before < 1.5 * {2 if accumulates else 1} * pages, (faults() - before, pages)
before = faults()
optimizer.apply([g])
assert faults() - before < 0.5 * pages
""",
        threads,
    )


def test_touching_takes_the_pages_of_all_state_and_changes_nothing():
    in_process("""
optimizer = ravine.Nadam(use_ema=True, gradient_accumulation_steps=2)
optimizer.build([w])
before = resident()
optimizer._plan.touch_state()
assert resident() - before >= 4 * pages, (resident(), before)
assert not any(array.any() for array in optimizer.variables if array.shape == w.shape)
""")


@pytest.mark.parametrize("where", ["memory", "file"])
def test_state_that_is_loaded_is_touched_first_but_not_in_files(where, tmp_path, monkeypatch):
    touched = []

    def touch_state(plan):
        touched.append([array.any() for array in optimizer.variables[2:]])

    monkeypatch.setattr(ravine._core.Plan, "touch_state", touch_state)
    w = np.memmap(tmp_path / "w", np.float32, "w+", shape=100)
    w = w if where == "file" else np.asarray(w)
    trained = ravine.Adam()
    trained.apply([np.ones(100, np.float32)], [w])
    optimizer = ravine.Adam()
    optimizer.build([w])
    optimizer.load_state_dict(trained.state_dict())
    assert touched == ([[False, False]] if where == "memory" else [])
    assert all(array.any() for array in optimizer.variables[2:])
