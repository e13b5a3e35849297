"""The handwritten digits that scikit-learn ships: 1,797 images of 8 by 8 pixels.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49. Nothing is downloaded.
"""

from typing import NamedTuple

import numpy as np

from ravine.demo.extras import import_extra
from ravine.demo.network import Array, Labels


class Digits(NamedTuple):
    """Images of shape (size, 64) with pixels from 0 to 1, and the digit on each."""

    images: Array
    labels: Labels


def load_digits() -> tuple[Digits, Digits]:
    """Read the digits, always split in the same way.

    Returns
    -------
    train, test : Digits
        1,437 and 360 images: each fifth image is kept for the test.

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.
    """
    datasets = import_extra("sklearn.datasets", "scikit-learn", "for its handwritten digits")
    pixels, digits = datasets.load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)  # the scanner counts from 0 to 16
    labels = digits.astype(np.int64)

    held_out = np.arange(len(labels)) % 5 == 0
    return Digits(images[~held_out], labels[~held_out]), Digits(images[held_out], labels[held_out])
