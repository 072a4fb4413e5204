"""A safetensors file read strictly and without torch: what is looked at is bounded before it is looked at.

Theory of operation. A file is a u64 length, that many bytes of JSON, and the numbers. The JSON names each tensor's
dtype, shape and place; every place must follow on the one before, so that the tensors and nothing else make up the
file. The library for the format takes a header of 100 MB, a name given twice, a shape of [0, 2^62] and fields that
nobody knows; none of that comes through here. Only AdapterRejected is raised.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from .errors import AdapterRejected

MAX_HEADER_BYTES = 256 << 10
MAX_TENSORS = 4_096
MAX_DIMENSIONS = 3
MAX_NAME_CHARS = 256
MAX_NOTES = 32
MAX_NOTE_CHARS = 1 << 10
SIZES = {"F32": 4, "F16": 2, "BF16": 2}
FIELDS = frozenset({"dtype", "shape", "data_offsets"})
NOTES = "__metadata__"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in the numbers of its file, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file whose header is in order; its numbers may still be anything."""

    notes: Mapping[str, str] = field(repr=False)
    places: Mapping[str, Place]
    numbers: memoryview = field(repr=False)

    def tensor(self, name: str) -> Floats:
        """A copy of one tensor as float32."""
        place = self.places[name]
        raw = self.numbers[place.start : place.end]
        if place.dtype == "BF16":  # the upper half of a float32
            return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(place.shape)
        return np.frombuffer(raw, "<f4" if place.dtype == "F32" else "<f2").astype(np.float32).reshape(place.shape)


def read_tensors(body: bytes | memoryview, note_chars: int = MAX_NOTE_CHARS) -> TensorFile:
    """The file in `body`, each of whose notes may have `note_chars`. Raises AdapterRejected."""
    view = memoryview(body)
    header, size = header_of(view)
    if size > len(view):
        raise AdapterRejected("header_length", "header", f"{size - 8} bytes")
    told = read_json(header, "header_json")
    if not isinstance(told, dict) or len(told) > MAX_TENSORS + 1:
        raise AdapterRejected("header_json", "header", "not an object, or too many tensors")
    notes = _notes(told.pop(NOTES, {}), note_chars)
    places = {name: _place(name, entry) for name, entry in told.items()}
    at = 0
    for place in sorted(places.values(), key=lambda place: (place.start, place.end)):
        if place.start != at:
            raise AdapterRejected("offsets", "offsets", "they overlap or leave gaps")
        at = place.end
    if size + at != len(view):
        raise AdapterRejected("size", "size", f"{len(view)} bytes, {size + at} needed")
    return TensorFile(notes, places, view[size:])


def header_of(view: memoryview) -> tuple[bytes, int]:
    """The JSON of a file, still unread, and where its numbers begin. Raises AdapterRejected."""
    if len(view) < 10:
        raise AdapterRejected("truncated", "size", f"{len(view)} bytes")
    (length,) = struct.unpack_from("<Q", view)
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(view) - 8):
        raise AdapterRejected("header_length", "header", f"{length} bytes")
    header = bytes(view[8 : 8 + length])
    if header[:1] != b"{":
        raise AdapterRejected("header_start", "header", "it does not begin with {")
    if header.count(b"[") + header.count(b"{") > 4 * MAX_TENSORS:
        raise AdapterRejected("header_nesting", "header", "too many brackets")
    return header, 8 + length


def read_json(text: bytes | str, code: str) -> object:
    """JSON in which no name comes twice and every number is one. Raises AdapterRejected with this code."""

    def no_number(_: str) -> NoReturn:
        raise AdapterRejected(code, "header", "NaN and Infinity are no numbers")

    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_once, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise AdapterRejected(code, "content", type(error).__name__) from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AdapterRejected("duplicate_name", "header", "a name comes twice")
    return found


def _notes(told: object, note_chars: int) -> dict[str, str]:
    if not isinstance(told, dict) or len(told) > MAX_NOTES:
        raise AdapterRejected("metadata", "metadata", "not an object, or too many entries")
    notes = {name: value for name, value in told.items() if isinstance(value, str) and len(value) <= note_chars}
    if len(notes) < len(told) or any(len(name) > MAX_NAME_CHARS for name in notes):
        raise AdapterRejected("metadata", "metadata", "not text, or too long")
    return notes


def _place(name: str, told: object) -> Place:
    if len(name) > MAX_NAME_CHARS or not isinstance(told, dict) or told.keys() != FIELDS:
        raise AdapterRejected("tensor_fields", name[:MAX_NAME_CHARS], "not dtype, shape and data_offsets alone")
    dtype, shape, offsets = told["dtype"], _whole(told["shape"]), _whole(told["data_offsets"])
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise AdapterRejected("dtype", name, "not F32, F16 or BF16")
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise AdapterRejected("shape", name, f"not up to {MAX_DIMENSIONS} whole numbers")
    if offsets is None or len(offsets) != 2 or offsets[1] - offsets[0] != SIZES[dtype] * math.prod(shape):
        raise AdapterRejected("offsets", name, "they do not fit the shape")
    return Place(dtype, shape, offsets[0], offsets[1])


def _whole(told: object) -> tuple[int, ...] | None:
    if not isinstance(told, list) or len(told) > 8 or any(type(each) is not int or each < 0 for each in told):
        return None
    return tuple(told)
