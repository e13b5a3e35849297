"""The values of Keras's variables on its torch backend: tensors, which keep their place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import torch

from ravine._tensors import TensorPlan
from ravine.keras._copies import Copies
from ravine.keras._host import OnHost

outside_of_graphs = torch.compiler.disable  # torch.compile must not look into a native step


def copy(value: Any) -> Any:
    """Return a tensor with the same elements and memory of its own."""
    return value.detach().clone()


class Bound(OnHost, TensorPlan):
    """A plan over the values of variables.

    Parameters
    ----------
    names : sequence of str
    variables, slots, averages, accumulators
        As `TensorPlan` takes them, of variables.
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: list[Any],
        slots: list[list[Any]],
        averages: list[Any] | None,
        accumulators: list[Any] | None,
    ) -> None:
        self._scalars: dict[int, _Scalar] = {}
        groups = variables, *slots, averages, accumulators
        tensors = [None if group is None else [v.value for v in group] for group in groups]
        super().__init__(names, tensors[0] or [], [t or [] for t in tensors[1:-2]], *tensors[-2:])

    def gradient(self, index: int, grad: Any) -> Any:
        """Return the gradient of a variable as `step` takes it."""
        if not isinstance(grad, torch.Tensor):
            grad = keras.ops.convert_to_tensor(grad)
        return super().gradient(index, grad)

    def number(self, variable: Any) -> float:
        """Return the number that a variable without axes holds."""
        return self._scalar_of(variable).read()

    def set_number(self, variable: Any, number: float) -> None:
        """Set the number that a variable without axes holds, rounded to its type."""
        self._scalar_of(variable).write(number)

    def _scalar_of(self, variable: Any) -> _Scalar:
        known = self._scalars.get(id(variable))
        if known is None:
            known = self._scalars[id(variable)] = _Scalar(variable)
        return known


Stateless = partial(Copies, Bound, copy)


class _Scalar:
    """A tensor without axes. On a GPU it is read only if something else has written it."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable  # kept alive, so that its id stays its own
        self._tensor = variable.value
        self._version: int | None = None
        self._known: float = 0

    def read(self) -> float:
        tensor = self._tensor
        if tensor.is_cpu:
            number: float = tensor.item()
            return number
        if tensor._version != self._version:
            self._known = tensor.item()  # waits for the device
            self._version = tensor._version
        return self._known

    def write(self, number: float) -> None:
        tensor = self._tensor
        (tensor.detach() if tensor.requires_grad else tensor).fill_(number)
        if not tensor.is_cpu:
            self._known = torch.tensor(number, dtype=tensor.dtype, device="cpu").item()
            self._version = tensor._version
