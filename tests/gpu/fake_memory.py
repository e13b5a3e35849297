"""Memory of an emulated GPU: that of the host, which a test may not free while work is to come."""

import ctypes

import numpy as np

from ravine._core import emulator

_ALIGNMENT = 512
_MOST_KEPT = 1 << 28

_libc = ctypes.CDLL(None)
_libc.free.argtypes = [ctypes.c_void_p]

# Freed, as far as Python goes. Kernels that have not run yet may use it all the same, as on a GPU,
# where memory is given to somebody else in the order of a stream.
_freed = []


class Memory:
    """A piece of memory of the current device. Nothing lies behind its end."""

    def __init__(self, nbytes):
        _release_freed()
        address = ctypes.c_void_p()
        size, alignment = ctypes.c_size_t(nbytes), ctypes.c_size_t(_ALIGNMENT)
        if nbytes and _libc.posix_memalign(ctypes.byref(address), alignment, size):
            raise MemoryError(nbytes)
        self.address = address.value or 0
        self.nbytes = nbytes
        self.device_id = emulator.current_device()
        if nbytes:
            emulator.register_memory(self.address, nbytes, self.device_id)
            # No number, so that what is read before it was written shows.
            self.bytes()[...] = 0xFF

    def bytes(self):
        return _bytes_at(self.address, self.nbytes)

    def __del__(self):
        if self.address and _freed is not None:  # it is when Python ends
            _freed.append((self.address, self.nbytes))


class Foreign:
    """Memory of somebody else, who is kept alive."""

    def __init__(self, address, nbytes, owner, device_id):
        self.address, self.nbytes, self.owner, self.device_id = address, nbytes, owner, device_id

    def bytes(self):
        return _bytes_at(self.address, self.nbytes)


def _bytes_at(address, nbytes):
    if nbytes == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)


def _release_freed():
    if emulator.outstanding():
        if sum(nbytes for _, nbytes in _freed) < _MOST_KEPT:
            return
        emulator.synchronize_all()
    while _freed:
        address, _ = _freed.pop()
        emulator.unregister_memory(address)
        _libc.free(address)
