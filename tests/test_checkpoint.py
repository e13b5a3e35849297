"""Checkpoints: what goes into a file comes back, to the last bit, and other tools can read it."""

import copy
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from checks import (
    assert_same,
    bits,
    config_and,
    each_dtype,
    each_rule,
    ignores_missing,
    make,
    normal,
    raises,
    snapshot,
)
from state_checks import (
    each_ending,
    plain_and_everything,
    plain_and_scaled,
    saved,
    scaled,
    steps_for,
)

import ravine

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")


def weights_of(dtype, random):
    """Return variables of all layouts, with names of all kinds."""
    return {
        "a/kernel": np.asfortranarray(normal(random, (3, 4), dtype)),
        "../up and\\down": normal(random, (4, 6), dtype)[::2, ::-3],
        "": normal(random, (2, 3, 4), dtype).transpose(1, 2, 0),
        "größe\0%2F": normal(random, (), dtype),
        "empty": np.zeros((0, 2), dtype),
        "__metadata__": normal(random, 9, dtype)[2:7],
    }


@ignores_missing
@plain_and_scaled
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5])
@plain_and_everything
@each_rule
@each_ending
def test_resumed_run_equals_the_uninterrupted_one(ending, rule, options, stop, make_one, tmp_path):
    random = np.random.default_rng(90)
    weights = weights_of(np.float32, random)
    start = copy.deepcopy(weights)
    steps = steps_for(weights, random, 8)
    steps[stop]["empty"] = steps[4]["a/kernel"] = None
    optimizer = make_one(rule, **options)
    optimizer.build(weights)
    for g in steps[:stop]:
        optimizer.apply(g)
    optimizer.save(tmp_path / f"last{ending}")
    for g in steps[stop:]:
        optimizer.apply(g)
    resumed = make_one(rule, **options)
    resumed.build(start)
    resumed.load(tmp_path / f"last{ending}")
    for g in steps[stop:]:
        resumed.apply(g)
    for name, w in weights.items():
        assert_same(start[name], w, name)
    assert snapshot(resumed) == snapshot(optimizer)


@each_dtype
@each_ending
def test_every_type_is_kept(ending, dtype, tmp_path):
    random = np.random.default_rng(91)
    weights = weights_of(dtype, random)
    weights["a/kernel"][0] = [np.nan, np.inf, -0.0, 1]
    optimizer = make("nadam", use_ema=True)
    optimizer.build(weights)
    optimizer.apply(steps_for(weights, random, 1)[0])
    path = str(tmp_path / f"last{ending}")
    optimizer.save(path)
    kept, before = copy.deepcopy(weights), config_and(optimizer)
    others = {name: np.zeros(w.shape, dtype) for name, w in weights.items()}
    resumed = make("nadam", use_ema=True)
    resumed.build(others)
    resumed.load(path)
    for name, w in kept.items():
        assert (others[name].dtype, bits(others[name])) == (w.dtype, bits(w)), name
        assert weights[name].tobytes() == w.tobytes()
    assert config_and(resumed) == config_and(optimizer) == before


@each_ending
def test_same_state_makes_the_same_file(ending, tmp_path):
    optimizer = make("nadam")
    optimizer.apply([np.ones(3)], [np.ones(3)])
    optimizer.save(tmp_path / f"a{ending}")
    copy.deepcopy(optimizer).save(tmp_path / f"b{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


@each_ending
def test_loading_keeps_the_settings_but_for_the_rate(ending, tmp_path):
    w = [np.ones(2)]
    path = tmp_path / f"last{ending}"
    ravine.SGD(0.5)  # no state: nothing
    source = ravine.SGD(0.5, weight_decay=0.25)
    source.apply([np.ones(2)], w)
    source.save(path)
    number, function = ravine.SGD(0.1), ravine.SGD(lambda: 0.125)
    for optimizer in (number, function):
        optimizer.build([np.ones(2)])
        optimizer.load(path)
        assert optimizer.weight_decay is None
        assert optimizer.iterations == 1
    assert (number.learning_rate, function.learning_rate) == (0.5, 0.125)
    function.save(path)
    number.load(path)
    assert number.learning_rate == 0.5


# --- What is in a file


def expected_metadata(optimizer, state_of):
    return {
        "format": "ravine checkpoint",
        "version": 1,
        "ravine": ravine.__version__,
        "class_name": type(optimizer).__name__,
        "config": optimizer.get_config(),
        "state_of": state_of,
        "iteration": 1,
        "arrays": {
            "variable/a/kernel": {"dtype": "float32", "shape": [2, 3]},
            "variable/b c": {"dtype": "bfloat16", "shape": [2]},
            "state/iteration": {"dtype": "int64", "shape": []},
            "state/learning_rate": {"dtype": "float64", "shape": []},
            "state/momentum/a/kernel": {"dtype": "float32", "shape": [2, 3]},
            "state/momentum/b c": {"dtype": "float32", "shape": [2]},
        },
    }


def test_numpy_reads_npz(tmp_path):
    path = tmp_path / "last.npz"
    optimizer, weights = saved(path)
    with np.load(path) as file:
        metadata = json.loads(file["metadata.json"])
        arrays = {key: file[key] for key in file.files if key != "metadata.json"}
    assert metadata == expected_metadata(optimizer, "SGD")
    assert_same(arrays["variable/a/kernel"], weights["a/kernel"])
    assert_same(arrays["variable/b%20c"].view(ml_dtypes.bfloat16), weights["b c"])
    assert_same(arrays["state/momentum/a/kernel"], optimizer.state_dict()["momentum/a/kernel"])
    again = ravine.SGD.from_config(metadata["config"])
    assert again.get_config() == optimizer.get_config()


def test_safetensors_reads_safetensors(tmp_path):
    numpy_of = pytest.importorskip("safetensors.numpy")
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "last.safetensors"
    optimizer, weights = saved(path, scaled)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["ravine"])
    expected = expected_metadata(optimizer, "SGD")
    expected["arrays"]["state/dynamic_scale"] = {"dtype": "float32", "shape": []}
    expected["arrays"]["state/step_counter"] = {"dtype": "int64", "shape": []}
    assert metadata == expected
    arrays = numpy_of.load_file(path)
    assert {*arrays} == {*metadata["arrays"]}
    assert_same(arrays["variable/a/kernel"], weights["a/kernel"])
    assert_same(arrays["variable/b c"], weights["b c"])
    for key, array in optimizer.state_dict().items():
        if key != "class_name":
            assert_same(arrays[f"state/{key}"], array, key)


def test_elements_are_aligned(tmp_path):
    path = tmp_path / "last.safetensors"
    saved(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    widths = {"F64": 8, "I64": 8, "F32": 4, "BF16": 2}
    for key, entry in header.items():
        if key != "__metadata__":
            assert entry["data_offsets"][0] % widths[entry["dtype"]] == 0


@each_ending
def test_configuration_is_null_where_there_is_none(ending, tmp_path):
    optimizer = ravine.SGD(lambda: 0.5)
    optimizer.build([np.ones(2)])
    optimizer.save(tmp_path / f"last{ending}")
    assert b'config": null' in (tmp_path / f"last{ending}").read_bytes().replace(b"\\", b"")
    optimizer.load(tmp_path / f"last{ending}")


@each_ending
def test_configuration_that_json_cannot_hold_is_refused(ending, tmp_path):
    class Mine(ravine.SGD):
        def get_config(self):
            return {**super().get_config(), "set": {1}}

    optimizer = Mine(0.5)
    optimizer.build([np.ones(2)])
    with raises(
        TypeError,
        "The configuration cannot be saved: Object of type set is not JSON serializable. Let "
        "get_config() return what JSON holds.",
    ):
        optimizer.save(tmp_path / f"last{ending}")
    assert list(tmp_path.iterdir()) == []


# --- Files


@each_ending
def test_path_may_be_relative_or_a_link(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    optimizer.save(f"last{ending}")
    Path(f"link{ending}").symlink_to(f"last{ending}")
    optimizer.apply([np.ones(2)])
    optimizer.save(f"link{ending}")
    assert Path(f"link{ending}").is_symlink()
    again = make("sgd")
    again.build([np.ones(2)])
    again.load(f"last{ending}")
    assert again.iterations == 1


def test_mode_is_that_of_a_new_file(tmp_path):
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    before = os.umask(0o027)
    try:
        optimizer.save(tmp_path / "last.npz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "last.npz").stat().st_mode) == 0o640


@each_ending
def test_data_is_on_the_disk_before_the_name_and_then_the_folder(ending, tmp_path, monkeypatch):
    optimizer, _ = saved(tmp_path / f"last{ending}")
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append(names), replace(*names)))
    path = str(tmp_path / f"last{ending}")
    optimizer.save(path)
    temporary = calls[0]
    assert calls == [temporary, (temporary, path), str(tmp_path)]
    assert os.path.dirname(temporary) == str(tmp_path)


def test_saving_does_not_copy_large_states(tmp_path):
    # The peak of what is allocated while it saves stays far below the size of the arrays.
    tracemalloc = pytest.importorskip("tracemalloc")
    optimizer = make("nadam")
    optimizer.build([np.ones((1 << 11, 1 << 12), np.float32), np.ones(1 << 20)[::2]])
    size = sum(array.nbytes for array in optimizer.variables)
    assert size > 60 << 20
    for ending in (".npz", ".safetensors"):
        tracemalloc.start()
        optimizer.save(tmp_path / f"last{ending}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 << 20
