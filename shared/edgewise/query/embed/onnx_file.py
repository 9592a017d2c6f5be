"""The named arrays inside an ONNX file, read without any ONNX library.

An ONNX model is a protobuf message: field 7 is the graph, the graph's field 5 its initialisers, and of those only
dims (1), data type (2), name (8) and raw bytes (9) are read. The graph's nodes are not: whoever reads the weights
knows the network. The file is mapped, not read: of a table of words only the pages of words that occur are fetched.
Source: onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 7: "<i8"}


def arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every initialiser of the model at `path` whose type is float32, int8, uint8 or int64, by name (read-only)."""
    import numpy as np

    with path.open("rb") as file:
        content = mmap(file.fileno(), 0, access=ACCESS_READ)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for number, start, end in _fields(content, 0, len(content)):
        if number != 7:
            continue
        for inner, at, until in _fields(content, start, end):
            if inner == 5:
                name, dims, kind, raw = _tensor(content, at, until)
                if kind in _DTYPES and raw is not None:
                    dtype = np.dtype(_DTYPES[kind])
                    found[name] = np.frombuffer(content, dtype, (raw[1] - raw[0]) // dtype.itemsize, raw[0]).reshape(
                        dims
                    )
    return found


def _tensor(content: mmap, start: int, end: int) -> tuple[str, list[int], int, tuple[int, int] | None]:
    name, kind = "", 0
    dims: list[int] = []
    raw: tuple[int, int] | None = None
    for number, at, until in _fields(content, start, end):
        if number == 1:
            dims.extend([at] if until < 0 else _packed(content, at, until))
        elif number == 2:
            kind = at
        elif number == 8:
            name = content[at:until].decode()
        elif number == 9:
            raw = (at, until)
    return name, dims, kind, raw


def _packed(content: mmap, at: int, until: int) -> Iterator[int]:
    while at < until:
        value, at = _varint(content, at)
        yield value


def _fields(content: mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field, start, end) of each length-delimited field, (field, value, -1) of each varint; others are skipped."""
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield tag >> 3, value, -1
        elif kind == 2:
            length, at = _varint(content, at)
            yield tag >> 3, at, at + length
            at += length
        else:
            at += 8 if kind == 1 else 4


def _varint(content: mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
