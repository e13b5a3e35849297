"""Files that are damaged, hostile or of another kind: a clear error, and nothing changed."""

import copy
import io
import json
import pickle
import random
import struct
import zipfile
from zlib import crc32

import numpy as np
import pytest
from checks import config_and, make
from state_checks import each_ending

import ravine


def trained(steps=2):
    weights = {"a": np.arange(3, dtype=np.float32), "b": np.array(1.5)}
    optimizer = make("sgd_momentum")
    optimizer.build(weights)
    for _ in range(steps):
        optimizer.apply({"a": np.ones(3), "b": np.ones(())})
    return optimizer, weights


@pytest.fixture
def place(tmp_path):
    """Return a function that writes bytes into a file and loads it."""

    class Place:
        def __init__(self):
            self.optimizer, self.weights = trained(0)
            self.before = config_and(self.optimizer, *self.weights.values())

        def load(self, data, ending):
            self.path = tmp_path / f"given{ending}"
            self.path.write_bytes(data)
            self.optimizer.load(self.path)

        def refuses(self, data, ending, reason):
            with pytest.raises(ValueError, match=r"^The checkpoint ") as caught:
                self.load(data, ending)
            start = f"The checkpoint {str(self.path)!r} cannot be loaded, nothing was changed. "
            assert str(caught.value).startswith(start)
            assert reason in str(caught.value)
            assert config_and(self.optimizer, *self.weights.values()) == self.before

    return Place()


def good(ending, tmp_path):
    """Return the bytes of a checkpoint."""
    optimizer, _ = trained()
    optimizer.save(tmp_path / f"good{ending}")
    return (tmp_path / f"good{ending}").read_bytes()


@each_ending
def test_no_damage_of_one_byte_loads_anything_else(ending, tmp_path, place):
    data = good(ending, tmp_path)
    place.load(data, ending)
    expected = config_and(place.optimizer, *place.weights.values())
    fresh, weights = trained(0)
    untouched = config_and(fresh, *weights.values())
    draw, loaded = random.Random(1), 0
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 1 << draw.randrange(8)
        place.path.write_bytes(damaged)
        try:
            fresh.load(place.path)
        except ValueError as error:
            assert str(error).startswith("The checkpoint ")  # noqa: PT017
            assert config_and(fresh, *weights.values()) == untouched
        else:  # a byte that says nothing, as the time of an entry
            loaded += 1
            assert config_and(fresh, *weights.values()) == expected
            fresh, weights = trained(0)
    assert loaded < (0.6 if ending == ".npz" else 0.01) * len(data)


@each_ending
def test_file_that_was_cut_off_is_refused(ending, tmp_path, place):
    data = good(ending, tmp_path)
    for length in {*range(0, len(data), 37), 0, 1, 7, 8, 9, len(data) - 8, len(data) - 1}:
        place.refuses(data[:length], ending, "")


@each_ending
@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"hello", pickle.dumps([1]), b"PK\x05\x06" + b"\0" * 18, b"\xff" * 1000],
    ids=["empty", "zeros", "text", "pickle", "empty_zip", "ones"],
)
def test_file_of_another_kind_is_refused(ending, data, place):
    place.refuses(data, ending, "")


@each_ending
def test_formats_are_not_mistaken(ending, tmp_path, place):
    other = {".npz": ".safetensors", ".safetensors": ".npz"}[ending]
    place.refuses(good(other, tmp_path), ending, "")


# --- npz


def archive(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in entries:
            made.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def entries_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        return [(name, made.read(name)) for name in made.namelist()]


def npy(array, **arguments):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **arguments)
    return file.getvalue()


def npy_header(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def with_entry(name, data):
    def change(entries):
        return [(n, data if n == name else d) for n, d in entries]

    return change


A = "variable/a.npy"
NPZ = {
    "numpys_own": (
        lambda entries: [("a.npy", npy(np.ones(3)))],
        "It is no checkpoint of ravine: it has no metadata.json.",
    ),
    "twice": (
        lambda entries: [*entries, entries[-1]],
        "It has the entry 'state/momentum/b' twice.",
    ),
    "twice_in_other_writing": (
        lambda entries: [*entries, ("v%61riable/a.npy", b"")],
        "It has the entry 'variable/a' twice.",
    ),
    "missing": (
        lambda entries: [e for e in entries if e[0] != A],
        "Its arrays are not those of its metadata: ",
    ),
    "leads_out": (
        lambda entries: [*entries, ("../../evil.npy", npy(np.ones(1)))],
        "Its arrays are not those of its metadata: ['../../evil', ",
    ),
    "object_dtype": (
        with_entry(A, npy(np.array([None, 1, 2], object), allow_pickle=True)),
        "Its entry 'variable/a' says that it has shape (3,) and dtype object, the metadata says "
        "(3,) and float32.",
    ),
    "huge_shape": (
        with_entry(
            A, npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000000,), }")
        ),
        "Its entry 'variable/a' says that it has shape (2000000000000,)",
    ),
    "fortran": (
        with_entry(
            A, npy_header("{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }") + b"\0" * 12
        ),
        "Its entry 'variable/a' says that it has shape (3,) and dtype float32, the metadata",
    ),
    "big_endian": (
        with_entry(A, npy(np.ones(3, ">f4"))),
        "Its entry 'variable/a' says that it has shape (3,) and dtype >f4, the metadata",
    ),
    "version": (
        with_entry(A, npy(np.ones(3, np.float32), version=(2, 0))),
        "Its entry 'variable/a' is of another version of NumPy's format than 1.0.",
    ),
    "longer": (
        with_entry(A, npy(np.ones(3, np.float32)) + b"\0"),
        "Its entry 'variable/a' is longer than it says.",
    ),
    "shorter": (with_entry(A, npy(np.ones(3, np.float32))[:-1]), "It ends too early."),
    "no_array": (with_entry(A, b"text"), ""),
    "code_as_a_header": (
        with_entry(A, npy_header("__import__('os').abort()")),
        "",
    ),
    "long_header": (
        with_entry(A, npy_header("{'descr': '<f4', 'shape': (3,)," + " " * 20000 + "}")),
        "",
    ),
}


@pytest.mark.parametrize(("change", "reason"), NPZ.values(), ids=NPZ)
def test_archive_that_save_did_not_make_is_refused(change, reason, tmp_path, place):
    entries = entries_of(good(".npz", tmp_path))
    place.load(archive(entries), ".npz")
    place = type(place)()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # zipfile's, of names given twice
        data = archive(change(entries))
    place.refuses(data, ".npz", reason)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archive_is_refused(compression, tmp_path, place):
    # Nothing of it is unpacked: a few bytes may become as many as the memory has.
    entries = [*entries_of(good(".npz", tmp_path)), ("bomb.npy", b"\0" * (1 << 24))]
    data = archive(entries, compression)
    assert len(data) < 1 << 20
    place.refuses(data, ".npz", "is compressed or encrypted, which ours never are.")


def test_entry_that_says_that_it_is_encrypted_is_refused(tmp_path, place):
    data = bytearray(good(".npz", tmp_path))
    place_of_entry = data.index(b"PK\x01\x02")
    data[place_of_entry + 8] |= 1
    place.refuses(bytes(data), ".npz", "is compressed or encrypted, which ours never are.")


# --- safetensors


def opened(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def closed(header, elements):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + elements


def changed(key, **changes):
    def change(header, elements):
        return closed({**header, key: {**header[key], **changes}}, elements)

    return change


def twice(header, elements):
    repeated = json.dumps(header)[:-1] + ', "variable/a": {}}'
    return closed(repeated.encode(), elements)


SAFETENSORS = {
    "foreign": (
        lambda header, elements: closed(
            {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4
        ),
        "It is no checkpoint of ravine: it has no metadata of it.",
    ),
    "length": (
        lambda header, elements: b"\xff" * 8 + b"{}",
        "Its header says that it has 18446744073709551615 bytes: it is none or was cut off.",
    ),
    "twice": (twice, "Its header has a key twice."),
    "text": (lambda header, elements: closed(b"hello", elements), ""),
    "list": (lambda header, elements: closed(b"[1, 2]", elements), ""),
    "deep": (lambda header, elements: closed(b"[" * 200_000, elements), ""),
    "overlap": (
        changed("variable/a", data_offsets=[0, 12]),
        "Its arrays overlap or leave gaps.",
    ),
    "backwards": (
        changed("variable/a", data_offsets=[12, 0]),
        "Its arrays overlap or leave gaps.",
    ),
    "longer": (lambda header, elements: closed(header, elements + b"\0"), "Its arrays have "),
    "huge_shape": (
        changed("variable/a", shape=[1 << 60]),
        "Its entry 'variable/a' says that it has shape [1152921504606846976] and dtype F32, the "
        "metadata says [3] and F32.",
    ),
    "dtype": (
        changed("variable/a", dtype="I32"),
        "Its entry 'variable/a' says that it has shape [3] and dtype I32, the metadata says [3] "
        "and F32.",
    ),
    "no_offsets": (changed("variable/a", data_offsets=None), ""),
    "offsets_of_text": (changed("variable/a", data_offsets=["0", "1"]), ""),
}


@pytest.mark.parametrize(("change", "reason"), SAFETENSORS.values(), ids=SAFETENSORS)
def test_file_that_save_did_not_make_is_refused(change, reason, tmp_path, place):
    header, elements = opened(good(".safetensors", tmp_path))
    place.load(closed(header, elements), ".safetensors")
    place = type(place)()
    place.refuses(change(header, elements), ".safetensors", reason)


# --- Metadata


def write_metadata(ending, data, metadata):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    if ending == ".npz":
        return archive(with_entry("metadata.json", text.encode())(entries_of(data)))
    header, elements = opened(data)
    special = header["__metadata__"]
    checksums = {**json.loads(special["crc32"]), "__metadata__": f"{crc32(text.encode()):08x}"}
    special = {"ravine": text, "crc32": json.dumps(checksums)}
    return closed({**header, "__metadata__": special}, elements)


def read_metadata(ending, data):
    if ending == ".npz":
        return json.loads(dict(entries_of(data))["metadata.json"])
    return json.loads(opened(data)[0]["__metadata__"]["ravine"])


def without(*path):
    def change(metadata):
        inner = metadata
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return metadata

    return change


def with_value(value, *path):
    def change(metadata):
        inner = metadata
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return metadata

    return change


ARRAY = ("arrays", "variable/a")
METADATA = {
    "version": (
        with_value(2, "version"),
        "It has version 2 of the format, and this ravine reads version 1. Install the ravine that "
        f"wrote it: {ravine.__version__}.",
    ),
    "format": (with_value("torch", "format"), "It is no checkpoint of ravine."),
    "no_format": (without("format"), "It is no checkpoint of ravine."),
    "list": (lambda metadata: [metadata], "It is no checkpoint of ravine."),
    "text": (lambda metadata: "hello", ""),
    "deep": (lambda metadata: "[" * 200_000, ""),
    "no_class": (without("class_name"), "It is damaged or of another kind (KeyError: "),
    "no_array": (without(*ARRAY), "Its arrays are not those of its metadata: "),
    "arrays": (with_value(7, "arrays"), ""),
    "array": (with_value(7, *ARRAY), ""),
    "huge_shape": (
        with_value([1 << 60], *ARRAY, "shape"),
        "'variable/a' must have shape (3,) and dtype float32. Received: shape "
        "(1152921504606846976,), dtype float32. Nothing was loaded.",
    ),
    "no_shape": (without(*ARRAY, "shape"), "It is damaged or of another kind (KeyError: "),
    "shape": (with_value(3, *ARRAY, "shape"), ""),
    "dtype": (
        with_value("object", *ARRAY, "dtype"),
        "'variable/a' must have shape (3,) and dtype float32. Received: shape (3,), dtype object.",
    ),
}


@pytest.mark.parametrize(("change", "reason"), METADATA.values(), ids=METADATA)
@each_ending
def test_metadata_that_save_did_not_write_is_refused(ending, change, reason, tmp_path, place):
    data = good(ending, tmp_path)
    metadata = read_metadata(ending, data)
    place.load(write_metadata(ending, data, metadata), ending)
    place = type(place)()
    changed_metadata = change(copy.deepcopy(metadata))
    place.refuses(write_metadata(ending, data, changed_metadata), ending, reason)


@pytest.mark.parametrize("value", [-1, 1 << 62])
def test_numbers_that_no_optimizer_has_are_refused(value, tmp_path, place):
    entries = entries_of(good(".npz", tmp_path))
    change = with_entry("state/iteration.npy", npy(np.array(value)))
    place.refuses(
        archive(change(entries)), ".npz", "'iteration' must be at least 0 and below 2**62."
    )
    change = with_entry("state/learning_rate.npy", npy(np.array(np.nan)))
    place.refuses(archive(change(entries)), ".npz", "learning_rate must be a finite number")
