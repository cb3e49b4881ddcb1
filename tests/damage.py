"""Damage of files, seeded: bytes of any file, and values, dtypes and shapes of files of arrays."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Change = Callable[[bytes, random.Random], bytes]
"""The bytes of a file -> others."""
BLOCK = 64


def flip_bit(content: bytes, rng: random.Random) -> bytes:
    """One bit is another, as memory and disks have it."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def zero_block(content: bytes, rng: random.Random) -> bytes:
    """A block is zero, as after a loss of power."""
    at = rng.randrange(len(content)) // BLOCK * BLOCK
    return content[:at] + bytes(len(content[at : at + BLOCK])) + content[at + BLOCK :]


def truncate(content: bytes, rng: random.Random) -> bytes:
    """The file ends early."""
    return content[: rng.randrange(len(content))]


def append(content: bytes, rng: random.Random) -> bytes:
    """More bytes follow."""
    return content + rng.randbytes(rng.randint(1, BLOCK))


def repeat_block(content: bytes, rng: random.Random) -> bytes:
    """A block is that of another position."""
    source, target = (rng.randrange(len(content)) // BLOCK * BLOCK for _ in range(2))
    return content[:target] + content[source : source + BLOCK].ljust(BLOCK, b"\0") + content[target + BLOCK :]


BYTES: Mapping[str, Change] = {f.__name__: f for f in (flip_bit, zero_block, truncate, append, repeat_block)}


# -- arrays --------------------------------------------------------------------------------------------------------------


def _some(values: np.ndarray, rng: random.Random, value: float) -> np.ndarray:
    changed = np.array(values)
    if changed.size:
        changed.reshape(-1)[rng.randrange(changed.size)] = np.asarray(value).astype(changed.dtype)
    return changed


def nan(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """A number is NaN; of integers, the least."""
    if values.dtype.kind == "f":
        return _some(values, rng, np.nan)
    return _some(values, rng, np.iinfo(values.dtype).min if values.dtype.kind in "iu" else 0)


def infinite(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """A number is infinite; of integers, the greatest."""
    if values.dtype.kind == "f":
        return _some(values, rng, np.inf)
    return _some(values, rng, np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1)


def other_dtype(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """The same values in another dtype."""
    kinds = [kind for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?") if np.dtype(kind) != values.dtype]
    with np.errstate(all="ignore"):
        return values.astype(rng.choice(kinds))


def other_shape(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """The same values in another shape, or fewer or more of them."""
    shapes = [values.reshape(-1), values[None], values[..., None], values[:-1], values[:0], np.concatenate([values, values])]
    if values.ndim > 1:
        shapes += [values.T, values[:, :-1]]
    return np.ascontiguousarray(rng.choice([shape for shape in shapes if shape.shape != values.shape]))


def shuffled(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """Rows in another order."""
    order = list(range(len(values)))
    rng.shuffle(order)
    return values[order]


ArrayChange = Callable[[np.ndarray, random.Random], np.ndarray]
ARRAYS: Mapping[str, ArrayChange] = {f.__name__: f for f in (nan, infinite, other_dtype, other_shape, shuffled)}


def _npy(values: np.ndarray, *, objects: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values.astype(object) if objects else values, allow_pickle=objects)
    return stream.getvalue()


def huge_npy(dtype: np.dtype) -> bytes:  # type: ignore[type-arg]
    """A header of 10^12 elements, and a few of them."""
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(BLOCK)


def _changed_npy(content: bytes, name: str, rng: random.Random) -> bytes:
    values = np.load(io.BytesIO(content), allow_pickle=False)
    if name == "objects":
        return _npy(values.reshape(-1)[:3], objects=True)
    return huge_npy(values.dtype) if name == "huge" else _npy(ARRAYS[name](values, rng))


def _changed_npz(content: bytes, name: str, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {item: archive.read(item) for item in archive.namelist()}
    changed = rng.choice(sorted(item for item in members if not item.startswith("metadata")))
    members[changed] = _changed_npy(members[changed], name, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for item, of_item in members.items():
            archive.writestr(item, of_item)
    return stream.getvalue()


def _changed_safetensors(content: bytes, name: str, rng: random.Random) -> bytes:
    from safetensors.numpy import load, save

    if name == "huge":
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        tensor = rng.choice(sorted(header.keys() - {"__metadata__"}))
        header[tensor]["shape"] = [10**12]
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]
    (size,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + size]).get("__metadata__")
    tensors = load(content)
    changed = rng.choice(sorted(tensors))
    tensors[changed] = ARRAYS["shuffled" if name == "objects" else name](tensors[changed], rng)
    return save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata)


_FORMATS: Mapping[bytes, Callable[[bytes, str, random.Random], bytes]] = {
    b"\x93NUMPY": _changed_npy,
    b"PK": _changed_npz,
}
ARRAY_CHANGES = (*ARRAYS, "objects", "huge")


def change_arrays(content: bytes, name: str, rng: random.Random) -> bytes | None:
    """The bytes of a file of arrays with one array changed; None if it is none (or of PyTorch)."""
    for head, change in _FORMATS.items():
        if content.startswith(head):
            try:
                return change(content, name, rng)
            except (ValueError, IndexError):  # no array in it
                return None
    if len(content) > 16 and struct.unpack("<Q", content[:8])[0] < len(content) and content[8:9] == b"{":
        return _changed_safetensors(content, name, rng)
    return None


# -- files ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """What is done to one file.

    Attributes:
        kind: name of the change.
        seed: of its positions and values.
    """

    kind: str
    seed: int

    def apply(self, file: Path, sibling: Path | None = None) -> bool:
        """Change a file, which keeps its times; whether its content is another then.

        Args:
            file: the file.
            sibling: another file of its kind, for ``swap``.
        """
        rng = random.Random(f"{self.kind} {self.seed} {file.name}")
        status, content = file.stat(), file.read_bytes()
        if self.kind == "delete":
            file.unlink()
            return True
        if self.kind == "swap":
            if sibling is None or sibling.read_bytes() == content:
                return False
            shutil.copyfile(sibling, file)
        elif self.kind in BYTES:
            changed = BYTES[self.kind](content, rng) if content else b""
            if changed == content:
                return False
            file.write_bytes(changed)
        else:
            of_arrays = change_arrays(content, self.kind, rng)
            if of_arrays is None or of_arrays == content:
                return False
            file.write_bytes(of_arrays)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        return True


KINDS = ("flip_bit", "zero_block", "truncate", "append", "repeat_block", "delete", "swap", *ARRAY_CHANGES)
