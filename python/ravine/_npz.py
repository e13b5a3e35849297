"""Arrays in a file of NumPy's format ``.npz``: a zip archive, not compressed, without pickles."""

from __future__ import annotations

import json
from functools import partial
from typing import IO, Any
from urllib.parse import quote, unquote
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from numpy.lib import format as npy

from ravine._arrays import Array
from ravine._files import Arrays, Stored, plain, read_elements, write_elements

_METADATA = "metadata.json"
_MOST_METADATA = 100_000_000  # bytes
_ENCRYPTED = 1


def write_npz(file: IO[bytes], metadata: dict[str, Any], arrays: Arrays) -> None:
    """Write the metadata and the arrays one after another.

    `numpy.load` reads them. No time is stored: the same arrays make the same file.
    """
    archive = ZipFile(file, "w", ZIP_STORED)
    try:
        archive.writestr(ZipInfo(_METADATA), json.dumps(metadata))
        for key, get in arrays.items():
            array = get()
            header = {
                "descr": plain(array.dtype).str,
                "fortran_order": False,
                "shape": array.shape,
            }
            with archive.open(ZipInfo(_name(key)), "w", force_zip64=True) as entry:
                npy.write_array_header_1_0(entry, header)
                write_elements(entry, array)
        archive.close()
    except BaseException:
        archive.fp = None  # nothing to finish: to try to would raise another error
        raise


def _name(key: str) -> str:
    """Name in the archive: any text is one, but none leads out of a folder when unpacked."""
    parts = quote(key).split("/")
    return "/".join(p.replace(".", "%2E") if p in (".", "..") else p for p in parts) + ".npy"


def open_npz(file: IO[bytes]) -> Stored:
    """Look at an archive; an error, of whatever kind, if `write_npz` made no such."""
    archive = ZipFile(file)
    entries: dict[str, ZipInfo] = {}
    for entry in archive.infolist():
        key = unquote(entry.filename.removesuffix(".npy"))
        if key in entries:
            raise ValueError(f"It has the entry {key!r} twice.")
        if entry.compress_type != ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"Its entry {key!r} is compressed or encrypted, which ours never are.")
        entries[key] = entry
    metadata = entries.pop(_METADATA, None)
    if metadata is None or metadata.file_size > _MOST_METADATA:
        raise ValueError(f"It is no checkpoint of ravine: it has no {_METADATA}.")
    return Stored(archive.read(metadata), list(entries), partial(_read, archive, entries))


def _read(
    archive: ZipFile,
    entries: dict[str, ZipInfo],
    key: str,
    array: Array,
) -> None:
    with archive.open(entries[key]) as entry:
        if npy.read_magic(entry) != (1, 0):
            raise ValueError(f"Its entry {key!r} is of another version of NumPy's format than 1.0.")
        found = npy.read_array_header_1_0(entry)
        if found != (array.shape, False, plain(array.dtype)):
            raise ValueError(
                f"Its entry {key!r} says that it has shape {found[0]} and dtype {found[2]}, the "
                f"metadata says {array.shape} and {array.dtype}."
            )
        read_elements(entry, array)
        if entry.read(1):  # at the end of an entry, its checksum is compared
            raise ValueError(f"Its entry {key!r} is longer than it says.")
