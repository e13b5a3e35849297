"""Tensors of PyTorch in place of arrays: views of their memory, and a plan over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import ml_dtypes
import torch
from torch.autograd.graph import increment_version

from ravine import _core


def array_of(tensor: Any) -> Any:
    """Return what a plan takes in place of a tensor: a view of NumPy, or on a GPU of PyTorch."""
    if not tensor.is_cuda:
        try:
            return tensor.numpy()
        except (TypeError, RuntimeError):
            pass  # for one of the reasons below
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"A gradient must be dense. Received: a tensor of layout {tensor.layout}. Layers of "
            "embeddings make dense gradients with sparse=False."
        )
    tensor = tensor.detach()
    if tensor.is_cuda:
        return tensor
    if not tensor.is_cpu:
        raise TypeError(
            f"A tensor must be on the CPU or on a GPU of CUDA. Received: one on {tensor.device}."
        )
    if tensor.dtype is torch.bfloat16:  # which NumPy does not have itself
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def zeros_beside(tensor: Any) -> Any:
    """Make a slot of a variable: zeros of its arithmetic type, in its order in memory."""
    dtype = torch.float64 if tensor.dtype is torch.float64 else torch.float32
    return torch.zeros_like(tensor, dtype=dtype, requires_grad=False)


def lay_out_as(tensor: Any, variable: Any) -> None:
    """Let the elements of a slot lie in memory in the order of those of its variable."""
    laid_out = torch.empty_like(variable, dtype=tensor.dtype, requires_grad=False)
    if laid_out.stride() != tensor.stride():
        tensor.data = laid_out.copy_(tensor)


class TensorPlan:
    """A plan over tensors, which must stay where they are in memory: see `is_bound`.

    Parameters
    ----------
    names : sequence of str
    variables : sequence of tensors
        Dense, of any floating type, all on the CPU or all on one GPU.
    slots : sequence of lists of tensors
        Each with a tensor for every variable, as `zeros_beside` makes them; other layouts of
        memory are changed.
    averages, accumulators : list of tensors, optional
        Likewise.
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: Sequence[Any],
        slots: Sequence[Sequence[Any]],
        averages: Sequence[Any] | None = None,
        accumulators: Sequence[Any] | None = None,
    ) -> None:
        state = [*slots, *(each for each in (averages, accumulators) if each is not None)]
        for tensors in state:
            for tensor, variable in zip(tensors, variables, strict=True):
                lay_out_as(tensor, variable)
        self.variables = list(variables)
        self._accumulators = accumulators
        self._tensors = [*variables, *chain.from_iterable(state)]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]

        def arrays(tensors: Sequence[Any]) -> list[Any]:
            return [array_of(tensor) for tensor in tensors]

        self.plan = _core.Plan(
            names,
            arrays(variables),
            [arrays(each) for each in slots],
            None if averages is None else arrays(averages),
            None if accumulators is None else arrays(accumulators),
        )

    def is_bound(self) -> bool:
        """Whether all tensors are where they were; `model.to` moves them, and others may."""
        return [tensor.data_ptr() for tensor in self._tensors] == self._addresses

    def take_received(self) -> None:
        """Tell the plan, within a window, which variables had gradients: what they added up to."""
        if self._accumulators is not None:
            self.plan.received = [bool(sums.any()) for sums in self._accumulators]

    def gradient(self, index: int, grad: Any) -> Any:
        """Return the gradient of a variable as `step` takes it."""
        if grad.is_cuda and grad.layout is torch.strided:
            variable = self.variables[index]
            if variable.stride() != grad.stride():  # there it has to lie as its variable does
                grad = torch.empty_like(variable, dtype=grad.dtype, requires_grad=False).copy_(grad)
        return array_of(grad)

    def run(
        self, rule: _core.Rule, options: _core.Options, learning_rate: float, grads: Sequence[Any]
    ) -> None:
        """Step all variables, by what `gradient` returns, None for those without a gradient."""
        self.plan.step(rule, options, learning_rate, grads, None, self._stream())
        increment_version(self.variables)  # or autograd would not see that they changed

    def overwrite_with_averages(self, indices: Sequence[int]) -> None:
        """Copy the averages into the variables of these numbers."""
        self.plan.overwrite_with_averages(indices, self._stream())
        increment_version(self.variables)

    def _stream(self) -> int:
        device = self.plan.device
        if device is None:
            return 0
        stream: int = torch.cuda.current_stream(device).cuda_stream
        return stream
