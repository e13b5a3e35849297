"""On a GPU: copies, lists and checkpoints, and what goes from one side to the other."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from checks import assert_same, each_dtype, ignores_missing, make, normal, raises
from gpu_checks import Shown, all_of, captured, on_gpu
from own_rules import OwnSGD
from state_checks import EVERYTHING, each_ending, plain_and_everything, scaled

import ravine
from ravine import _arrays

SHAPES = {"a/kernel": (3, 4), "b": (), "c": (70,), "d": (2, 2049), "e": (0,)}
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
MAKERS = {
    "plain": partial(make, "nadam"),
    "scaled": partial(scaled, "nadam"),
    "own": OwnSGD,
    "own_scaled": lambda **options: ravine.LossScaleOptimizer(OwnSGD(**options), 64.0, 2),
}
each_maker = pytest.mark.parametrize("make_one", MAKERS.values(), ids=MAKERS)


def arrays(random, dtype=np.float32):
    result = {name: np.asarray(normal(random, shape, dtype)) for name, shape in SHAPES.items()}
    result["a/kernel"] = np.asfortranarray(result["a/kernel"])
    return result


def put(xp, values):
    return {name: None if v is None else on_gpu(xp, v) for name, v in values.items()}


def put_beside(xp, weights, grads):
    """Put gradients in the memory order of the variables: CuPy's own copies are in C order."""
    return {
        name: None
        if g is None
        else on_gpu(xp, np.asarray(g, order="CF"[is_fortran(weights[name])]))
        for name, g in grads.items()
    }


def is_fortran(array):
    return array.flags.f_contiguous and not array.flags.c_contiguous


def back(values):
    return {name: v.get(order="A") for name, v in values.items()}


class Run:
    """An optimizer on the GPU after some steps, and one on the CPU that made the same."""

    def __init__(self, xp, make_one=MAKERS["plain"], dtype=np.float32, stop=4, **options):
        random = np.random.default_rng(140)
        start = arrays(random, dtype)
        self.xp = xp
        self.steps = [arrays(random) for _ in range(stop + 4)]
        self.steps[stop]["b"] = None
        self.stop = stop
        self.cpu, self.gpu = make_one(**options), make_one(**options)
        self.on_cpu = {name: w.copy("K") for name, w in start.items()}
        self.on_gpu = put(xp, start)
        self.cpu.build(self.on_cpu)
        self.gpu.build(self.on_gpu)
        for grads in self.steps[:stop]:
            self.cpu.apply(grads)
            self.gpu.apply(put(xp, grads))

    def goes_on(self, weights, optimizer):
        """Make the other steps with this one and with the one on the CPU, and compare."""
        there = not isinstance(weights["b"], np.ndarray)
        for grads in self.steps[self.stop :]:
            self.cpu.apply(grads)
            optimizer.apply(put_beside(self.xp, weights, grads) if there else grads)
        state = optimizer.state_dict()
        for key, array in self.cpu.state_dict().items():
            assert_same(state[key], array, key)
        for name, w in (back(weights) if there else weights).items():
            assert_same(w, self.on_cpu[name], name)


@ignores_missing
@each_way
@each_maker
@plain_and_everything
def test_copy_with_the_weights_is_bound_to_them(xp, options, make_one, way, schedule):
    run = Run(xp, make_one, **options)
    before = all_of(run.gpu, *run.on_gpu.values())
    weights, optimizer = way((run.on_gpu, run.gpu))
    assert all(type(w) is xp.ndarray for w in weights.values())
    assert all_of(optimizer, *weights.values()) == before
    run.goes_on(weights, optimizer)
    assert all_of(run.gpu, *run.on_gpu.values()) == before


@ignores_missing
@each_maker
def test_copy_may_be_built_on_the_other_side(xp, make_one):
    run = Run(xp, make_one, **EVERYTHING)
    alone = copy.deepcopy(run.gpu)
    weights = back(run.on_gpu)
    alone.build(weights)
    run.goes_on(weights, alone)


@ignores_missing
@each_maker
def test_shallow_copy_has_state_of_its_own(xp, make_one):
    run = Run(xp, make_one, **EVERYTHING)
    new = copy.copy(run.gpu)
    state = {key: array.copy() for key, array in run.gpu.state_dict().items()}
    run.goes_on(run.on_gpu, new)
    for key, array in run.gpu.state_dict().items():
        assert_same(array, state[key], key)


@ignores_missing
@each_maker
@plain_and_everything
def test_lists_go_from_one_side_to_the_other(xp, options, make_one):
    run = Run(xp, make_one, **options)
    weights = back(run.on_gpu)
    optimizer = make_one(**options)
    optimizer.build(weights)
    optimizer.set_weights(run.gpu.variables)  # CuPy's arrays
    assert all(type(array) is np.ndarray for array in run.gpu.get_weights())
    other = put(xp, run.on_cpu)
    there = make_one(**options)
    there.build(other)
    there.set_weights(optimizer.get_weights())
    run.goes_on(other, there)


@ignores_missing
@each_ending
@each_maker
@pytest.mark.parametrize("moves", ["gpu_to_gpu", "gpu_to_cpu", "cpu_to_gpu"])
@plain_and_everything
def test_resumed_run_equals_the_uninterrupted_one(
    xp, options, moves, make_one, ending, tmp_path, schedule
):
    run = Run(xp, make_one, **options)
    (run.cpu if moves == "cpu_to_gpu" else run.gpu).save(tmp_path / f"last{ending}")
    weights = {name: np.zeros_like(w) for name, w in run.on_cpu.items()}
    if moves != "gpu_to_cpu":
        weights = put(xp, weights)
    resumed = make_one(**options)
    resumed.build(weights)
    resumed.load(tmp_path / f"last{ending}")
    run.goes_on(weights, resumed)


@ignores_missing
@each_dtype
@each_ending
def test_both_sides_write_and_read_the_same_file(xp, ending, dtype, tmp_path):
    run = Run(xp, dtype=dtype, stop=2)
    run.cpu.save(tmp_path / f"cpu{ending}")
    run.gpu.save(tmp_path / f"gpu{ending}")
    assert (tmp_path / f"cpu{ending}").read_bytes() == (tmp_path / f"gpu{ending}").read_bytes()
    weights = put(xp, {name: np.zeros_like(w) for name, w in run.on_cpu.items()})
    resumed = MAKERS["plain"]()
    resumed.build(weights)
    resumed.load(tmp_path / f"cpu{ending}")
    run.goes_on(weights, resumed)


@each_ending
def test_checkpoint_of_arrays_of_another_library(xp, ending, tmp_path):
    w = on_gpu(xp, np.arange(6, dtype=np.float32).reshape(2, 3))
    optimizer = make("sgd_momentum")
    optimizer.build([Shown(w)])
    optimizer.apply([xp.ones((2, 3), np.float32)])
    kept = w.get()
    optimizer.save(tmp_path / f"last{ending}")
    optimizer.apply([xp.ones((2, 3), np.float32)])
    optimizer.load(tmp_path / f"last{ending}")
    assert_same(w.get(), kept)


@ignores_missing
@each_maker
def test_stateless_apply_gives_the_numbers_of_apply(xp, make_one, schedule):
    run = Run(xp, make_one, **EVERYTHING)
    before = all_of(run.gpu, *run.on_gpu.values())
    weights, state = run.on_gpu, run.gpu.variables
    for grads in run.steps[run.stop :]:
        weights, state = run.gpu.stateless_apply(state, put(xp, grads), weights)
        run.cpu.apply(grads)
    assert all(type(w) is xp.ndarray for w in weights.values())
    for name, w in back(weights).items():
        assert_same(w, run.on_cpu[name], name)
    for actual, expected in zip(state, run.cpu.variables, strict=True):
        assert_same(actual if isinstance(actual, np.ndarray) else actual.get(order="A"), expected)
    assert all_of(run.gpu, *run.on_gpu.values()) == before


@pytest.mark.parametrize("fail_at", [0, 1, 5, 9, 12])
@pytest.mark.parametrize("what", ["state", "checkpoint"])
def test_copy_that_fails_leaves_everything(xp, what, fail_at, tmp_path, monkeypatch):
    run = Run(xp, MAKERS["scaled"], stop=2, use_ema=True)
    run.gpu.save(tmp_path / "last.npz")
    state = run.gpu.state_dict()
    run.gpu.apply(put(xp, run.steps[3]))
    before, calls, write = all_of(run.gpu, *run.on_gpu.values()), [], _arrays.write

    def failing(array, value):
        calls.append(1)
        if len(calls) == fail_at + 1:
            raise RuntimeError("the device is gone")
        write(array, value)

    with monkeypatch.context() as patch:
        patch.setattr("ravine._saved_state.write", failing)
        patch.setattr("ravine._checkpoint.write", failing)
        calls_it = {
            "state": lambda: run.gpu.load_state_dict(state),
            "checkpoint": lambda: run.gpu.load(tmp_path / "last.npz"),
        }
        with pytest.raises(RuntimeError, match="the device is gone"):
            calls_it[what]()
    assert all_of(run.gpu, *run.on_gpu.values()) == before


NOT_NOW = (
    "{} while a CUDA graph is captured. Do it before the capture, or after it between replays."
)
INSIDE = {
    "copy": (copy.copy, "An optimizer cannot be copied"),
    "pickle": (pickle.dumps, "An optimizer cannot be copied"),
    "get": (lambda o: o.get_weights(), "The state cannot be copied"),
    "set": (lambda o: o.set_weights([]), "A state cannot be loaded"),
    "save": (lambda o: o.save("/nowhere/last.npz"), "A checkpoint cannot be saved"),
    "load": (lambda o: o.load("/nowhere/last.npz"), "A checkpoint cannot be loaded"),
}


@pytest.mark.parametrize(("call", "what"), INSIDE.values(), ids=INSIDE)
def test_refused_in_a_capture(xp, call, what):
    w = xp.ones(3, np.float32)
    optimizer = make("sgd_momentum")
    optimizer.build([w])
    stream = xp.cuda.get_current_stream()
    before = all_of(optimizer, w)

    def refused():
        with raises(ValueError, NOT_NOW.format(what)):
            call(optimizer)

    captured(stream, refused)
    assert all_of(optimizer, w) == before


def test_copy_of_an_optimizer_whose_steps_are_replayed(xp):
    w, g = xp.ones(3, np.float32), xp.ones(3, np.float32)
    optimizer = make("nadam")
    optimizer.build([w])
    graph = captured(xp.cuda.get_current_stream(), lambda: optimizer.apply([g]))
    for _ in range(3):
        graph.launch()
    weights, new = copy.deepcopy(([w], optimizer))
    assert new.iterations == 3
    graph.launch()
    new.apply([g])
    assert_same(weights[0].get(), w.get())
    assert new.state_dict()["momentum_product"] == optimizer.state_dict()["momentum_product"]


def test_nothing_is_evaluated_inside_a_block_but_the_averages(xp, schedule):
    run = Run(xp, stop=2, use_ema=True)
    kept = back(run.on_gpu)
    with run.gpu.averaged_weights():
        state = run.gpu.state_dict()
        for name, w in back(run.on_gpu).items():
            assert_same(w, state[f"average/{name}"], name)
        with pytest.raises(ValueError, match="A step cannot be made inside averaged_weights"):
            run.gpu.apply(put(xp, run.steps[3]))
    for name, w in back(run.on_gpu).items():
        assert_same(w, kept[name], name)
