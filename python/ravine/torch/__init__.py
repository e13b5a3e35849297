"""The optimizers inside PyTorch, with Keras's semantics: for the parameters of its modules.

Subclasses of ``torch.optim.Optimizer``: parameter groups, ``state_dict``, schedulers and closures
are PyTorch's, a step is one native call a group, in place; one for all under a global norm.
"""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError(
        f"ravine.torch needs PyTorch, which cannot be imported ({error}). Install it: "
        "pip install 'ravine[torch]'"
    ) from error

from ravine.torch._optimizers import SGD, Adam, AdamW, Nadam, RMSprop

__all__ = ["SGD", "Adam", "AdamW", "Nadam", "RMSprop"]

del _torch
