"""Train a network on handwritten digits: forward and backward in plain NumPy, the update in ravine.

AdamW with a warm-up, decay of the kernels alone, clipping and averages. Run it with ``python
examples/numpy_training.py``. With ``--checkpoint last.npz`` it saves after each epoch, and goes on
from there when it is run again.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import ravine

LAYERS = (64, 256, 128, 10)
BATCH_SIZE = 64
TEST_SIZE = 360

Weights = dict[str, np.ndarray]


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 digits in an order of chance: pixels from 0 to 1, and labels."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (pixels[order] / 16).astype(np.float32), labels[order]


def initial_weights() -> Weights:
    """Draw kernels of the size that keeps signals as they are, and biases of zero."""
    rng = np.random.default_rng(1)
    weights = {}
    for layer, (inputs, outputs) in enumerate(pairwise(LAYERS), start=1):
        kernel = rng.standard_normal((inputs, outputs), np.float32)
        weights[f"kernel_{layer}"] = kernel * np.float32((2 / inputs) ** 0.5)
        weights[f"bias_{layer}"] = np.zeros(outputs, np.float32)
    return weights


def forward(weights: Weights, images: np.ndarray) -> list[np.ndarray]:
    """Return the signal at each layer: pixels, two hidden layers, logits."""
    signals = [images]
    for layer in range(1, len(LAYERS)):
        signal = signals[-1] @ weights[f"kernel_{layer}"] + weights[f"bias_{layer}"]
        signals.append(np.maximum(signal, 0) if layer < len(LAYERS) - 1 else signal)
    return signals


def loss_and_gradients(
    weights: Weights, images: np.ndarray, labels: np.ndarray
) -> tuple[float, Weights]:
    """Return the cross-entropy of a batch and its gradients."""
    *signals, logits = forward(weights, images)
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    error = np.exp(logits)
    error /= error.sum(axis=1, keepdims=True)
    loss = -np.log(error[rows, labels]).mean()
    error[rows, labels] -= 1
    error /= len(labels)

    gradients = {}
    for layer in range(len(signals), 0, -1):
        signal = signals[layer - 1]
        gradients[f"kernel_{layer}"] = signal.T @ error
        gradients[f"bias_{layer}"] = error.sum(axis=0)
        error = (error @ weights[f"kernel_{layer}"].T) * (signal > 0)
    return float(loss), gradients


def accuracy(weights: Weights, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the images whose digit the network names."""
    return float(np.mean(forward(weights, images)[-1].argmax(axis=1) == labels))


def batches(size: int, epoch: int) -> Iterator[np.ndarray]:
    """Return the indices of each batch, in another order in each epoch."""
    order = np.random.default_rng([2, epoch]).permutation(size)
    for start in range(0, size, BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


def make_optimizer(steps: int) -> ravine.AdamW:
    """Make the optimizer of a training of so many steps."""
    warmup = min(100, steps // 5)
    rate = ravine.schedules.CosineDecay(
        0.0, decay_steps=steps - warmup, warmup_target=2e-3, warmup_steps=warmup
    )
    optimizer = ravine.AdamW(
        rate, weight_decay=0.05, global_clipnorm=1.0, use_ema=True, ema_momentum=0.98
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


# Matrices this small gain nothing from more threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, print a line for each epoch, and return the accuracies."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="in all; default: %(default)s"
    )
    parser.add_argument("--stop", type=int, metavar="N", help="stop after so many of them")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=".npz or .safetensors")
    options = parser.parse_args(arguments)

    images, labels = load()
    test_images, test_labels = images[:TEST_SIZE], labels[:TEST_SIZE]
    images, labels = images[TEST_SIZE:], labels[TEST_SIZE:]
    steps = -(-len(labels) // BATCH_SIZE)  # of an epoch

    weights = initial_weights()
    optimizer = make_optimizer(options.epochs * steps)
    optimizer.build(weights)
    if options.checkpoint and options.checkpoint.exists():
        optimizer.load(options.checkpoint)
        print(f"Going on from {options.checkpoint}, step {optimizer.iterations}")

    result = {"accuracy": 0.0, "averaged": 0.0}
    for epoch in range(optimizer.iterations // steps, options.stop or options.epochs):
        losses = []
        for batch in batches(len(labels), epoch):
            loss, gradients = loss_and_gradients(weights, images[batch], labels[batch])
            optimizer.apply(gradients)
            losses.append(loss)
        result["accuracy"] = accuracy(weights, test_images, test_labels)
        with optimizer.averaged_weights():
            result["averaged"] = accuracy(weights, test_images, test_labels)
        print(
            f"epoch {epoch + 1:3}   loss {np.mean(losses):.4f}   test accuracy "
            f"{result['accuracy']:.4f}, of the averaged weights {result['averaged']:.4f}"
        )
        if options.checkpoint:
            optimizer.save(options.checkpoint)
    return result


if __name__ == "__main__":
    main()
