"""Checkpoints that cannot be saved or do not fit: a clear error, and nothing changed."""

import copy
import os
import re

import numpy as np
import pytest
from checks import config_and, make, raises
from state_checks import each_ending, plain_and_scaled, saved, scaled

import ravine
from ravine import _checkpoint

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")


@pytest.mark.parametrize("stage", ["write_elements", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@each_ending
def test_save_that_fails_leaves_the_old_file(ending, error, stage, tmp_path, monkeypatch):
    path = tmp_path / f"last{ending}"
    optimizer, weights = saved(path)
    old, before = path.read_bytes(), config_and(optimizer, *weights.values())

    def fail(*_):
        raise error("no space left")

    with monkeypatch.context() as patch:
        if stage == "write_elements":
            for module in ("_npz", "_safetensors"):
                patch.setattr(f"ravine.{module}.{stage}", fail)
        else:
            patch.setattr(os, stage, fail)
        with pytest.raises(error, match="no space left"):
            optimizer.save(path)
    assert path.read_bytes() == old
    assert [*tmp_path.iterdir()] == [path]
    assert config_and(optimizer, *weights.values()) == before
    optimizer.save(path)
    assert path.read_bytes() == old


ENDING = "The name of a checkpoint must end in .npz or .safetensors. Received: {!r}."


@pytest.mark.parametrize("path", ["last", "last.npz.tmp", "last.NPZ", ".npz", b"last.npz"])
def test_name_of_another_ending_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    for call in (optimizer.save, optimizer.load):
        with raises(ValueError, ENDING.format(path)):
            call(path)
    assert list(tmp_path.iterdir()) == []


@plain_and_scaled
def test_it_needs_build(make_one, tmp_path):
    optimizer = make_one("sgd")
    for call in (optimizer.save, optimizer.load):
        with raises(ValueError, "The optimizer has no state yet. Call build(variables) first."):
            call(tmp_path / "last.npz")


def test_file_that_cannot_be_opened_is_an_os_error(tmp_path):
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    with pytest.raises(FileNotFoundError):
        optimizer.load(tmp_path / "last.npz")
    elsewhere = tmp_path / "no" / "last.npz"
    with pytest.raises(FileNotFoundError, match=f"{re.escape(repr(str(elsewhere)))}$"):
        optimizer.save(elsewhere)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        optimizer.save(tmp_path / "folder.npz")
    assert [*tmp_path.iterdir()] == [tmp_path / "folder.npz"]


@each_ending
def test_refused_inside_averaged_weights(ending, tmp_path):
    optimizer, w = saved(tmp_path / f"last{ending}", use_ema=True)
    before = config_and(optimizer, *w.values())
    old = (tmp_path / f"last{ending}").read_bytes()
    shown = " inside averaged_weights(), where the variables hold their averages. Do it after the "
    for call, what in ((optimizer.save, "saved"), (optimizer.load, "loaded")):
        message = f"A checkpoint cannot be {what}{shown}block."
        with optimizer.averaged_weights(), raises(ValueError, message):
            call(tmp_path / f"last{ending}")
    assert config_and(optimizer, *w.values()) == before
    assert (tmp_path / f"last{ending}").read_bytes() == old


def built(make_one, rule, weights, **options):
    optimizer = make_one(rule, **options)
    optimizer.build(weights)
    return optimizer


W = {"a/kernel": np.ones((2, 3), np.float32), "b c": np.ones(2, ml_dtypes.bfloat16)}
FITS = "The state does not fit this optimizer, nothing was loaded. "
SAME = " Load it into one of the same class."
MISFITS = {
    "class": (
        lambda w: built(make, "nadam", w),
        "It is that of SGD, this optimizer is Nadam." + SAME,
    ),
    "wrapper": (
        lambda w: built(scaled, "sgd_momentum", w),
        "It is that of SGD, this optimizer is LossScaleOptimizer around SGD." + SAME,
    ),
    "slots": (
        lambda w: built(make, "sgd", w),
        FITS + "Missing: []. Unknown: ['state/momentum/a/kernel', 'state/momentum/b c'].",
    ),
    "averages": (
        lambda w: built(make, "sgd_momentum", w, use_ema=True),
        FITS + "Missing: ['state/average/a/kernel', 'state/average/b c']. Unknown: [].",
    ),
    "names": (
        lambda w: built(make, "sgd_momentum", [*w.values()]),
        FITS + "Missing: ['state/momentum/variable_0', 'state/momentum/variable_1', "
        "'variable/variable_0', 'variable/variable_1']. Unknown: ['state/momentum/a/kernel', "
        "'state/momentum/b c', 'variable/a/kernel', 'variable/b c'].",
    ),
    "shape": (
        lambda w: built(make, "sgd_momentum", {**w, "b c": np.ones(3, ml_dtypes.bfloat16)}),
        "'variable/b c' must have shape (3,) and dtype bfloat16. Received: shape (2,), dtype "
        "bfloat16. Nothing was loaded.",
    ),
    "dtype": (
        lambda w: built(make, "sgd_momentum", {**w, "b c": np.ones(2, np.float16)}),
        "'variable/b c' must have shape (2,) and dtype float16. Received: shape (2,), dtype "
        "bfloat16. Nothing was loaded.",
    ),
}


@pytest.mark.parametrize(("target", "reason"), MISFITS.values(), ids=MISFITS)
@each_ending
def test_checkpoint_that_does_not_fit_is_refused(ending, target, reason, tmp_path):
    path = tmp_path / f"last{ending}"
    saved(path)
    optimizer = target(copy.deepcopy(W))
    before = config_and(optimizer, *optimizer_arrays(optimizer))
    start = f"The checkpoint {str(path)!r} cannot be loaded, nothing was changed. "
    with raises(ValueError, start + reason):
        optimizer.load(path)
    assert config_and(optimizer, *optimizer_arrays(optimizer)) == before


def optimizer_arrays(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)._variables.arrays


@each_ending
def test_other_window_or_inner_class_is_refused(ending, tmp_path):
    path = tmp_path / f"last{ending}"
    saved(path, scaled, gradient_accumulation_steps=2)
    optimizer = built(scaled, "sgd_momentum", copy.deepcopy(W), gradient_accumulation_steps=3)
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps=2, this optimizer has 3"):
        optimizer.load(path)
    optimizer = built(scaled, "rmsprop_momentum", copy.deepcopy(W))
    with pytest.raises(
        ValueError,
        match=r"LossScaleOptimizer around SGD, this optimizer is LossScaleOptimizer around RMSprop",
    ):
        optimizer.load(path)


@each_ending
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("fail_at", range(4))
def test_load_that_fails_half_way_leaves_everything(ending, error, fail_at, tmp_path, monkeypatch):
    path = tmp_path / f"last{ending}"
    saved(path)
    weights = {name: np.zeros_like(w) for name, w in W.items()}
    optimizer = built(make, "sgd_momentum", weights)
    before, calls = config_and(optimizer, *weights.values()), []
    original = ravine._arrays.write

    def failing(array, value):
        calls.append(1)
        if len(calls) == fail_at + 1:
            raise error("the device is gone")
        original(array, value)

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint, "write", failing)
        patch.setattr("ravine._saved_state.write", failing)
        with pytest.raises(error, match="the device is gone"):
            optimizer.load(path)
    assert len(calls) > fail_at
    assert config_and(optimizer, *weights.values()) == before


@each_ending
def test_variable_that_was_made_read_only_is_refused(ending, tmp_path):
    path = tmp_path / f"last{ending}"
    saved(path)
    weights = copy.deepcopy(W)
    optimizer = built(make, "sgd_momentum", weights)
    before = config_and(optimizer, *weights.values())
    weights["b c"].flags.writeable = False
    with raises(
        ValueError, "Variable 1 ('b c') was made read-only after build(). Make it writable."
    ):
        optimizer.load(path)
    assert config_and(optimizer, *weights.values()) == before
