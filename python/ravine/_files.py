"""Files that are replaced as a whole, and arrays that go to files and come from them in pieces."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np

from ravine._arrays import Array

_PIECE = 1 << 24  # bytes
# What Unix needs, so that no child has the file, and Windows, so that no byte becomes two.
_OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

# By key; each is called for when its turn has come to be written.
Arrays: TypeAlias = Mapping[str, Callable[[], Array]]


class Stored(NamedTuple):
    """What a file holds: metadata in JSON, the keys of its arrays, and how to read one of them.

    ``read(key, array)`` fills an array in C order. It raises a ValueError if the file has one of
    another shape or type there.
    """

    metadata: bytes
    keys: list[str]
    read: Callable[[str, Array], None]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of another when the block ends.

    Until then, whatever happens, the old one is there; from then on the new one. If the block
    raises, nothing is left of the new one.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".ravine-{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666)
    except OSError as error:  # about the file that was asked for
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _synchronize_folder(folder)


def _synchronize_folder(folder: str) -> None:
    if sys.platform == "win32":
        return  # folders cannot be opened there, and names are written at once
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type as which the bits are stored: NumPy's own formats know no bfloat16."""
    return np.dtype(np.uint16) if dtype.name == "bfloat16" else dtype


def write_elements(file: IO[bytes], array: Array) -> int:
    """Write the elements in C order, copying a few MiB at a time; return their checksum."""
    pieces = np.nditer(
        array.view(plain(array.dtype)),
        flags=["external_loop", "buffered", "zerosize_ok"],
        buffersize=max(_PIECE // array.itemsize, 1),
        order="C",
    )
    checksum = 0
    for piece in pieces:
        data = np.asarray(piece).tobytes()
        file.write(data)
        checksum = crc32(data, checksum)
    return checksum


def read_elements(file: IO[bytes], array: Array) -> int:
    """Fill an array in C order from where a file is; return the checksum of its elements."""
    memory = array.view(plain(array.dtype)).reshape(-1).view(np.uint8).data
    place = checksum = 0
    while place < len(memory):
        piece = memory[place : place + _PIECE]
        count = file.readinto(piece)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("It ends too early.")
        checksum = crc32(piece[:count], checksum)
        place += count
    return checksum
