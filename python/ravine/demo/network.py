"""A small classifier in plain NumPy: 64 pixels, two hidden layers of 512, 10 digits.

The network knows nothing of optimizers, so that the same training can be run with any of them, and
nothing of where its arrays are: given those of CuPy, NumPy's functions call CuPy's.

The hidden layers are ELU, x for x > 0 and exp(x) - 1 otherwise (Clevert et al., 2016), because
trainings are to be compared. The slope of ReLU jumps at zero: where one rounding carries a neuron
across, the difference grows ten thousand times. The slope of ELU is continuous.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Parameters = dict[str, Array]

LAYERS = (64, 512, 512, 10)
"""Neurons of each layer, from the pixels to the digits."""


def initial_parameters(seed: int) -> Parameters:
    """Draw the weights that a training starts from.

    Parameters
    ----------
    seed : int
        The same seed gives the same weights.

    Returns
    -------
    dict of str to float32 array
        ``kernel_1``, ``bias_1`` and so on: normal with variance 2 / inputs, the scale at which
        such layers keep the size of their signal (He et al., 2015), and zero.
    """
    generator = np.random.default_rng([seed, 0])
    parameters = {}
    for layer, (inputs, outputs) in enumerate(pairwise(LAYERS), start=1):
        kernel = generator.standard_normal((inputs, outputs), dtype=np.float32)
        parameters[f"kernel_{layer}"] = kernel * np.float32(math.sqrt(2 / inputs))
        parameters[f"bias_{layer}"] = np.zeros(outputs, np.float32)
    return parameters


def forward(parameters: Parameters, images: Array) -> list[Array]:
    """Compute the signal at each layer: the images, the hidden layers, the logits."""
    signals = [images]
    last = len(LAYERS) - 1
    for layer in range(1, last + 1):
        signal = signals[-1] @ parameters[f"kernel_{layer}"]
        signal += parameters[f"bias_{layer}"]
        if layer < last:
            signal = np.maximum(signal, np.expm1(np.minimum(signal, 0)))
        signals.append(signal)
    return signals


def loss_and_gradients(
    parameters: Parameters, images: Array, labels: Labels
) -> tuple[float, Parameters]:
    """Compute the mean cross-entropy of a batch and its gradients.

    Parameters
    ----------
    parameters : dict of str to float32 array
        From `initial_parameters`; not changed.
    images : float32 array, shape (batch, 64)
    labels : int64 array, shape (batch,)
        The digit on each image.

    Returns
    -------
    loss : float
    gradients : dict of str to float32 array
        With the names, the order and the shapes of `parameters`.
    """
    *signals, logits = forward(parameters, images)
    rows = np.arange(len(labels), like=labels)

    logits -= logits.max(axis=1, keepdims=True)
    probabilities = np.exp(logits)
    sums = probabilities.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - logits[rows, labels]))

    # The gradient of cross-entropy after softmax is the probabilities less the one-hot labels.
    probabilities /= sums
    probabilities[rows, labels] -= 1
    probabilities /= len(labels)
    error: Array = probabilities

    gradients: Parameters = {}
    for layer in range(len(signals), 0, -1):
        signal = signals[layer - 1]
        gradients[f"kernel_{layer}"] = signal.T @ error
        gradients[f"bias_{layer}"] = error.sum(axis=0)
        if layer > 1:
            # The slope of ELU from its value: 1 above zero, exp(x) = value + 1 below.
            error = (error @ parameters[f"kernel_{layer}"].T) * (
                np.minimum(signal, np.float32(0)) + 1
            )
    return loss, {name: gradients[name] for name in parameters}


def accuracy(parameters: Parameters, images: Array, labels: Labels) -> float:
    """Return the share of images whose digit the network names."""
    digits = forward(parameters, images)[-1].argmax(axis=1)
    return float(np.mean(digits == labels))
