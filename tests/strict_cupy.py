"""NumPy in the place of CuPy, as strict as CuPy: its arrays and those of NumPy do not mix.

Nothing is on a GPU. It shows that code which is given CuPy arrays would not bring them to the host,
or those of the host to them, without saying so.
"""

from types import ModuleType, SimpleNamespace

import numpy as np


def refuse_host(value):
    """Raise for an array of NumPy; one without axes is a number."""
    if isinstance(value, (list, tuple)):
        for each in value:
            refuse_host(each)
    elif isinstance(value, np.ndarray) and value.ndim and not isinstance(value, Array):
        raise TypeError(f"Unsupported type {type(value)}")


def bare(value):
    """Return an array as one that is NumPy's own, anything else as it is."""
    return value.view(np.ndarray) if isinstance(value, Array) else value


class Array(np.ndarray):
    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        refuse_host([*inputs, *out])
        if out:
            kwargs["out"] = tuple(map(bare, out))
        result = getattr(ufunc, method)(*map(bare, inputs), **kwargs)
        return out[0] if out else np.asarray(result).view(Array)

    def __array_function__(self, function, types, args, kwargs):
        refuse_host([*args, *kwargs.values()])
        kwargs = {name: bare(value) for name, value in kwargs.items()}
        return np.asarray(function(*map(bare, args), **kwargs)).view(Array)


def strict_cupy():
    cupy = ModuleType("cupy")
    cupy.asarray = lambda array: np.array(array).view(Array)
    cupy.asnumpy = np.array
    cupy.cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(id=0),
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
        is_available=lambda: True,
        runtime=SimpleNamespace(getDeviceProperties=lambda device: {"name": b"a stand-in"}),
    )
    return cupy
