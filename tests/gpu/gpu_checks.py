"""What the tests of GPUs share: arrays there, and the same optimizer on both sides."""

import gc

import numpy as np
from checks import assert_same, bits, make, normal

import ravine


def on_gpu(xp, array, offset=0):
    """Copy an array to the GPU, in its order in memory, `offset` elements behind an aligned one."""
    array = np.asarray(array)
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    in_order = array.transpose(order)
    flat = xp.empty(array.size + offset, array.dtype)[offset:]
    result = flat.reshape(in_order.shape)
    result.set(in_order)
    return result.transpose([order.index(axis) for axis in range(array.ndim)])


def gradients(random, variables, dtypes=(np.float32,), scale=1.0):
    """Return a gradient for each variable, of the types in turn, in the same order in memory."""
    result = []
    for i, variable in enumerate(variables):
        g = np.empty_like(variable, dtypes[i % len(dtypes)])
        g[...] = normal(random, variable.shape, g.dtype, scale)
        result.append(g)
    return result


class Shown:
    """An array on a GPU of a library that is not CuPy: all it has is the interface.

    Parameters
    ----------
    array : cupy.ndarray
    **changes
        Entries of the interface that are to be others; None: they are left out.
    """

    def __init__(self, array, **changes):
        self.owner, self.dtype = array, array.dtype
        interface = {**array.__cuda_array_interface__, "stream": None, **changes}
        self.__cuda_array_interface__ = {k: v for k, v in interface.items() if v is not None}


class OnlyDLPack:
    """An array of a library that only has DLPack.

    Parameters
    ----------
    array : cupy.ndarray
    has_version : bool
        Whether the library knows of the version of DLPack that tells what may be written.
    device_type : int
        2: a GPU. 1: the CPU.
    """

    def __init__(self, array, has_version=True, device_type=2):
        self._array, self._has_version = array, has_version
        self._device = device_type, array.device.id

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, *, stream=None, max_version=None, copy=None):
        version = max_version if self._has_version else None
        if hasattr(self._array, "_host"):
            return self._array._host.__dlpack__(max_version=version)
        return self._array.__dlpack__(stream=stream, max_version=version)


def captured(stream, *calls):
    """Capture calls into a CUDA graph."""
    gc.disable()  # it may free memory of an optimizer, which spoils a capture
    try:
        with stream:
            stream.begin_capture()
            for call in calls:
                call()
            return stream.end_capture()
    finally:
        gc.enable()


def all_of(optimizer, *arrays):
    """Return all that a refused call must leave alone."""
    return (
        optimizer.get_config(),
        optimizer.iterations,
        [(key, bits(array)) for key, array in optimizer.state_dict().items()]
        if optimizer.built
        else None,
        [bits(array.get() if hasattr(array, "get") else array) for array in arrays],
    )


def aligned(index):
    return 0


class Twins:
    """The same optimizer on the CPU and on the GPU, over copies of the same variables.

    Parameters
    ----------
    xp : module
        CuPy.
    optimizer : callable
        Makes one of the two.
    variables : list of numpy.ndarray
    excluded : collection of int
        Positions of the variables that do not decay.
    offsets : pair of callables, optional
        How many elements behind an aligned address variable and gradient `i` begin.
    """

    def __init__(self, xp, optimizer, variables, excluded=(), offsets=(aligned, aligned)):
        self.xp, self._offsets = xp, offsets
        self.on_cpu = [variable.copy("K") for variable in variables]
        self.on_gpu = self._put(variables, offsets[0])
        self.cpu, self.gpu = optimizer(), optimizer()
        for each, arrays in ((self.cpu, self.on_cpu), (self.gpu, self.on_gpu)):
            each.build(arrays)
            each.exclude_from_weight_decay([arrays[i] for i in excluded])

    def _put(self, arrays, offset):
        return [None if a is None else on_gpu(self.xp, a, offset(i)) for i, a in enumerate(arrays)]

    def put(self, grads):
        """Copy gradients to the GPU; None stays None."""
        return self._put(grads, self._offsets[1])

    def apply(self, grads, **arguments):
        """Make one step on either side, with new arrays on the GPU."""
        self.cpu.apply(grads)
        self.gpu.apply(self.put(grads), **arguments)

    def set(self, name, value):
        """Set an attribute of both."""
        for optimizer in (self.cpu, self.gpu):
            setattr(optimizer, name, value)

    def assert_equal(self):
        """Compare variables and all state, bit for bit, when all work is done."""
        self.on_gpu[0].device.synchronize()
        for i, (actual, expected) in enumerate(zip(self.on_gpu, self.on_cpu, strict=True)):
            assert_same(actual.get(order="A"), expected, f"variable {i}")
        actual, expected = self.gpu.state_dict(), self.cpu.state_dict()
        assert list(actual) == list(expected)
        for key, array in expected.items():
            assert_same(actual[key], array, key)

    def run(self, steps):
        """Make several steps, and compare after each."""
        for grads in steps:
            self.apply(grads)
            self.assert_equal()

    def run_at_once(self, steps):
        """Make several steps without looking between them, so that the GPU may be late."""
        steps = [*steps]
        put = [self.put(grads) for grads in steps]
        for grads, there in zip(steps, put, strict=True):
            self.cpu.apply(grads)
            self.gpu.apply(there)
        self.assert_equal()


def twins(xp, rule, variables, excluded=(), offsets=(aligned, aligned), **options):
    """Return the twins of a rule of `checks.RULES`."""
    return Twins(xp, lambda: make(rule, **options), variables, excluded, offsets)


def difference(before):
    """Return what was asked of CUDA since `before`, a result of `ravine._core.cuda_counts`."""
    return {name: n - before[name] for name, n in ravine._core.cuda_counts().items()}
