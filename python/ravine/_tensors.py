"""Tensors of PyTorch in place of arrays: views of their memory, and a plan over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

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


def slot_dtype(tensor: Any) -> Any:
    """Return the type of the slots of a variable: that of its arithmetic."""
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def zeros_beside(tensor: Any) -> Any:
    """Make a slot of a variable: zeros, in its order in memory."""
    return torch.zeros_like(tensor, dtype=slot_dtype(tensor), requires_grad=False)


def lay_out_as(tensor: Any, variable: Any) -> None:
    """Let the elements of a slot lie in memory in the order of those of its variable."""
    laid_out = torch.empty_like(variable, dtype=tensor.dtype, requires_grad=False)
    if laid_out.stride() != tensor.stride():
        tensor.data = laid_out.copy_(tensor)


def array_of_gradient(grad: Any) -> Any:
    """Return what a plan takes in place of a gradient, if that does not do as it is."""
    return array_of(grad.resolve_neg() if grad.is_neg() else grad)


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

    _type: ClassVar = _core.TensorType(torch.Tensor, array_of_gradient)

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
        self._layouts = self._layouts_now()

        def arrays(tensors: Sequence[Any]) -> list[Any]:
            return [array_of(tensor) for tensor in tensors]

        self.plan = _core.Plan(
            names,
            arrays(variables),
            [arrays(each) for each in slots],
            None if averages is None else arrays(averages),
            None if accumulators is None else arrays(accumulators),
        )
        self._device = self.plan.device
        if self._device is None:
            self.plan.take_tensors(self._type)

    def is_bound(self) -> bool:
        """Whether all tensors are where they were; `model.to` moves them, and others may."""
        return bool(self._layouts_now() == self._layouts)

    def watch(self, tensor: Any) -> None:
        """Let `is_bound` look at one more tensor."""
        self._tensors.append(tensor)
        self._layouts = self._layouts_now()

    def _layouts_now(self) -> Any:
        found = self._type.layouts(self._tensors)
        if found is None:  # in older versions of PyTorch
            return [(t.data_ptr(), t.dtype, t.shape, t.stride()) for t in self._tensors]
        return found

    def take_received(self) -> None:
        """Tell the plan, within a window, which variables had gradients: what they added up to."""
        if self._accumulators is not None:
            self.plan.received = [bool(sums.any()) for sums in self._accumulators]

    @staticmethod
    def _tensor_of(grad: Any) -> Any:
        """Return the gradient as a tensor; here it is one."""
        return grad

    def gradients(self, grads: list[Any]) -> list[Any]:
        """Return gradients as `run` takes them, None for those that are missing."""
        if self._device is None:
            return grads
        pairs = zip(map(self._tensor_of, grads), self.variables, strict=True)
        return [
            None if grad is None else array_of_gradient(_laid_out_as(grad, variable))
            for grad, variable in pairs
        ]

    def check(self, grads: list[Any]) -> None:
        """Raise what `run` raises for gradients of the types of their variables: sparse ones."""
        for grad in grads:
            if grad is not None and grad.layout is not torch.strided:
                array_of(grad)

    def run(
        self, rule: _core.Rule, options: _core.Options, learning_rate: float, grads: Sequence[Any]
    ) -> None:
        """Step all variables, by what `gradients` returns."""
        self.plan.step(rule, options, learning_rate, grads, None, self._stream())
        increment_version(self.variables)  # or autograd would not see that they changed

    def overwrite_with_averages(self, indices: Sequence[int]) -> None:
        """Copy the averages into the variables of these numbers."""
        self.plan.overwrite_with_averages(indices, self._stream())
        increment_version(self.variables)

    def _stream(self) -> int:
        if self._device is None:
            return 0
        stream: int = torch.cuda.current_stream(self._device).cuda_stream
        return stream


def _laid_out_as(grad: Any, variable: Any) -> Any:
    """Return a gradient in the order of its variable in memory, as it has to be on a GPU."""
    if grad.is_cuda and grad.layout is torch.strided and grad.stride() != variable.stride():
        return torch.empty_like(variable, dtype=grad.dtype, requires_grad=False).copy_(grad)
    return grad
