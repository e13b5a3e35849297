"""Many threads of Python at once: steps are whole and in some order, and so is what is read.

With or without the interpreter's lock: nothing here knows which.
"""

import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import numpy as np
import pytest

import ravine

THREADS, STEPS = 4, 50
MAKE = {
    "sgd": lambda: ravine.SGD(0.1, momentum=0.9),
    "rmsprop": lambda: ravine.RMSprop(0.1, momentum=0.9, centered=True),
    "nadam": lambda: ravine.Nadam(0.1, use_ema=True, global_clipnorm=1.0),
    "adam": lambda: ravine.Adam(lambda: 0.1, beta_1=lambda: 0.8, weight_decay=0.1),
    "accumulating": lambda: ravine.AdamW(0.1, gradient_accumulation_steps=4),
    "scaled": lambda: ravine.LossScaleOptimizer(ravine.Nadam(0.1), dynamic_growth_steps=3),
    "own": lambda: Own(0.1),
}


class Own(ravine.Optimizer):
    def build(self, variables):
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        self.assign(velocity, 0.5 * velocity - gradient * np.float32(learning_rate))
        self.assign_add(variable, velocity)


def variables():
    return [np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4), np.ones(5)]


def gradients():
    return [np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), np.full(5, 0.5)]


def together(*functions):
    """Run functions on threads that begin at the same time; return what they return."""
    barrier = Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


@pytest.fixture(autouse=True)
def switch_often():
    """Let threads with an interpreter's lock take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python"
)
def test_importing_leaves_the_gil_off():
    assert not sys._is_gil_enabled()


@pytest.mark.parametrize("kind", MAKE)
def test_threads_step_one_optimizer_in_turn(kind):
    alone, w = MAKE[kind](), variables()
    for _ in range(THREADS * STEPS):
        alone.apply(gradients(), w)
    shared, shared_w = MAKE[kind](), variables()

    def step():  # the first builds
        for _ in range(STEPS):
            shared.apply(gradients(), shared_w)

    together(*[step] * THREADS)

    assert shared.iterations == alone.iterations
    for ours, expected in zip([*shared_w, *shared.variables], [*w, *alone.variables], strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("size", [100, 1 << 19])
def test_threads_step_optimizers_of_their_own(size):
    """Also above the size from which a step is shared out to the pool, which is one for all."""
    gradient = np.linspace(-1, 1, size, dtype=np.float32)

    def train():
        w = np.ones(size, np.float32)
        optimizer = ravine.Nadam(0.1, global_clipnorm=1.0)
        for _ in range(10):
            optimizer.apply([gradient], [w])
        return w

    expected = train()
    for w in together(*[train] * THREADS):
        np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("kind", ["nadam", "own", "scaled"])
def test_a_state_is_that_of_one_step(kind):
    optimizer, w = MAKE[kind](), variables()
    optimizer.build(w)
    states, stop = {}, Event()

    def step():
        for _ in range(THREADS * STEPS):
            optimizer.apply(gradients())
        stop.set()

    def look():
        while not stop.is_set():
            state = optimizer.state_dict()
            states[int(state["iteration"])] = state

    together(step, look, look)

    again, w = MAKE[kind](), variables()
    again.build(w)
    assert max(states) <= THREADS * STEPS
    for iteration in range(THREADS * STEPS + 1):
        if iteration in states:
            expected = again.state_dict()
            assert states[iteration].keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(states[iteration][key], value)
        again.apply(gradients())


def test_settings_are_whole():
    optimizer, w = ravine.SGD(0.1), variables()
    optimizer.build(w)
    seen, counts, stop = set(), [], Event()

    def step():
        for _ in range(STEPS):
            optimizer.apply(gradients())

    def change():
        for value in [None, 0.5, 0.25] * 500:
            optimizer.weight_decay = value
            optimizer.clipvalue = value
        stop.set()

    def read():
        while not stop.is_set():
            seen.update([optimizer.weight_decay, optimizer.clipvalue])
            counts.append(optimizer.iterations)

    together(step, change, read)
    assert seen <= {None, 0.5, 0.25}
    assert counts == sorted(counts)
    assert optimizer.iterations == STEPS


def test_only_one_of_two_builds_is_made():
    optimizer, given = ravine.SGD(0.1), [variables() for _ in range(THREADS)]

    def build(w):
        try:
            optimizer.build(w)
        except ValueError as error:
            return str(error)
        return None

    errors = together(*[lambda w=w: build(w) for w in given])
    (built,) = (w for w, error in zip(given, errors, strict=True) if error is None)
    others = [error for error in errors if error is not None]
    assert all(error.startswith("This optimizer was built for the variables") for error in others)
    optimizer.apply(gradients())
    for w in given:
        assert (w[1] == (0.95 if w is built else 1)).all()
