"""One training, with its time split into gradient and update. It knows no particular optimizer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np

from ravine.demo.data import Digits
from ravine.demo.network import Parameters, accuracy, initial_parameters, loss_and_gradients


class Optimizer(Protocol):
    """What the training asks of an optimizer: the part that `ravine` and `plain` share."""

    def build(self, variables: Any, /) -> None:
        """Bind the parameters that `apply` will change."""

    def apply(self, grads: Any, /) -> None:
        """Make one step, in place."""

    def finalize_variable_values(self) -> None:
        """Replace the parameters by their averages."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the images gave; times are the medians over its steps."""

    number: int
    loss: float
    test_accuracy: float
    gradient_ms: float
    update_ms: float


@dataclass(frozen=True)
class Training:
    """The result of one training: the weights of its last step, and times as medians over all."""

    epochs: list[Epoch]
    parameters: Parameters
    averages: Parameters
    test_accuracy: float
    averaged_test_accuracy: float
    gradient_ms: float
    update_ms: float


def train(
    optimizer: Optimizer,
    digits: tuple[Digits, Digits],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> Training:
    """Train the network from the start.

    Parameters
    ----------
    optimizer : Optimizer
        Not built yet. It should keep averages.
    digits : pair of Digits
        To train with, and to test with.
    epochs, batch_size : int
        The last batch of an epoch may be smaller.
    seed : int
        Of the first weights and of the order of the images.
    on_epoch : callable
        Called after each epoch, to show progress; not timed.

    Returns
    -------
    Training
    """
    train_digits, test_digits = digits
    parameters = initial_parameters(seed)
    optimizer.build(parameters)
    shuffle = np.random.default_rng([seed, 1])

    history: list[Epoch] = []
    gradient_times: list[float] = []
    update_times: list[float] = []
    for number in range(1, epochs + 1):
        order = shuffle.permutation(len(train_digits.labels))
        first_step = len(update_times)
        losses = []
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            began = time.perf_counter()
            loss, gradients = loss_and_gradients(
                parameters, train_digits.images[batch], train_digits.labels[batch]
            )
            halfway = time.perf_counter()
            optimizer.apply(gradients)
            ended = time.perf_counter()
            losses.append(loss)
            gradient_times.append(halfway - began)
            update_times.append(ended - halfway)
        history.append(
            Epoch(
                number=number,
                loss=float(np.mean(losses)),
                test_accuracy=accuracy(parameters, *test_digits),
                gradient_ms=1e3 * median(gradient_times[first_step:]),
                update_ms=1e3 * median(update_times[first_step:]),
            )
        )
        on_epoch(history[-1])

    last = {name: w.copy() for name, w in parameters.items()}
    optimizer.finalize_variable_values()
    return Training(
        epochs=history,
        parameters=last,
        averages=parameters,
        test_accuracy=history[-1].test_accuracy,
        averaged_test_accuracy=accuracy(parameters, *test_digits),
        gradient_ms=1e3 * median(gradient_times),
        update_ms=1e3 * median(update_times),
    )
