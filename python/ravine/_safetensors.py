"""Arrays in a file of the format ``.safetensors``: a header in JSON, then the elements.

https://huggingface.co/docs/safetensors describes it. It has no checksums: ours are metadata.
"""

from __future__ import annotations

import json
import math
import os
from functools import partial
from typing import IO, Any
from zlib import crc32

import numpy as np

from ravine._arrays import Array
from ravine._files import Arrays, Stored, read_elements, write_elements

_CODES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL"},
}
_SPECIAL = "__metadata__"
_MOST_HEADER = 100_000_000  # bytes; the format's own bound
_ALIGNMENT = 8


def write_safetensors(file: IO[bytes], metadata: dict[str, Any], arrays: Arrays) -> None:
    """Write the arrays one after another, and a header before them.

    The header is written twice: only the second time are the checksums known.
    """
    header, keys = _header(metadata)
    checksums = dict.fromkeys(keys, 0)
    file.write(_encoded(header, checksums))
    for key in keys:
        checksums[key] = write_elements(file, arrays[key]())
    file.seek(0)
    file.write(_encoded(header, checksums))


def _header(metadata: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the header without checksums, and the keys in the order of the elements."""
    sizes = {
        key: _itemsize(entry["dtype"]) * math.prod(entry["shape"])
        for key, entry in metadata["arrays"].items()
    }
    # Large types first: then all are aligned.
    keys = sorted(sizes, key=lambda key: -_itemsize(metadata["arrays"][key]["dtype"]))
    header: dict[str, Any] = {_SPECIAL: {"ravine": json.dumps(metadata)}}
    begin = 0
    for key in keys:
        entry = metadata["arrays"][key]
        header[key] = {
            "dtype": _CODES[entry["dtype"]],
            "shape": entry["shape"],
            "data_offsets": [begin, begin + sizes[key]],
        }
        begin += sizes[key]
    return header, keys


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _encoded(header: dict[str, Any], checksums: dict[str, int]) -> bytes:
    text = header[_SPECIAL]["ravine"]
    all_checksums = {_SPECIAL: crc32(text.encode()), **checksums}
    listed = json.dumps({key: f"{checksum:08x}" for key, checksum in all_checksums.items()})
    encoded = json.dumps({**header, _SPECIAL: {"ravine": text, "crc32": listed}}).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def open_safetensors(file: IO[bytes]) -> Stored:
    """Look at a file; an error, of whatever kind, if `write_safetensors` made no such."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MOST_HEADER, size - 8):
        raise ValueError(f"Its header says that it has {length} bytes: it is none or was cut off.")
    header = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    special = header.pop(_SPECIAL, {})
    if not {"ravine", "crc32"} <= special.keys():
        raise ValueError("It is no checkpoint of ravine: it has no metadata of it.")
    text, checksums = special["ravine"], json.loads(special["crc32"])
    if f"{crc32(text.encode()):08x}" != checksums[_SPECIAL]:
        raise ValueError("The checksum of its metadata is wrong.")
    _check_places(header, size - 8 - length)
    read = partial(_read, file, 8 + length, header, checksums)
    return Stored(text.encode(), list(header), read)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("Its header has a key twice.")
    return result


def _check_places(header: dict[str, Any], size: int) -> None:
    """Refuse elements that overlap, leave gaps or end elsewhere than the file."""
    end = 0
    for begin, next_end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != end or next_end < begin:
            raise ValueError("Its arrays overlap or leave gaps.")
        end = next_end
    if end != size:
        raise ValueError(f"Its arrays have {end} bytes and it has {size} for them: it was cut off.")


def _read(
    file: IO[bytes],
    start: int,
    header: dict[str, Any],
    checksums: dict[str, str],
    key: str,
    array: Array,
) -> None:
    entry, expected = header[key], (_CODES[array.dtype.name], [*array.shape])
    begin, end = entry["data_offsets"]
    if (entry["dtype"], entry["shape"]) != expected:
        raise ValueError(
            f"Its entry {key!r} says that it has shape {entry['shape']} and dtype "
            f"{entry['dtype']}, the metadata says {expected[1]} and {expected[0]}."
        )
    if end - begin != array.nbytes:
        raise ValueError(f"Its entry {key!r} has {end - begin} bytes, which its shape has not.")
    file.seek(start + begin)
    if f"{read_elements(file, array):08x}" != checksums[key]:
        raise ValueError(f"The checksum of its entry {key!r} is wrong.")
