"""Memory in files: for what goes with variables that are arrays of `numpy.memmap`."""

from __future__ import annotations

import os
from tempfile import NamedTemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_PIECE = 1 << 20  # bytes


def folder(array: object) -> str | None:
    """Return the folder of the file that an array is written to, None for one in memory.

    Copy on write is memory too; a mapping of no file, or of one without a name, has no folder.
    """
    if not isinstance(array, np.memmap) or array.mode not in ("r+", "w+"):
        return None
    return None if array.filename is None else os.path.dirname(array.filename)


def zero_bytes(nbytes: int, where: str) -> npt.NDArray[np.uint8]:
    """Make zeros in a file of a folder. Its name goes at once, its room with the last array."""
    size = max(nbytes, 1)  # an empty file cannot be mapped
    try:
        with NamedTemporaryFile(dir=where, prefix=".ravine-", suffix=".tmp") as file:
            _take_room(file, size)
            block: Any = np.memmap(file, np.uint8, "r+", shape=size)
            return block[:nbytes]  # type: ignore[no-any-return]
    except OSError as error:
        raise OSError(
            error.errno,
            f"What goes with a variable in a file, a numpy.memmap, is kept in the same folder, and "
            f"{nbytes} bytes cannot be had in {where!r} ({error.strerror}). Make room there, or "
            "pass numpy.asarray(variable) to have them in memory.",
        ) from error


def _take_room(file: IO[bytes], size: int) -> None:
    """Fill a file with zeros: when the disk is full later, that ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for begin in range(0, size, _PIECE):
        file.write(bytes(min(_PIECE, size - begin)))
    file.flush()
