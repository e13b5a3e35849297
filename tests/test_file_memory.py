"""Variables in files: what goes with them lies beside them, with the bits that memory gives."""

import copy
import errno
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_same, config_and, each_dtype, each_rule, ignores_missing, normal
from own_rules import OWN_RULES, native_and_own
from state_checks import each_ending, plain_and_everything, plain_and_scaled, steps_for

import ravine
from ravine import _file_memory

SHAPES = {"kernel": (40, 30), "bias": (), "empty": (0, 3), "large": (400, 400)}


def in_files(folder, dtype=np.float32, mode="w+"):
    """Return variables in one file, as views, but for the last."""
    random = np.random.default_rng(70)
    folder.mkdir(exist_ok=True)
    block = np.memmap(folder / "weights", dtype, mode, shape=3000)
    weights = {
        "kernel": block[7:1207].reshape(30, 40).T,
        "bias": block[1300:1301].reshape(()),
        "empty": block[0:0].reshape(0, 3),
        "large": np.memmap(folder / "large", dtype, mode, shape=SHAPES["large"]),
    }
    for w in weights.values():
        w[...] = normal(random, w.shape, dtype)
    return weights


def in_memory(weights):
    return {name: np.array(w, order="K") for name, w in weights.items()}


def is_beside(array, folder):
    """Whether an array is in a file of a folder that has no name any more."""
    if not isinstance(array, np.memmap):
        return False
    path, maps = Path(array.filename), Path("/proc/self/maps")
    is_mapped = not maps.exists() or f"{path} (deleted)" in maps.read_text()
    return path.parent == folder and not path.exists() and is_mapped


@ignores_missing
@plain_and_scaled
@plain_and_everything
@each_rule
def test_steps_give_the_bits_of_memory(rule, options, make_one, tmp_path):
    weights = in_files(tmp_path)
    copies = in_memory(weights)
    pair = make_one(rule, **options), make_one(rule, **options)
    for optimizer, arrays in zip(pair, (weights, copies), strict=True):
        optimizer.build(arrays)
        for g in steps_for(copies, np.random.default_rng(71), 4):
            optimizer.apply({**g, "bias": None})
    for name, w in weights.items():
        assert_same(w, copies[name], name)
    for key, array in pair[0].state_dict().items():
        assert_same(array, pair[1].state_dict()[key], key)


@each_dtype
def test_state_lies_in_a_file_beside_the_variables(dtype, tmp_path):
    weights = in_files(tmp_path, dtype)
    optimizer = ravine.Nadam(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(weights)
    arrays = [array for array in optimizer.variables if array.size > 1]
    assert len(arrays) == 4 * 2
    assert all(is_beside(array, tmp_path) for array in arrays)
    assert len({array.filename for array in arrays}) == 1
    assert sorted(os.listdir(tmp_path)) == ["large", "weights"]
    kernel = optimizer.variables[2]
    assert (kernel.shape, kernel.strides[0]) == ((40, 30), kernel.itemsize)


def test_state_lies_where_its_own_variable_does(tmp_path):
    first, second = in_files(tmp_path / "first"), in_files(tmp_path / "second")
    optimizer = ravine.SGD(momentum=0.9)
    optimizer.build([first["kernel"], np.ones(3), second["kernel"], np.asarray(second["large"])])
    _, _, *slots = optimizer.variables
    assert is_beside(slots[0], tmp_path / "first")
    assert is_beside(slots[2], tmp_path / "second")
    assert type(slots[1]) is type(slots[3]) is np.ndarray


@pytest.mark.parametrize("kind", ["copy on write", "copied", "nameless"])
def test_what_is_not_written_to_a_file_has_its_state_in_memory(kind, tmp_path):
    w = in_files(tmp_path)["large"]
    if kind == "copy on write":
        w = np.memmap(tmp_path / "large", np.float32, "c", shape=(400, 400))
    elif kind == "copied":
        w = w.copy()
    else:
        w.filename = None  # as NumPy has it for a file that was opened by its number
    optimizer = ravine.SGD(momentum=0.9)
    optimizer.build([w])
    assert type(optimizer.variables[2]) is np.ndarray


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the file by /proc")
def test_room_is_taken_when_the_state_is_made(tmp_path):
    optimizer = ravine.Adam()
    optimizer.build([in_files(tmp_path)["large"]])
    slot = optimizer.variables[2]
    maps = Path("/proc/self/maps").read_text()
    number = re.search(rf"^.* (\d+) +{re.escape(str(slot.filename))} \(deleted\)$", maps, re.M)[1]
    taken = [
        status.st_blocks * 512
        for fd in os.listdir("/proc/self/fd")
        if (status := _status(fd)) and status.st_ino == int(number)
    ]
    assert taken
    assert taken[0] >= 2 * slot.nbytes


def _status(descriptor):
    try:
        return os.fstat(int(descriptor))
    except OSError:
        return None  # that of the list itself


def test_zeros_are_written_where_no_room_can_be_reserved(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    size = 2 * _file_memory._PIECE + 5
    block = _file_memory.zero_bytes(size, str(tmp_path))
    assert block.shape == (size,)
    assert not block.any()
    assert os.listdir(tmp_path) == []


def test_full_disk_is_an_error_of_build(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    weights = in_files(tmp_path)
    optimizer = ravine.SGD(momentum=0.9)
    before = config_and(optimizer, *weights.values())
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left") as raised:
            optimizer.build({"large": weights["large"]})
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.strerror == (
        "What goes with a variable in a file, a numpy.memmap, is kept in the same folder, and "
        f"1688640 bytes cannot be had in {str(tmp_path)!r} (No space left on device). Make room "
        "there, or pass numpy.asarray(variable) to have them in memory."
    )
    assert config_and(optimizer, *weights.values()) == before
    assert sorted(os.listdir(tmp_path)) == ["large", "weights"]
    optimizer.build(weights)


@each_ending
@plain_and_scaled
@plain_and_everything
def test_resumed_run_equals_the_uninterrupted_one(options, make_one, ending, tmp_path):
    weights = in_files(tmp_path / "first")
    steps = steps_for(weights, np.random.default_rng(72), 5)
    optimizer = make_one("nadam", **options)
    optimizer.build(weights)
    for g in steps[:2]:
        optimizer.apply(g)
    optimizer.save(tmp_path / f"last{ending}")
    for g in steps[2:]:
        optimizer.apply(g)

    resumed_weights = in_files(tmp_path / "second")
    resumed = make_one("nadam", **options)
    resumed.build(resumed_weights)
    resumed.load(tmp_path / f"last{ending}")
    for g in steps[2:]:
        resumed.apply(g)
    for name, w in weights.items():
        assert_same(resumed_weights[name], w, name)
    for key, array in optimizer.state_dict().items():
        assert_same(resumed.state_dict()[key], array, key)


@pytest.mark.parametrize("work", ["load", "load_state_dict", "averaged_weights"])
def test_what_works_on_files_takes_no_memory_for_arrays(work, tmp_path, monkeypatch):
    weights = in_files(tmp_path)
    optimizer = ravine.Nadam(use_ema=True)
    optimizer.build(weights)
    optimizer.apply({name: np.ones(w.shape) for name, w in weights.items()})
    optimizer.save(tmp_path / "last.npz")
    state, made = optimizer.state_dict(), []
    original = np.empty

    def counting(shape, *arguments, **keywords):
        made.append(int(np.prod(shape)))
        return original(shape, *arguments, **keywords)

    monkeypatch.setattr(np, "empty", counting)
    copied = []
    monkeypatch.setattr("ravine._arrays.copy_to_host", lambda a: copied.append(a.size) or a.copy())
    if work == "load":
        optimizer.load(tmp_path / "last.npz")
    elif work == "load_state_dict":
        optimizer.load_state_dict(state)
    else:
        with optimizer.averaged_weights():
            pass
    assert max([0, *made, *copied]) <= 1


def test_state_of_its_own_memory_is_taken_as_it_was(tmp_path):
    """The arrays that are loaded are views of those that are written, in another order."""
    w = in_files(tmp_path)["large"]
    optimizer = ravine.Adam()
    optimizer.build([w])
    optimizer.apply([np.ones(w.shape)])
    state = optimizer.state_dict()
    momentum, velocity = optimizer.variables[2:4]
    assert isinstance(momentum, np.memmap)
    expected = momentum.copy(), velocity.copy()
    for array, other in (("momentum", velocity), ("velocity", momentum)):
        state[f"{array}/variable_0"] = other[:]
    optimizer.load_state_dict(state)
    assert_same(optimizer.variables[2], expected[1])
    assert_same(optimizer.variables[3], expected[0])


@pytest.mark.parametrize("rule", OWN_RULES)
def test_rules_in_python_keep_their_state_beside_the_variables(rule, tmp_path):
    weights = in_files(tmp_path)
    native, own = native_and_own(rule, use_ema=True)
    copies = in_memory(weights)
    native.build(copies)
    own.build(weights)
    for g in steps_for(copies, np.random.default_rng(73), 3):
        native.apply(g)
        own.apply(g)
    for name, w in weights.items():
        assert_same(w, copies[name], name)
    assert all(is_beside(a, tmp_path) for a in own.variables if a.size > 1)
    assert all(is_beside(kept, tmp_path) for _, kept in own._plan._kept if kept.size > 1)


def test_copies_are_in_memory(tmp_path):
    weights = in_files(tmp_path)
    optimizer = ravine.SGD(momentum=0.9)
    optimizer.build(weights)
    optimizer.apply({name: np.ones(w.shape) for name, w in weights.items()})
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        for array, own in zip(other.variables[2:], optimizer.variables[2:], strict=True):
            assert_same(array, own)
            assert _file_memory.folder(array) is None
    assert all(type(array) is np.ndarray for array in optimizer.state_dict().values())
    assert all(type(array) is np.ndarray for array in optimizer.get_weights())
