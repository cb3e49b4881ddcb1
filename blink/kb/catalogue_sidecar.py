"""The sidecar of a catalogue: offsets of its lines, broken lines, and rows of ids.

It is written next to the catalogue, or into the user's cache, and is valid for one state (size and modification time) of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from blink.errors import BlinkError
from blink.files import atomic_open, user_cache
from blink.input_files import open_file

logger = logging.getLogger(__name__)

SIDECAR_SUFFIX = ".offsets"
_MAGIC = b"BLINKCAT"
_FORMAT = 3
"""Sidecars of formats 1 and 2 have the ids under ``kb_idx`` alone, and are written again."""
_PREFIX = struct.Struct("<8sII")  # magic, length of the JSON header, its CRC-32
_ALIGN = 64
_CHECKED_BLOCKS, _BLOCK_BYTES = 256, 4096
"""Blocks of each array in the checksum: to read 150 MB at each opening would take longer than all else."""
_ARRAYS = {"offsets": "<u8", "bad": "|u1", "keys": "<i8", "rows": "<i8"}


@dataclass(frozen=True)
class FileStamp:
    """One state of the catalogue file."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, handle: IO[bytes]) -> FileStamp:
        """The current state of an open file."""
        status = os.fstat(handle.fileno())
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class LineTable:
    """The result of a scan.

    Attributes:
        stamp: state of the file.
        sha256: hex digest of the catalogue.
        problem: first fault of the catalogue, or None; raised when it is opened without ``skip_bad``.
        repeated_ids: number of rows whose ``kb_idx`` occurs again on a later row.
        offsets: start of each line; the last entry is the end of the last line. *Shape:* (n + 1,), uint64.
        bad: one bit per row, set for broken lines. *Shape:* (ceil(n / 8),), uint8.
        notices: what else was noticed, a line each.
        keys: sort keys of the ids by which rows are found, ascending. *Shape:* (ids,), int64.
        rows: row * 2 + claim of each, see `blink.data.ids.claims`; ascending for equal keys. *Shape:* (ids,), int64.
    """

    stamp: FileStamp
    sha256: str
    problem: str | None
    repeated_ids: int
    notices: tuple[str, ...]
    offsets: npt.NDArray[np.uint64]
    bad: npt.NDArray[np.uint8]
    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def _aligned(position: int) -> int:
    return -(-position // _ALIGN) * _ALIGN


def _write_sidecar(path: Path, table: LineTable) -> None:
    """Write the table atomically: a prefix, a JSON header, and the raw arrays, each aligned to 64 bytes."""
    body, crc, of_all = [], 0, 0
    for name, dtype in _ARRAYS.items():
        values = np.ascontiguousarray(getattr(table, name), dtype=dtype)
        raw = values.view(np.uint8)
        crc, of_all = _checksum(raw.data, crc), zlib.crc32(raw.data, of_all)
        body.append(raw)
    header = json.dumps(
        {
            "format": _FORMAT,
            "size": table.stamp.size,
            "mtime_ns": table.stamp.mtime_ns,
            "sha256": table.sha256,
            "problem": table.problem,
            "repeated_ids": table.repeated_ids,
            "notices": table.notices,
            "bytes": {name: raw.nbytes for name, raw in zip(_ARRAYS, body, strict=True)},
            "crc32": crc,
            "crc32_of_all": of_all,
        }
    ).encode("ascii")
    with atomic_open(path, "wb") as f:
        f.write(_PREFIX.pack(_MAGIC, len(header), zlib.crc32(header)))
        f.write(header)
        for raw in body:
            f.write(b"\0" * (_aligned(f.tell()) - f.tell()))
            f.write(raw.data)


def read_sidecar(path: Path, stamp: FileStamp, *, whole: bool = False) -> LineTable | None:
    """Map a sidecar; None if it is missing, damaged, or of another state of the catalogue. With ``whole`` all of it is read."""
    try:
        with open_file(path) as f:
            raw = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
        return _map_table(raw, stamp, whole)
    except (BlinkError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        if path.exists():
            logger.info("%s is not usable (%s); it is written again", path, error)
        return None


def _map_table(raw: memoryview, stamp: FileStamp, whole: bool) -> LineTable | None:
    magic, length, crc = _PREFIX.unpack_from(raw)
    text = raw[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or len(text) != length or zlib.crc32(text) != crc:
        raise ValueError("its header is damaged")
    header = json.loads(bytes(text))
    if header["format"] != _FORMAT or FileStamp(header["size"], header["mtime_ns"]) != stamp:
        return None
    arrays, position, crc, of_all = {}, _PREFIX.size + length, 0, 0
    for name, dtype in _ARRAYS.items():
        begin = _aligned(position)
        position = begin + header["bytes"][name]
        values = raw[begin:position]
        if len(values) != header["bytes"][name]:
            raise ValueError("it is cut short")
        crc, of_all = _checksum(values, crc), zlib.crc32(values, of_all) if whole else 0
        arrays[name] = np.frombuffer(values, dtype=dtype)
    if crc != header["crc32"] or (whole and of_all != header.get("crc32_of_all")):
        raise ValueError("its checksum differs")
    notices = tuple(map(str, header["notices"]))
    return LineTable(stamp, header["sha256"], header["problem"], header["repeated_ids"], notices, **arrays)


def _checksum(raw: memoryview, crc: int) -> int:
    """CRC-32, continued from ``crc``, of blocks spread evenly over the bytes: of all bytes up to 1 MiB."""
    last = max(len(raw) - _BLOCK_BYTES, 0)
    for position in sorted({last * i // (_CHECKED_BLOCKS - 1) for i in range(_CHECKED_BLOCKS)}):
        crc = zlib.crc32(raw[position : position + _BLOCK_BYTES], crc)
    return crc


def sidecar_paths(path: Path) -> list[Path]:
    """Paths of a catalogue's sidecar, in order: next to it, and in the user's cache if that folder cannot be written."""
    resolved = path.resolve()
    paths = [resolved.with_name(resolved.name + SIDECAR_SUFFIX)]
    with contextlib.suppress(RuntimeError):  # no home folder
        cache = user_cache() / "catalogues"
        name = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:32]
        paths.append(cache / f"{name}-{resolved.name}{SIDECAR_SUFFIX}")
    return paths


def store_sidecar(paths: list[Path], table: LineTable) -> LineTable:
    """Write the sidecar to the first writable path and return it mapped; if no path is writable, return ``table``."""
    for path in paths:
        if path.exists() and not path.is_file():
            continue
        try:
            if path is not paths[0]:
                path.parent.mkdir(parents=True, exist_ok=True)
            _write_sidecar(path, table)
        except OSError as error:
            logger.info("cannot write %s (%s)", path, error)
        else:
            return read_sidecar(path, table.stamp) or table
    logger.warning("cannot write %s nor a copy in the cache; the catalogue is scanned again at each start", paths[0])
    return table
