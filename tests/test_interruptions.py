"""What comes between: interrupts, warnings that are errors, other threads, calls within calls."""

import linecache
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checks import config_and
from own_rules import OwnSGD

import ravine


def test_interrupt_leaves_whole_steps():
    random = np.random.default_rng(1)
    start = random.normal(size=1 << 22).astype(np.float32)
    g = random.normal(size=1 << 22).astype(np.float32)
    w = start.copy()
    optimizer = ravine.Nadam(0.1)
    optimizer.build([w])
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for delay in (1e-4, 1e-3, 3e-3):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)  # it may ring at once
                while True:
                    optimizer.apply([g])
            except KeyboardInterrupt:
                continue
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    undisturbed, same = ravine.Nadam(0.1), start.copy()
    for _ in range(optimizer.iterations):
        undisturbed.apply([g], [same])
    assert optimizer.iterations > 0
    assert optimizer.variables[-1] == undisturbed.variables[-1]
    assert w.tobytes() == same.tobytes()


def stopped_at(line, call):
    """Call something, stop it at a line of ravine; return whether it came that far.

    Not at the word `try`, where Python does not look for interrupts.
    """
    package = str(Path(ravine.__file__).parent)
    left = line

    def trace(frame, event, _):
        nonlocal left
        code = frame.f_code
        if not code.co_filename.startswith(package):
            return None
        text = linecache.getline(code.co_filename, frame.f_lineno)
        if event == "line" and text.strip() != "try:":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def variables():
    return [np.linspace(1, 2, 3), np.ones(2), np.linspace(0, 1, 4)]


def show_averages(optimizer, w):
    with optimizer.averaged_weights():
        pass


STOPPED = {
    "exclusions": (
        lambda o, w: o.exclude_from_weight_decay([w[0], w[2]]),
        lambda: ravine.SGD(0.5, weight_decay=0.5),
    ),
    "multipliers": (
        lambda o, w: o.set_multipliers([w[0], w[2]], learning_rate=0.5),
        lambda: ravine.SGD(0.5),
    ),
    "block": (show_averages, lambda: ravine.SGD(0.5, use_ema=True)),
    "own_rule": (
        lambda o, w: o.apply([np.ones(v.shape) for v in w]),
        lambda: OwnSGD(0.5, momentum=0.5),
    ),
}


@pytest.mark.parametrize(("call", "make"), STOPPED.values(), ids=STOPPED)
def test_interrupt_at_a_line_finds_all_or_nothing(call, make):
    def started():
        optimizer, w = make(), variables()
        for _ in range(2):
            optimizer.apply([np.ones(v.shape) for v in w], w)
        return optimizer, w

    def seen(optimizer, w):
        now = config_and(optimizer, *w)
        optimizer.apply([np.ones(v.shape) for v in w])  # by what the plan knows
        return now, config_and(optimizer, *w)

    optimizer, w = started()
    call(optimizer, w)
    allowed = [seen(*started()), seen(optimizer, w)]
    came, line = True, 0
    while came:
        line += 1
        optimizer, w = started()
        came = stopped_at(line, lambda: call(optimizer, w))  # noqa: B023
        assert seen(optimizer, w) in allowed
    assert line > 10


@pytest.mark.parametrize("stop", ["open", "write"])
def test_interrupted_save_is_an_interrupt(stop, tmp_path, monkeypatch):
    optimizer = ravine.SGD()
    optimizer.build([np.ones(2)])

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    class Entry(zipfile.ZipFile):
        def open(self, *arguments, **options):
            self.entry = super().open(*arguments, **options)
            raise KeyboardInterrupt

    if stop == "open":
        monkeypatch.setattr("ravine._npz.ZipFile", Entry)
    else:
        monkeypatch.setattr("ravine._npz.write_elements", interrupt)
    with pytest.raises(KeyboardInterrupt):
        optimizer.save(tmp_path / "last.npz")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("built", [False, True])
def test_warning_that_is_an_error_changes_nothing(built):
    w = [np.ones(2), np.ones(2)]
    optimizer = ravine.SGD(0.5, momentum=0.5)
    if built:
        optimizer.build(w)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="no gradient"):
            optimizer.apply([np.ones(2), None], w)
    assert optimizer.iterations == 0
    assert optimizer.built == built
    assert all((array == 1).all() for array in w)


def test_rate_that_steps_itself_and_then_raises_keeps_its_step():
    w, g = np.ones(2), np.ones(2)
    optimizer = ravine.SGD(0.5, momentum=0.5)

    def rate():
        optimizer.learning_rate = 0.25
        optimizer.apply([g], [w])
        raise RuntimeError("after a step")

    optimizer.learning_rate = rate
    with pytest.raises(RuntimeError, match="after a step"):
        optimizer.apply([g], [w])
    assert (optimizer.built, optimizer.iterations, w.tolist()) == (True, 1, [0.75, 0.75])


def test_array_that_steps_while_it_is_looked_at_does_not_hang():
    w = np.ones(2)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])

    class Stepping(np.ndarray):
        def __array_finalize__(self, other):
            pass

        def __del__(self):
            optimizer.apply([np.ones(2)])

    optimizer.apply([np.ones(2).view(Stepping)])
    assert optimizer.iterations == 2


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: ravine.SGD(0.1), ("momentum", 0.5)),
        (lambda: ravine.RMSprop(0.1), ("centered", True)),
        (lambda: ravine.Nadam(0.1), ("use_ema", True)),
        (lambda: ravine.Nadam(0.1), ("gradient_accumulation_steps", 3)),
    ],
)
def test_setting_refused_in_another_thread_never_reaches_a_step(make, change):
    w, g = np.ones(5000, np.float32), np.full(5000, 1e-3, np.float32)
    optimizer = make()
    optimizer.build([w])
    end = time.monotonic() + 0.5
    refused = []

    def disturb():
        while time.monotonic() < end:
            try:
                setattr(optimizer, *change)
            except ValueError:
                refused.append(1)

    thread = threading.Thread(target=disturb)
    thread.start()
    while time.monotonic() < end:
        optimizer.apply([g])
    thread.join()
    assert refused
    assert optimizer.iterations > 0


def test_setting_accepted_during_a_step_is_kept():
    w, g = np.ones(1 << 22, np.float32), np.ones(1 << 22, np.float32)
    optimizer = ravine.Nadam(0.1)
    optimizer.build([w])
    thread = threading.Thread(target=lambda: [optimizer.apply([g]) for _ in range(5)])
    thread.start()
    time.sleep(0.005)
    optimizer.beta_1 = 0.5
    thread.join()
    assert optimizer.beta_1 == 0.5


def test_state_is_that_of_whole_steps():
    w, g = np.ones(1 << 21, np.float32), np.ones(1 << 21, np.float32)
    optimizer = ravine.SGD(0.1, momentum=0.9)
    optimizer.build([w])
    stop = threading.Event()

    def step():
        while not stop.is_set():
            optimizer.apply([g])

    thread = threading.Thread(target=step)
    thread.start()
    states = [optimizer.state_dict() for _ in range(8)]
    stop.set()
    thread.join()
    assert all(len(np.unique(state["momentum/variable_0"])) == 1 for state in states)


def test_other_threads_run_during_a_step():
    w, g = np.ones(1 << 24, np.float32), np.ones(1 << 24, np.float32)
    optimizer = ravine.Nadam(0.1)
    optimizer.build([w])
    optimizer.apply([g])
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    optimizer.apply([g])
    end = time.monotonic()
    done.set()
    thread.join()
    inside = [t for t in ticks if begin + 0.2 * (end - begin) < t < end - 0.2 * (end - begin)]
    assert len(inside) > 10


def test_exit_while_a_daemon_thread_steps_is_clean():
    code = """
import threading, time, numpy as np, ravine
w, g = np.ones(1 << 20, np.float32), np.ones(1 << 20, np.float32)
optimizer = ravine.Nadam(0.1)
optimizer.build([w])
def loop():
    while True:
        optimizer.apply([g])
threading.Thread(target=loop, daemon=True).start()
time.sleep(0.1)
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("change", ["read-only", "grown", "shrunk"])
def test_variable_changed_behind_the_back_is_refused(change):
    w, other = np.ones(1000), np.ones(3)
    optimizer = ravine.SGD(0.5)
    optimizer.build([other, w])
    g = np.ones(1000)
    if change == "grown":
        w.resize(100_000, refcheck=False)
    elif change == "shrunk":
        w.resize(999, refcheck=False)  # it stays where it is
    else:
        w.flags.writeable = False
    message = r"^Variable 1 \('variable_1'\) was resized or made read-only after build\(\)"
    with pytest.raises(ValueError, match=message):
        optimizer.apply([np.ones(3), g])
    assert (other == 1).all()
    assert optimizer.iterations == 0


def test_bfloat16_scalar_is_a_gradient_of_a_variable_without_axes():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    w = np.array(1, ml_dtypes.bfloat16)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    optimizer.apply([w * 1])
    assert w == 0.5


def test_columns_of_a_matrix_are_variables_of_their_own():
    matrix = np.ones((1000, 1000), np.float32)
    optimizer = ravine.SGD(1.0)
    begin = time.monotonic()
    optimizer.build([matrix[:, i] for i in range(1000)])
    assert time.monotonic() - begin < 20  # listing the elements took minutes
    optimizer.apply([np.full(1000, float(i)) for i in range(1000)])
    assert (matrix == 1 - np.arange(1000)).all()


def test_variable_with_elements_on_top_of_each_other_is_refused_at_once():
    w = np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 40,), (0,))
    with pytest.raises(ValueError, match="share memory with each other"):
        ravine.SGD().build([w])
