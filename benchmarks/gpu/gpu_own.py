"""Ravine in its ways: eager, with gradients that move, replayed; and its bits."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

from gpu_arrays import ArraySet, sampled
from gpu_cases import Case
from gpu_device import Gpu
from gpu_goals import CACHED, MOVED, OWN
from timing import Contender, Step, in_turn

from ravine import _core

BIT_STEPS = 3
COUNTED_STEPS = 4
# Moved gradients need a second optimizer: only where there is room for that on any GPU.
MOST_BYTES_MOVED = 4 << 30


def different_bits(case: Case, gpu: Gpu) -> list[str]:
    """Step on the CPU and on the GPU; return what is not the same, bit for bit."""
    arrays = sampled(gpu, case.shapes, case.dtype)
    variables = [gpu.host(w) for w in arrays.variables]
    grads = [gpu.host(g) for g in arrays.gradients]
    there, here = case.optimizer(), case.optimizer()
    there.build(arrays.variables)
    here.build(variables)
    for _ in range(BIT_STEPS):
        there.apply(arrays.gradients)
        here.apply(grads)
    gpu.wait()
    wrong = [
        f"variable {i}"
        for i, (w, other) in enumerate(zip(variables, arrays.variables, strict=True))
        if w.tobytes() != gpu.host(other).tobytes()
    ]
    expected = here.state_dict()
    found = there.state_dict()
    return wrong + [key for key in expected if found[key].tobytes() != expected[key].tobytes()]


def counted(step: Step) -> dict[str, float]:
    """Return what one step asks of CUDA, on average."""
    before = _core.cuda_counts()
    in_turn([step], 0, COUNTED_STEPS)
    asked = {name: count - before[name] for name, count in _core.cuda_counts().items()}
    return {name: asked[name] / COUNTED_STEPS for name in ("launches", "allocations")}


def contenders(
    case: Case, sets: list[ArraySet], gpu: Gpu
) -> tuple[list[Contender], dict[str, Any]]:
    """Make ravine in its ways, the plain one first; say what each asks of CUDA, by name."""

    def bound(arrays: ArraySet) -> Any:
        optimizer = case.optimizer()
        optimizer.build(arrays.variables)
        return optimizer

    ways: dict[str, list[Step]] = {OWN: [partial(bound(s).apply, s.gradients) for s in sets]}
    if case.bytes_held < gpu.cache // 2:
        ways[CACHED] = ways[OWN][:1]
    if case.rule == "nadam" and not case.options and case.bytes_held <= MOST_BYTES_MOVED:
        # Gradients that are elsewhere in each step, as those of most frameworks are.
        other = sets[-1] if len(sets) > 1 else ArraySet(gpu, case.shapes, case.dtype)
        optimizer = bound(sets[0])
        turns = cycle([partial(optimizer.apply, s.gradients) for s in (sets[0], other)])
        ways[MOVED] = [lambda: next(turns)()]
    result, counts = [], {}
    for name, steps in ways.items():
        in_turn(steps, 0, 2 * len(steps))
        gpu.wait()
        counts[name] = counted(steps[0])
        launches = max(1, round(counts[name]["launches"]))
        result.append(Contender(name, steps, launches, essential=True))
    return result, counts
