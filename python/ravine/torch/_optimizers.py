"""The optimizers for PyTorch, each with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ravine import _core
from ravine.torch._native import Native


class SGD(Native):
    """Gradient descent with momentum, as `ravine.SGD`.

    ``velocity = momentum * velocity - lr * g``: the rate is inside the velocity, so that results
    part from those of ``torch.optim.SGD`` as soon as the rate changes.

    Parameters
    ----------
    params, lr, **options
        As all optimizers of `ravine.torch` take them; lr is 0.01 if not given.
    momentum : float in [0, 1], default 0
    nesterov : bool, default False

    Examples
    --------
    >>> import torch, ravine.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = ravine.torch.SGD([w], lr=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5, 1.5]
    """

    _rule = _core.SGD
    _numbers = ("momentum", "nesterov")

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, {"momentum": momentum, "nesterov": nesterov}, options)


class RMSprop(Native):
    """Gradients over the root of their mean square, as `ravine.RMSprop`.

    Epsilon is added inside the root, ``torch.optim.RMSprop`` adds it outside.

    Parameters
    ----------
    params, lr, **options
        As all optimizers of `ravine.torch` take them; lr is 0.001 if not given.
    rho : float in [0, 1), default 0.9
    momentum : float in [0, 1], default 0
    epsilon : float of at least 0, default 1e-7
    centered : bool, default False

    Examples
    --------
    >>> import torch, ravine.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = ravine.torch.RMSprop([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([0.6838, 1.6838], dtype=float32)
    """

    _rule = _core.RMSprop
    _numbers = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        *,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        numbers = {"rho": rho, "momentum": momentum, "epsilon": epsilon, "centered": centered}
        super().__init__(params, lr, numbers, options)


class Adam(Native):
    """Adam, or AMSGrad, as `ravine.Adam`.

    Epsilon is added to the root before the correction for bias, ``torch.optim.Adam`` adds it after.

    Parameters
    ----------
    params, lr, **options
        As all optimizers of `ravine.torch` take them; lr is 0.001 if not given.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float of at least 0, default 1e-7
    amsgrad : bool, default False

    Examples
    --------
    >>> import torch, ravine.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = ravine.torch.Adam([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([0.9, 1.9], dtype=float32)
    """

    _rule = _core.Adam
    _numbers = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        numbers = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "amsgrad": amsgrad}
        super().__init__(params, lr, numbers, options)


class AdamW(Adam):
    """Adam with weight decay, 0.004 if not given, as `ravine.AdamW`.

    Parameters
    ----------
    params, lr, **options
        As `Adam` takes them.
    weight_decay : float, default 0.004

    Examples
    --------
    >>> import torch, ravine.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = ravine.torch.AdamW([w], lr=0.1, weight_decay=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([0.89, 1.88], dtype=float32)
    """

    def __init__(
        self, params: Any, lr: float = 0.001, *, weight_decay: float = 0.004, **options: Any
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, **options)


class Nadam(Native):
    """Adam with Nesterov momentum, as `ravine.Nadam`.

    ``torch.optim.NAdam`` has another schedule of momentum and gives other numbers.

    Parameters
    ----------
    params, lr, **options
        As all optimizers of `ravine.torch` take them; lr is 0.001 if not given.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float of at least 0, default 1e-7

    Examples
    --------
    >>> import torch, ravine.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = ravine.torch.Nadam([w], lr=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([0.8937, 1.8937], dtype=float32)
    """

    _rule = _core.Nadam
    _numbers = ("beta_1", "beta_2", "epsilon")
    _counted: ClassVar[Mapping[str, float]] = {"iterations": 0, "momentum_product": 1.0}

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        numbers = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(params, lr, numbers, options)

    def _to_rule(self, group: Mapping[str, Any], rule: Any) -> None:
        super()._to_rule(group, rule)
        rule.momentum_product = group["momentum_product"]

    def _from_rule(self, group: dict[str, Any], rule: Any) -> None:
        super()._from_rule(group, rule)
        group["momentum_product"] = rule.momentum_product


for _class in (SGD, RMSprop, Adam, AdamW, Nadam):
    _class.__module__ = "ravine.torch"  # the public one, for pickles
