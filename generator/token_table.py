"""The token table of the shipped text encoder, read out of its ONNX file, so that a second network need not ship it again.

An ONNX file is a protocol buffer: fields of (number, wire type) with their bytes. Only the few fields on the way to a named initialiser are
followed (`ModelProto.graph` 7, `GraphProto.initializer` 5, `TensorProto` dims 1, data_type 2, float_data 4, int32_data 5, name 8,
raw_data 9), so neither the `onnx` package nor a second copy of the 11.7 MB is needed. V tokens, D channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retriever.errors import ModelFilesMissing

TABLE: Final = "embeddings.token.weight"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _UINT8, _INT8 = 1, 2, 3
_TYPES: Final = {_FLOAT: np.float32, _UINT8: np.uint8, _INT8: np.int8}


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """Rows of 8-bit numbers with one scale: `(row - zero) * scale`.

    Attributes:
        rows: (V, D).
        digest: SHA-256 of rows, scale and zero, in hexadecimal: two tables with the same digest give the same vectors.
    """

    rows: npt.NDArray[np.generic]
    scale: float
    zero: int
    digest: str

    def __call__(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return float32 (..., D) of token ids (...)."""
        return (self.rows[token_ids].astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)


def read_token_table(path: Path, name: str = TABLE) -> TokenTable:
    """Return a table that was quantised by ONNX Runtime: initialisers `NAME_quantized`, `NAME_scale`, `NAME_zero_point`.

    Raises:
        ModelFilesMissing: the file has no such table.
    """
    data = memoryview(path.read_bytes())
    wanted = {f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"}
    try:
        tensors = dict(_tensors(data, wanted))
        rows, scale, zero = (tensors[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
    except (KeyError, IndexError, ValueError) as error:
        raise ModelFilesMissing(
            f"{path} holds no quantised table {name} ({error!r}); export the text encoder again, or bring back the shipped one"
        ) from error
    digest = sha256(rows.tobytes() + scale.tobytes() + zero.tobytes()).hexdigest()
    return TokenTable(rows, float(scale.reshape(())), int(zero.reshape(())), digest)


def _tensors(data: memoryview, wanted: set[str]) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    for number, graph in _fields(data):
        if number == 7 and isinstance(graph, memoryview):
            for inner, tensor in _fields(graph):
                if inner == 5 and isinstance(tensor, memoryview):
                    parts = _parts(tensor)
                    label = bytes(parts.get(8, [b""])[0]).decode()
                    if label in wanted:
                        yield label, _array(parts)


def _parts(tensor: memoryview) -> dict[int, list[Any]]:
    parts: dict[int, list[Any]] = {}
    for number, value in _fields(tensor):
        parts.setdefault(number, []).append(value)
    return parts


def _array(parts: dict[int, list[Any]]) -> npt.NDArray[np.generic]:
    shape: list[int] = []
    for dim in parts.get(1, []):
        shape.extend([dim] if isinstance(dim, int) else _varints(dim))
    kind = np.dtype(_TYPES[int(parts[2][0])])
    if 9 in parts:
        return np.frombuffer(parts[9][0], kind).reshape(shape)
    if 4 in parts:
        return np.frombuffer(b"".join(bytes(part) for part in parts[4]), kind).reshape(shape)
    values = [value for part in parts[5] for value in ([part] if isinstance(part, int) else _varints(part))]
    return np.array(values, kind).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the number and the content of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes begins {len(data) - at} bytes before the end")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values
