"""Writes graphs in ONNX's format, with their weights in a file next to them; ``onnx`` itself is needed to change them alone.

The format is a message of protocol buffers (https://onnx.ai/onnx/repo-docs/IR.html). Of its fields a graph of floats needs few.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from blink.files import atomic_open

OPSET = 17
"""Version of ONNX's operators: the first with layer normalization."""
IR_VERSION = 8
"""Version of the format that came with `OPSET`."""
DATA_TYPES = {"float32": 1, "int64": 7, "bool": 9}
"""Numbers of ``TensorProto.DataType`` by the names of NumPy."""
_INLINE_BYTES = 1024
"""Largest constant that is kept in the graph: shapes are read from there alone."""
_ALIGNMENT = 64
_FLOAT, _INT, _INTS = 1, 2, 7
"""Numbers of ``AttributeProto.AttributeType``."""

Dim = int | str
Attribute = int | float | Sequence[int]


class GraphFile:
    """A graph that is written operator by operator.

    Names of results are those of their operators. Weights go to a file as they are added, so that memory holds one at a time.

    Args:
        file: of the graph; that of the weights has the same name with ``.bin``.

    Use as a context manager: at its end, if there was no error, the graph is written.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.weights = file, file.with_suffix(".bin")
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def __enter__(self) -> GraphFile:
        self._weights = self.weights.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._weights.close()
        if kind is None:
            with atomic_open(self.file, "wb") as f:
                f.write(b"".join(self._message()))

    def input(self, name: str, dtype: str, shape: Sequence[Dim]) -> str:
        """Declare an input; a dimension with a name may have any size. Returns its name."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[Dim]) -> None:
        """Declare the result of an operator as an output."""
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant of a type of `DATA_TYPES`; one that is there already is kept. Returns its name."""
        if name not in self._constants:
            array = np.asarray(value, order="C")
            data = array.tobytes()
            content = [_field(1, size) for size in array.shape]
            content += [_field(2, DATA_TYPES[array.dtype.name]), _field(8, name)]
            content += [_field(9, data)] if len(data) <= _INLINE_BYTES else self._external(data)
            self._constants[name] = b"".join(content)
        return name

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Add an operator; its attributes are whole numbers, lists of them, or floats. Returns the name of its result."""
        content = [_field(1, value) for value in inputs]
        content += [_field(2, name), _field(3, name), _field(4, kind)]
        content += [_field(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(content))
        return name

    def _external(self, data: bytes) -> list[bytes]:
        """Fields of a constant in the file of weights."""
        self._weights.write(bytes(-self._weights.tell() % _ALIGNMENT))
        where = {"location": self.weights.name, "offset": str(self._weights.tell()), "length": str(len(data))}
        self._weights.write(data)
        return [_field(13, _field(1, key) + _field(2, value)) for key, value in where.items()] + [_field(14, 1)]

    def _message(self) -> Iterator[bytes]:
        graph = [_field(1, node) for node in self._nodes] + [_field(2, "graph")]
        graph += [_field(5, constant) for constant in self._constants.values()]
        graph += [_field(11, value) for value in self._inputs] + [_field(12, value) for value in self._outputs]
        yield _field(1, IR_VERSION)
        yield _field(2, "blink")
        yield _field(7, b"".join(graph))
        yield _field(8, _field(1, "") + _field(2, OPSET))


def _value(name: str, dtype: str, shape: Sequence[Dim]) -> bytes:
    """``ValueInfoProto``: a name with its type."""
    dims = b"".join(_field(1, _field(2 if isinstance(dim, str) else 1, dim)) for dim in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, DATA_TYPES[dtype]) + _field(2, dims)))


def _attribute(name: str, value: Attribute) -> bytes:
    """``AttributeProto``."""
    if isinstance(value, float):
        return _field(1, name) + _field(2, value) + _field(20, _FLOAT)
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    return _field(1, name) + b"".join(_field(8, number) for number in value) + _field(20, _INTS)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """A field of a message: its number with the kind of its value, and the value.

    Whole numbers are varints, floats take four bytes, and texts and messages are preceded by their length.
    """
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have their highest bit set."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
