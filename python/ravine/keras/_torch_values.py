"""The values of Keras's variables on its torch backend: tensors, which keep their place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import torch
from torch.autograd.graph import increment_version

from ravine import _core
from ravine._tensors import TensorPlan, array_of, array_of_gradient
from ravine.keras._copies import Copies
from ravine.keras._host import OnHost

outside_of_graphs = torch.compiler.disable  # torch.compile must not look into a native step


def copy(value: Any) -> Any:
    """Return a tensor with the same elements and memory of its own."""
    return value.detach().clone()


def _tensor_of(grad: Any) -> Any:
    is_tensor = grad is None or isinstance(grad, torch.Tensor)
    return grad if is_tensor else keras.ops.convert_to_tensor(grad)


class Bound(OnHost, TensorPlan):
    """A plan over the values of variables.

    Parameters
    ----------
    names : sequence of str
    variables, slots, averages, accumulators
        As `TensorPlan` takes them, of variables.
    """

    _type = _core.TensorType(torch.Tensor, lambda grad: array_of_gradient(_tensor_of(grad)))
    _tensor_of = staticmethod(_tensor_of)

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

    def number(self, variable: Any) -> float:
        """Return the number that a variable without axes holds."""
        return self._scalar_of(variable).read()

    def set_number(self, variable: Any, number: float) -> None:
        """Set the number that a variable without axes holds, rounded to its type."""
        self._scalar_of(variable).write(number)

    def _scalar_of(self, variable: Any) -> _Scalar:
        known = self._scalars.get(id(variable))
        if known is None:
            self.watch(variable.value)
            known = (_Scalar if variable.value.is_cpu else _ScalarOnGpu)(variable)
            self._scalars[id(variable)] = known
        return known


Stateless = partial(Copies, Bound, copy)


class _Scalar:
    """A tensor without axes, by its memory: of PyTorch's calls each takes longer than that."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable  # kept alive, so that its id stays its own
        self._tensor = variable.value
        self._array = array_of(self._tensor)

    def read(self) -> float:
        number: float = self._array.item()
        return number

    def write(self, number: float) -> None:
        self._array[()] = number
        increment_version(self._tensor)


class _ScalarOnGpu(_Scalar):
    """Read only if something else has written it: that waits for the device."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self._tensor = variable.value.detach()
        self._version: int | None = None
        self._known: float = 0

    def read(self) -> float:
        tensor = self._tensor
        if tensor._version != self._version:
            self._known = tensor.item()
            self._version = tensor._version
        return self._known

    def write(self, number: float) -> None:
        tensor = self._tensor
        tensor.fill_(number)
        self._known = torch.tensor(number, dtype=tensor.dtype, device="cpu").item()
        self._version = tensor._version
