"""A process that is killed while it saves leaves a checkpoint that can be loaded."""

import subprocess
import sys

import pytest

# A process that makes children, one after another. Each goes on from the checkpoint, steps and
# saves until it is killed. After n steps every element is -n: a mixture would show.
CODE = """
import os, random, signal, sys, time
import numpy as np
import ravine

path, kills = sys.argv[1], int(sys.argv[2])
folder = os.path.dirname(path)
draw = random.Random(7)
SHAPES = {"a": (200, 300), "b": (7,)}

def loaded():
    w = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}
    optimizer = ravine.SGD(1.0, momentum=0.0, use_ema=True, ema_momentum=0.0)
    optimizer.build(w)
    optimizer.load(path)
    n = optimizer.iterations
    for array in [*w.values(), *(optimizer.variables[2:] if n else [])]:
        assert (array == -n).all(), (n, array)
    return optimizer, n

first = ravine.SGD(1.0, momentum=0.0, use_ema=True, ema_momentum=0.0)
first.build({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
first.save(path)
last = cut = 0
for kill in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        optimizer, _ = loaded()
        grads = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
        os.write(write, b"x")
        while True:
            optimizer.apply(grads)
            optimizer.save(path)
    os.close(write)
    os.read(read, 1)
    time.sleep(draw.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    _, n = loaded()
    assert n >= last, (n, last)
    last = n
    left = [name for name in os.listdir(folder) if name != os.path.basename(path)]
    assert len(left) <= 1 and all(name.startswith(".ravine-") for name in left), left
    cut += len(left)
    for name in left:
        os.unlink(os.path.join(folder, name))
print(last, cut)
"""


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_killed_saves_leave_a_checkpoint(ending, tmp_path):
    path = tmp_path / "checkpoints" / f"last{ending}"
    path.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), "200"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    saved, cut = map(int, done.stdout.split())
    assert saved > 50
    assert cut > 50  # it was killed inside of saves
