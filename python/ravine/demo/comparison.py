"""The same training with the update in plain NumPy and in `ravine`, and whether they agree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import ravine
from ravine.demo.data import Digits
from ravine.demo.extras import import_extra
from ravine.demo.recipes import RECIPES
from ravine.demo.training import Epoch, Optimizer, Training, train

# How far a final weight, or its average, may lie from the one of plain NumPy. Both round to
# float32, but in another order, so they part in the last bit at once. That grows slowly where the
# training is stable and the network smooth: to 2e-6 at most, for weights around 0.05, over the
# optimizers, ten seeds, batches of 1 to 2,000 and up to 40 epochs. Faults show far above: epsilon
# too large by a tenth gives 7e-4, a beta_2 of 0.9989 gives 3e-4, clipping at 1.001 still 2e-5.
DIFFERENCE_BOUND = 1e-5


@dataclass(frozen=True)
class Result:
    """One training, and how far it ended from plain NumPy, in weights and in averages."""

    name: str
    threads: int | None
    training: Training
    largest_difference: float

    @property
    def update_share(self) -> float:
        """The part of a step that the update takes, from 0 to 1."""
        update_ms = self.training.update_ms
        return update_ms / (self.training.gradient_ms + update_ms)


@dataclass(frozen=True)
class Comparison:
    """The results, plain NumPy first.

    Attributes
    ----------
    bytes_per_step : int
        What an update that touches each array once must move; the measure for GB/s.
    """

    results: list[Result]
    bytes_per_step: int
    difference_bound: float

    @property
    def agrees(self) -> bool:
        """Whether all results lie within the bound. A NaN does not."""
        return all(result.largest_difference <= self.difference_bound for result in self.results)

    @property
    def same_bits(self) -> bool:
        """Whether `ravine` gave the same weights, bit for bit, at each number of threads."""
        _, first, *others = (result.training for result in self.results)
        return all(largest_difference(training, first) == 0 for training in others)


def compare(
    optimizer: str,
    digits: tuple[Digits, Digits],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    threads: int,
    on_start: Callable[[str], None],
    on_epoch: Callable[[Epoch], None],
) -> Comparison:
    """Train with plain NumPy, with `ravine` on one thread, and on all.

    Parameters
    ----------
    optimizer : str
        A key of `RECIPES`.
    digits : pair of Digits
        To train with, and to test with.
    epochs, batch_size, seed : int
        As `train` takes them.
    threads : int
        How many "all" are. At 1 there are two trainings only.
    on_start, on_epoch : callable
        Called before each training with its name, and after each epoch.

    Returns
    -------
    Comparison
    """
    recipe = RECIPES[optimizer]
    rate = recipe.learning_rate_for(batch_size)

    def train_with(make: Callable[..., Optimizer], name: str) -> Training:
        on_start(name)
        return train(
            make(learning_rate=rate, **recipe.arguments),
            digits,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            on_epoch=on_epoch,
        )

    keep_freed_memory()
    threads_before = ravine.get_num_threads()
    # One thread for the gradients in all trainings: matrices this small gain nothing from more, and
    # the idle threads of BLAS spin, which would disturb whichever update runs beside them.
    threadpools = import_extra("threadpoolctl", "threadpoolctl", "to hold the gradients alike")
    try:
        with threadpools.threadpool_limits(1, user_api="blas"):
            reference = train_with(recipe.plain, "plain NumPy")
            results = [Result("plain NumPy", None, reference, 0.0)]
            for count in sorted({1, threads}):
                ravine.set_num_threads(count)
                name = f"ravine, {count} thread{'s' if count > 1 else ''}"
                training = train_with(recipe.ravine, name)
                difference = largest_difference(training, reference)
                results.append(Result(name, count, training, difference))
    finally:
        ravine.set_num_threads(threads_before)

    size = sum(w.size for w in reference.parameters.values())
    return Comparison(results, size * recipe.arrays_moved * 4, DIFFERENCE_BOUND)


def largest_difference(training: Training, reference: Training) -> float:
    """Return the largest absolute difference of a weight or an average; NaN if one is NaN."""
    pairs = [
        (ours[name], theirs[name])
        for ours, theirs in (
            (training.parameters, reference.parameters),
            (training.averages, reference.averages),
        )
        for name in theirs
    ]
    return float(np.max([np.max(np.abs(w - expected)) for w, expected in pairs]))


def keep_freed_memory() -> None:
    """Let the allocator of glibc keep freed memory; elsewhere nothing happens.

    It returns each large temporary to the system, and pays a page fault for each 4 KiB of the next
    one, until a block of up to 32 MiB was freed once. The update in plain NumPy, which makes many,
    takes five times as long before.
    """
    np.empty(31 << 20, np.uint8)
