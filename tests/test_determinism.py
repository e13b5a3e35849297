"""The same bits for each instruction set, number of threads, process and floating-point mode.

Run as a program it prints a hash of the results of many steps, for one instruction set.
"""

import ctypes
import json
import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from checks import DTYPES, RULES, assert_same, each_rule, make, normal

import ravine

OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 1.0, "weight_decay": 0.1},
    "global_clipnorm": {"global_clipnorm": 3.0, "loss_scale_factor": 3.0},
    "clipvalue_ema": {"clipvalue": 0.5, "use_ema": True, "ema_momentum": 0.9},
    "all": {
        "weight_decay": 0.1,
        "global_clipnorm": 1.0,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 3.0,
        "gradient_accumulation_steps": 2,
    },
}
THREADS = [1, 2, 7]
# Above what keeps a loop on one thread: 4 MiB of gradients in float32 are read for a norm.
SIZES = [600_001, 300_007, 0, 5, 400_000, 131]

x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86-64 processor"
)


def large_model(dtype=None):
    """Return variables and two lists of gradients, of all types or of one."""
    random = np.random.default_rng(24)
    types = DTYPES if dtype is None else [dtype]
    variables = [normal(random, n, types[i % len(types)]) for i, n in enumerate(SIZES)]
    gradients = [
        [normal(random, n, types[(i + step) % len(types)]) for i, n in enumerate(SIZES)]
        for step in (1, 2)
    ]
    return variables, gradients


def hash_of(optimizer, variables):
    result = 0
    for array in [*variables, *optimizer.variables]:
        # Without NaN, which NaN it would be is not specified.
        assert np.isfinite(array).all()
        result = zlib.crc32(np.ascontiguousarray(array).view(np.uint8), result)
    return result


def print_hashes():
    """Print the hash of every rule with every set of options, for each number of threads."""
    start, gradients = large_model()
    result = {"isa": ravine.instruction_set()}
    for threads in THREADS:
        ravine.set_num_threads(threads)
        for rule in RULES:
            for option, arguments in OPTIONS.items():
                variables = [w.copy() for w in start]
                optimizer = make(rule, **arguments)
                optimizer.build(variables)
                for g in gradients * 2:
                    optimizer.apply(g)
                optimizer.finalize_variable_values()
                result[f"{rule}, {option}, {threads}"] = hash_of(optimizer, variables)
    print(json.dumps(result))


def start_program(isa):
    return subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, "RAVINE_ISA": isa},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def hashes():
    """Return the hashes by instruction set; those that the machine lacks are missing."""
    names = ["v2", "v3", "v4"] if platform.machine() in ("x86_64", "AMD64") else ["baseline"]
    found = {}
    for name in names:
        process = start_program(name)
        output, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            found[name] = json.loads(output)
            assert found[name].pop("isa") == name
        else:
            assert f'RAVINE_ISA is "{name}", which this machine or build lacks.' in errors
    assert names[0] in found
    return found


@pytest.mark.parametrize("option", OPTIONS)
@each_rule
def test_instruction_sets_and_threads_get_the_same_bits(hashes, rule, option):
    each = [
        by_case[f"{rule}, {option}, {threads}"]
        for by_case in hashes.values()
        for threads in THREADS
    ]
    assert len(set(each)) == 1


def test_hashes_tell_cases_apart(hashes):
    for by_case in hashes.values():
        assert len(set(by_case.values())) == len(RULES) * len(OPTIONS)


def test_unknown_instruction_set_is_an_error():
    code = "import ravine; ravine.instruction_set()"
    for wanted in ("v5", "V3", "avx2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "RAVINE_ISA": wanted},
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        message = done.stderr.strip().splitlines()[-1]
        assert message.startswith(
            f'RuntimeError: RAVINE_ISA is "{wanted}", which this machine or build lacks. '
            "Unset it or set it to one of: "
        )


@pytest.fixture
def restore_threads():
    threads = ravine.get_num_threads()
    yield
    ravine.set_num_threads(threads)


def train(rule, dtype=None, steps=2, **options):
    variables, gradients = large_model(dtype)
    optimizer = make(rule, **options)
    optimizer.build(variables)
    for step in range(steps):
        optimizer.apply(gradients[step % 2])
    return optimizer, variables


def test_threads_are_really_used(restore_threads):
    ravine.set_num_threads(5)
    train("nadam")
    assert len(os.listdir("/proc/self/task")) >= 5
    assert ravine.get_num_threads() == 5


# --- Floating-point mode: set by machine code, since Python has no way to it


@pytest.fixture
def control_register():
    """Return functions that read and write MXCSR, the mode of SSE and AVX, of this thread."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory[0:4] = bytes.fromhex("0fae1fc3")  # stmxcsr [rdi]; ret
    memory[16:20] = bytes.fromhex("0fae17c3")  # ldmxcsr [rdi]; ret
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    function = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
    value = ctypes.c_uint32()

    def read():
        function(address)(value)
        return value.value

    def write(mode):
        value.value = mode
        function(address + 16)(value)

    before = read()
    yield read, write
    write(before)
    del view


@x86_only
@pytest.mark.parametrize("size", [100, 700_000])
@pytest.mark.parametrize(
    "mode", [0x9FC0, 0x3F80, 0x5F80], ids=["flushes_to_zero", "rounds_down", "rounds_up"]
)
def test_mode_of_the_caller_changes_no_bit(control_register, restore_threads, size, mode):
    read, write = control_register
    ravine.set_num_threads(3)
    g = np.tile(np.array([3e-42, 1 / 3, 1e-20, -1e-39], np.float32), size // 4)
    results = []
    for current in (0x1F80, mode):
        # One register of its own a thread: the workers of an old pool keep theirs.
        ravine.set_num_threads(2 if current == mode else 3)
        w = np.zeros_like(g)
        optimizer = ravine.SGD(0.1, momentum=0.9, global_clipnorm=100.0, use_ema=True)
        optimizer.build([w])
        write(current)
        flushed = float(g[0] * np.float32(0.5))
        for _ in range(3):
            optimizer.apply([g])
        optimizer.finalize_variable_values()
        left = read()
        write(0x1F80)
        assert left & 0xFFC0 == current & 0xFFC0
        assert (flushed == 0) == (current == 0x9FC0)
        results.append([w, *optimizer.variables])
    for expected, actual in zip(*results, strict=True):
        assert_same(actual, expected)
    assert np.count_nonzero(results[1][0]) == len(g)


# --- Processes and threads of the caller


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_steps_and_gets_the_same_bits(restore_threads):
    ravine.set_num_threads(4)
    optimizer, variables = train("nadam", use_ema=True, steps=3)
    expected = hash_of(optimizer, variables)
    train("nadam", steps=1)
    with warnings.catch_warnings():
        # Newer versions of Python, and JAX, if another test has started it, warn of forks where
        # threads are: it is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        status = 1
        try:
            same = hash_of(*train("nadam", use_ema=True, steps=3)) == expected
            status = 0 if same and len(os.listdir("/proc/self/task")) == 4 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hash_of(*train("nadam", use_ema=True, steps=3)) == expected


def run_together(*functions):
    """Call functions at the same time, each in a thread of its own."""
    barrier, failures = threading.Barrier(len(functions)), []

    def call(function):
        barrier.wait()
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert failures == []


def test_two_threads_step_two_optimizers(restore_threads):
    ravine.set_num_threads(3)
    alone = [hash_of(*train(rule, steps=6)) for rule in ("nadam", "rmsprop_momentum")]
    together = {}
    run_together(
        lambda: together.update(a=hash_of(*train("nadam", steps=6))),
        lambda: together.update(b=hash_of(*train("rmsprop_momentum", steps=6))),
    )
    assert [together["a"], together["b"]] == alone


@pytest.mark.parametrize("rule", ["sgd_momentum", "nadam"])
def test_two_threads_step_one_optimizer(restore_threads, rule):
    ravine.set_num_threads(3)
    results = []
    # Large, so that a second step begins while the first runs.
    g = np.full(3_000_000, 0.3, np.float32)
    for threads in (1, 2):
        w = np.ones_like(g)
        optimizer = make(rule)
        optimizer.build([w])

        def step(optimizer=optimizer, count=8 // threads):
            for _ in range(count):
                optimizer.apply([g])

        run_together(*[step] * threads)
        assert optimizer.iterations == 8
        results.append([w, *optimizer.variables])
    for expected, actual in zip(*results, strict=True):
        assert_same(actual, expected)


if __name__ == "__main__":
    print_hashes()
