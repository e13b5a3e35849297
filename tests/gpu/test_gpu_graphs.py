"""CUDA graphs: a captured step, replayed, is a step; its rate may change, and it is counted."""

import numpy as np
import pytest
from checks import DTYPES, RULES, assert_same, each_rule, ignores_missing, normal
from gpu_checks import captured, difference, gradients, twins

import ravine
from ravine import _core

SIZES = [3, 4099, 0, 70]
OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1, "loss_scale_factor": 3.0},
    "clipnorm": {"clipnorm": 1.0},
    "global_clipnorm": {"global_clipnorm": 1.0, "weight_decay": 0.1},
    "clipvalue_overwrite": {"clipvalue": 0.5, "use_ema": True, "ema_overwrite_frequency": 3},
}


class Recorded:
    """Twins, and a graph of one step on the GPU, with gradients that stay where they are."""

    def __init__(self, xp, rule, eager=0, missing=(), **options):
        self.random = np.random.default_rng(100)
        variables = [normal(self.random, n, DTYPES[i % 4]) for i, n in enumerate(SIZES)]
        self.pair = twins(xp, rule, variables, excluded=[3], **options)
        self.missing, self.stream = missing, xp.cuda.Stream(non_blocking=True)
        with self.stream:
            self.there = self.pair.put(self._gradients())
        for _ in range(eager):
            self.step()
        self.graph = captured(self.stream, lambda: self.pair.gpu.apply(self.there))

    def _gradients(self):
        grads = gradients(self.random, self.pair.on_cpu, DTYPES[::-1])
        return [None if i in self.missing else g for i, g in enumerate(grads)]

    def step(self, replays=False):
        """Make a step with new gradients on both sides, on the GPU by a replay or not."""
        grads = self._gradients()
        with self.stream:
            for array, g in zip(self.there, grads, strict=True):
                if g is not None:
                    array.set(g)
            if replays:
                self.graph.launch()
            else:
                self.pair.gpu.apply(self.there)
        self.pair.cpu.apply(grads)

    def set(self, name, value):
        with self.stream:
            self.pair.set(name, value)

    def run(self, plan):
        """Make a step a letter: a Replay, or an Eager one."""
        for letter in plan:
            self.step(letter == "R")
        self.pair.assert_equal()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@each_rule
def test_replay_is_a_step(xp, schedule, rule, options):
    recorded = Recorded(xp, rule, **options)
    recorded.run("RRRRRRR")


@pytest.mark.parametrize("eager", [0, 1, 3])
@pytest.mark.parametrize("plan", ["E", "RE", "ER", "RRERRERE"])
@pytest.mark.parametrize("rule", ["sgd_nesterov", "nadam"])
def test_steps_and_replays_mix(xp, schedule, rule, plan, eager):
    options = {"use_ema": True, "ema_overwrite_frequency": 2, "clipnorm": 1.0}
    recorded = Recorded(xp, rule, eager, **options)
    recorded.pair.assert_equal()  # the capture itself is no step
    recorded.run(plan)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])  # None is not for every rule
@each_rule
def test_rate_may_change_between_replays(xp, schedule, rule, weight_decay):
    recorded = Recorded(xp, rule, weight_decay=weight_decay)
    for rate in (0.5, 0.25, 1e-3):
        recorded.set("learning_rate", rate)
        assert recorded.pair.gpu.learning_rate == rate
        recorded.run("RR")
    recorded.set("learning_rate", 0.75)
    recorded.run("ER")


def test_rate_set_before_the_capture_is_that_of_replays(xp):
    recorded = Recorded(xp, "sgd", eager=1)
    recorded.set("learning_rate", 0.5)
    recorded.graph = captured(recorded.stream, lambda: recorded.pair.gpu.apply(recorded.there))
    recorded.run("RER")


def test_rate_of_a_function_gives_way_to_a_number(xp):
    recorded = Recorded(xp, "sgd")
    with recorded.stream:
        optimizer = ravine.SGD(lambda: 0.25)
        w, g = xp.zeros(3), xp.ones(3)
        optimizer.apply([g], [w])
        optimizer.learning_rate = 0.5
    graph = captured(recorded.stream, lambda: optimizer.apply([g]))
    graph.launch(recorded.stream)
    recorded.stream.synchronize()
    assert w.get().tolist() == [-0.75] * 3


def test_other_settings_are_those_of_the_capture(xp):
    recorded = Recorded(xp, "nadam", weight_decay=0.1)
    gpu = recorded.pair.gpu
    gpu.beta_1, gpu.weight_decay, gpu.clipvalue = 0.5, None, 1e-3
    gpu.exclude_from_weight_decay()
    for _ in range(3):
        recorded.step(replays=True)
    recorded.stream.synchronize()
    for actual, expected in zip(recorded.pair.on_gpu, recorded.pair.on_cpu, strict=True):
        assert_same(actual.get(), expected)


@ignores_missing
def test_missing_gradients_stay_missing(xp):
    recorded = Recorded(xp, "rmsprop_momentum", missing=[0, 3], use_ema=True)
    recorded.run("RRER")


def test_two_graphs_of_one_optimizer(xp, schedule):
    recorded = Recorded(xp, "nadam", global_clipnorm=1.0)
    with recorded.stream:
        other = recorded.pair.put(recorded._gradients())
    second = captured(recorded.stream, lambda: recorded.pair.gpu.apply(other))
    graphs = [(recorded.there, recorded.graph), (other, second)]
    for i in (0, 1, 1, 0, 1):
        recorded.there, recorded.graph = graphs[i]
        recorded.step(replays=True)
    recorded.pair.assert_equal()


def test_two_steps_in_one_graph(xp, schedule):
    recorded = Recorded(xp, "nadam", use_ema=True)
    with recorded.stream:
        grads = [np.ones(n, np.float32) for n in SIZES]
        there = recorded.pair.put(grads)
    gpu, cpu = recorded.pair.gpu, recorded.pair.cpu
    graph = captured(recorded.stream, lambda: gpu.apply(there), lambda: gpu.apply(there))
    for _ in range(3):
        graph.launch(recorded.stream)
        cpu.apply(grads)
        cpu.apply(grads)
    recorded.pair.assert_equal()
    assert gpu.iterations == 6


def test_capture_that_is_never_replayed_changes_nothing(xp):
    recorded = Recorded(xp, "nadam", eager=2)
    recorded.graph = None
    recorded.pair.assert_equal()
    recorded.run("EEE")


def test_capture_of_pairs_and_losses(xp):
    recorded = Recorded(xp, "sgd_momentum")
    gpu, pairs = recorded.pair.gpu, [*zip(recorded.there, recorded.pair.on_gpu, strict=True)]
    recorded.graph = captured(recorded.stream, lambda: gpu.apply_gradients(pairs))
    recorded.run("RR")
    variables = recorded.pair.on_gpu
    recorded.graph = captured(
        recorded.stream, lambda: gpu.minimize(lambda: (0.0, recorded.there), variables)
    )
    recorded.run("RR")


def test_replays_on_another_stream(xp, schedule):
    recorded = Recorded(xp, "nadam")
    recorded.stream.synchronize()
    recorded.stream = xp.cuda.Stream(non_blocking=True)
    recorded.run("RRR")


def test_capture_after_steps_on_the_default_stream(cupy):
    w, g = cupy.zeros(3), cupy.ones(3)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    optimizer.apply([g])
    stream = cupy.cuda.Stream(non_blocking=True)
    graph = captured(stream, lambda: optimizer.apply([g]))
    for _ in range(2):
        graph.launch(stream)
    assert optimizer.iterations == 3
    assert w.get().tolist() == [-1.5] * 3


# --- What counts


@pytest.mark.parametrize("rule", ["sgd", "nadam"])
def test_iterations_and_state_are_right_after_replays(xp, rule):
    recorded = Recorded(xp, rule, eager=1)
    gpu, cpu = recorded.pair.gpu, recorded.pair.cpu
    for count in (1, 2, 3):
        recorded.step(replays=True)
        assert gpu.iterations == cpu.iterations == 1 + count
        assert [float(v) for v in gpu.variables[:2]] == [1 + count, 0.1]
        if rule == "nadam":
            assert gpu.variables[-1] == cpu.variables[-1]
        assert gpu.state_dict()["iteration"] == 1 + count
    assert not gpu.get_config()["name"].startswith("_")


def test_number_of_calls_is_that_of_the_host_until_asked(xp):
    recorded = Recorded(xp, "sgd", eager=1)
    gpu, pairs = recorded.pair.gpu, [*zip(recorded.there, recorded.pair.on_gpu, strict=True)]
    recorded.graph.launch(recorded.stream)
    recorded.graph.launch(recorded.stream)
    before = _core.cuda_counts()
    with recorded.stream:
        gpu.apply_gradients(pairs)
        assert difference(before)["synchronizations"] == 0
        assert gpu.iterations == 4
        assert gpu.apply_gradients(pairs) == 5


def test_steps_after_a_capture_do_not_wait(xp):
    recorded = Recorded(xp, "nadam", clipnorm=1.0)
    recorded.step()
    with recorded.stream:
        before = _core.cuda_counts()
        recorded.pair.gpu.apply(recorded.there)
        recorded.pair.gpu.learning_rate = 0.5
        assert recorded.pair.gpu.learning_rate == 0.5
        asked = difference(before)
    assert (asked["synchronizations"], asked["allocations"]) == (0, 0)


def test_state_goes_on_from_replays_to_the_cpu_and_back(xp):
    recorded = Recorded(xp, "nadam", use_ema=True)
    recorded.run("RRR")
    state = recorded.pair.gpu.state_dict()
    values = [w.copy() for w in recorded.pair.on_cpu]
    resumed = ravine.Nadam(**RULES["nadam"][1], use_ema=True)
    resumed.build(values)
    resumed.load_state_dict(state)
    grads = [np.ones(n, np.float32) for n in SIZES]
    resumed.apply(grads)
    recorded.pair.cpu.apply(grads)
    for actual, expected in zip(values, recorded.pair.on_cpu, strict=True):
        assert_same(actual, expected)
    # The graph goes on from the state that is loaded.
    for array, value in zip(recorded.pair.on_gpu, values, strict=True):
        array.set(value)
    recorded.pair.gpu.load_state_dict(resumed.state_dict())
    recorded.pair.assert_equal()
    recorded.run("RERR")


def test_loaded_rate_is_that_of_replays(xp):
    recorded = Recorded(xp, "sgd")
    state = {**recorded.pair.cpu.state_dict(), "learning_rate": np.array(0.75)}
    with recorded.stream:
        recorded.pair.gpu.load_state_dict(state)
    recorded.pair.cpu.load_state_dict(state)
    recorded.run("RR")


def test_averages_after_replays(xp):
    recorded = Recorded(xp, "rmsprop", use_ema=True)
    recorded.run("RRR")
    cpu, gpu = recorded.pair.cpu, recorded.pair.gpu
    with cpu.averaged_weights(), gpu.averaged_weights():
        recorded.pair.assert_equal()
    recorded.run("RR")
    for each in (cpu, gpu):
        each.finalize_variable_values()
    recorded.pair.assert_equal()
