"""The warning that some variables have no gradient, given once for an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from ravine._buildable import Buildable


class MissingGradients:
    """Called by a plan with gradients of which some are None, before anything is written.

    It does not keep the optimizer that keeps it: of such a circle all arrays would stay until the
    garbage collector comes by.
    """

    def __init__(self, optimizer: Buildable) -> None:
        self._optimizer = ref(optimizer)

    def __call__(self, grads: list[Any]) -> None:
        optimizer = self._optimizer()
        assert optimizer is not None
        optimizer._warn_about_missing(grads)
