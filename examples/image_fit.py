"""Fit a network to a photograph: given the place of a pixel, it answers with its colour.

The place enters as sines and cosines of random frequencies, without which such networks blur
(Tancik et al., 2020, https://arxiv.org/abs/2006.10739). Run it with ``python examples/image_fit.py
--plot fit.png``: in 20 epochs it reaches a PSNR of 28 dB. On a GPU it also checks that the CPU gets
the same bits.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from devices import CPU, Arrays, Device, Mirrored, add_device_option, choose
from threadpoolctl import threadpool_limits

import ravine
from ravine.demo.cli import picture_path, positive
from ravine.demo.extras import import_extra
from ravine.demo.picture import require_matplotlib

FREQUENCIES, FREQUENCY_SCALE = 128, 16.0  # in radians per half the height of the picture
LAYERS = (2 * FREQUENCIES, 128, 128, 3)
BATCH_SIZE = 512


def load_photograph() -> np.ndarray:
    """Return the middle of scikit-learn's photograph of a temple: 96 by 128 pixels from 0 to 1."""
    datasets = import_extra("sklearn.datasets", "scikit-learn", "for its photograph")
    pixels = datasets.load_sample_image("china.jpg")[21:405, 64:576] / np.float32(255)
    return pixels.reshape(96, 4, 128, 4, 3).mean(axis=(1, 3))


def features(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return what the network is told about each pixel, row by row."""
    rows, columns = np.mgrid[0:height, 0:width] / (height / 2) - 1
    places = np.stack([rows.ravel(), columns.ravel()], axis=1)
    phases = places @ rng.normal(scale=FREQUENCY_SCALE, size=(2, FREQUENCIES))
    return np.concatenate([np.sin(phases), np.cos(phases)], axis=1).astype(np.float32)


def initial_parameters(rng: np.random.Generator) -> Arrays:
    """Draw the weights that the fit starts from."""
    parameters = {}
    for layer, (inputs, outputs) in enumerate(pairwise(LAYERS), start=1):
        kernel = rng.normal(scale=(2 / inputs) ** 0.5, size=(inputs, outputs))
        parameters[f"kernel_{layer}"] = kernel.astype(np.float32)
        parameters[f"bias_{layer}"] = np.zeros(outputs, np.float32)
    return parameters


def forward(parameters: Arrays, inputs: Any) -> list[Any]:
    """Compute the signal at each layer: the features, the hidden layers, the colours."""
    signals = [inputs]
    for layer in range(1, len(LAYERS)):
        signal = signals[-1] @ parameters[f"kernel_{layer}"] + parameters[f"bias_{layer}"]
        signals.append(np.maximum(signal, 0) if layer < len(LAYERS) - 1 else signal)
    return signals


def gradients(parameters: Arrays, inputs: Any, colours: Any) -> Arrays:
    """Compute the gradients of the mean square error of a batch."""
    *signals, output = forward(parameters, inputs)
    error = (output - colours) * (2 / colours.size)
    result = {}
    for layer in range(len(signals), 0, -1):
        signal = signals[layer - 1]
        result[f"kernel_{layer}"] = signal.T @ error
        result[f"bias_{layer}"] = error.sum(axis=0)
        if layer > 1:
            error = (error @ parameters[f"kernel_{layer}"].T) * (signal > 0)
    return result


def nadam(pixels: int, epochs: int) -> ravine.Nadam:
    """Make the optimizer: its learning rate falls to zero at the end."""
    steps = epochs * -(-pixels // BATCH_SIZE)
    return ravine.Nadam(ravine.schedules.CosineDecay(0.01, decay_steps=steps))


def fit(optimizer: Any, photograph: np.ndarray, device: Device, epochs: int) -> list[np.ndarray]:
    """Fit from the start; return the picture that the network makes after each epoch."""
    rng = np.random.default_rng(0)
    inputs = device.put(features(*photograph.shape[:2], rng))
    colours = device.put(photograph.reshape(-1, 3))
    parameters = {name: device.put(w) for name, w in initial_parameters(rng).items()}
    optimizer.build(parameters)
    pictures = []
    for _ in range(epochs):
        order = device.put(rng.permutation(len(colours)))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.apply(gradients(parameters, inputs[batch], colours[batch]))
        output = device.get(forward(parameters, inputs)[-1])
        pictures.append(output.clip(0, 1).reshape(photograph.shape))
    return pictures


def psnr(picture: np.ndarray, photograph: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of a picture in decibels."""
    return float(-10 * np.log10(np.mean((picture - photograph) ** 2)))


def draw(
    photograph: np.ndarray, pictures: list[np.ndarray], ratios: list[float], path: Path
) -> None:
    """Draw the photograph, the network's pictures after some epochs, and the PSNR of all."""
    figures = import_extra("matplotlib.figure", "matplotlib", "to draw the plot")
    shown = sorted({1, min(3, len(pictures)), len(pictures)})
    titled = {"photograph": photograph}
    titled |= {f"epoch {n}: {ratios[n - 1]:.1f} dB": pictures[n - 1] for n in shown}

    figure = figures.Figure(figsize=(12, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(6, 5))
    places = above.subplots(1, len(titled))
    for place, (title, picture) in zip(places, titled.items(), strict=True):
        place.imshow(picture)
        place.set_title(title)
        place.set_axis_off()
    curve = below.subplots()
    curve.plot(range(1, len(ratios) + 1), ratios, color="#14375e")
    curve.plot(shown, [ratios[n - 1] for n in shown], "o", color="#f4b860", markersize=9)
    curve.set(xlabel="epoch (passes over the pixels)", ylabel="PSNR (dB)")
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


# Matrices this small gain nothing from more threads, and those that idle disturb the update.
@threadpool_limits.wrap(limits=1, user_api="blas")
def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Fit, print the PSNR by epoch, and return it."""
    parser = ArgumentParser(description=__doc__)
    add_device_option(parser)
    parser.add_argument(
        "--epochs", type=positive, default=20, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--plot", type=picture_path, metavar="FILE", help="draw the pictures")
    options = parser.parse_args(arguments)
    if options.plot:
        require_matplotlib()
    device, photograph, epochs = choose(options.device), load_photograph(), options.epochs
    pixels = photograph.size // 3

    print(f"Nadam on {pixels} pixels, {device.name}")
    pictures = fit(nadam(pixels, epochs), photograph, device, epochs)
    ratios = [psnr(picture, photograph) for picture in pictures]
    for number, ratio in enumerate(ratios, start=1):
        print(f"epoch {number:3}   PSNR {ratio:5.2f} dB")
    if options.plot:
        draw(photograph, pictures, ratios, options.plot)
        print(f"Drawn: {options.plot}")

    same = None
    if device.is_gpu:
        both = Mirrored(nadam(pixels, epochs), nadam(pixels, epochs), device)
        fit(both, photograph, CPU, epochs)
        same = both.report_bits()
    return {"psnr": ratios, "same_bits": same}


if __name__ == "__main__":
    raise SystemExit(main()["same_bits"] is False)
