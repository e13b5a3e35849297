"""The optimizers inside Keras: for ``model.compile`` and ``fit``, with a native step.

Subclasses of Keras's own, on its backends torch and jax, and for steps without ``fit`` on NumPy's.
Importing this registers them: ``model.compile(optimizer="ravine>Nadam")``.
"""

from __future__ import annotations

try:
    import keras as _keras
except ImportError as error:
    raise ImportError(
        f"ravine.keras needs Keras, which cannot be imported ({error}). Install it: "
        "pip install 'ravine[keras]'"
    ) from error

from ravine.keras._optimizers import SGD, Adam, AdamW, Nadam, RMSprop

__all__ = ["SGD", "Adam", "AdamW", "Nadam", "RMSprop"]

del _keras
