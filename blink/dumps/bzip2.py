"""Blocks of bzip2 files: found by their first bits, so that any of them is decompressed without those before it.

A block begins with the 48 bits of pi, at any bit, and carries its own checksum. Shifted to whole bytes and framed as a file of
one block it is decompressed by the standard library. That holds for files of one stream as for those of many.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blink.errors import DataError
from blink.limits import RATIO_FROM, exceeds

BLOCK_MAGIC, END_MAGIC = 0x314159265359, 0x177245385090
_MAGIC_BITS, _CHECKSUM_BITS = 48, 32
_FRAME = b"BZh9"
MAX_BLOCK_BYTES = 1_000_000
"""More than the bytes of any block: at most 900,000 bytes of text, and 600 more where they cannot be compressed."""
_MAX_FALSE_MAGICS = 3


def decompress_range(path: Path, start: int, end: int) -> bytes:
    """The content of the blocks that begin in bytes ``[start, end)`` of a file.

    Raises:
        DataError: a block is damaged, the file is cut off, or they are more than the limit ``ratio``.
    """
    with path.open("rb") as f:
        f.seek(start)
        content = f.read(end - start + MAX_BLOCK_BYTES)
    if len(content) >= MAX_BLOCK_BYTES and not content.strip(b"\0"):
        raise DataError(f"{path} holds zeros behind byte {start:,}, where it was not written; get the file again")
    magics = [*_positions(content, END_MAGIC, False), *_positions(content, BLOCK_MAGIC, True)]
    magics.sort()
    limit = 8 * (end - start)
    begins = [i for i, (position, is_block) in enumerate(magics) if is_block and position < limit]
    blocks, behind, size = [], 0, 0
    for i in begins:
        if magics[i][0] >= behind:
            try:
                block, behind = _decompressed(content, [position for position, _ in magics[i : i + 2 + _MAX_FALSE_MAGICS]])
            except OSError as error:
                fault = f"is damaged behind byte {start + magics[i][0] // 8:,} ({error})" if magics[i + 1 :] else "is cut off"
                raise DataError(f"{path} {fault}; get the file again") from error
            blocks.append(block)
            size += len(block)
            _require_ratio(path, size, end - start)
    return b"".join(blocks)


def decompress_streams(path: Path, start: int, end: int) -> bytes:
    """The content of the whole streams in bytes ``[start, end)`` of a file.

    Raises:
        DataError: they are more than the limit ``ratio``.
        OSError: they are damaged.
        ValueError: they are cut off.
    """
    with path.open("rb") as f:
        f.seek(start)
        content = f.read(end - start)
    blocks, size = [], 0
    while content:
        stream = bz2.BZ2Decompressor()
        while not stream.eof:
            if stream.needs_input and not content:
                raise ValueError("a stream has no end")
            block = stream.decompress(content, MAX_BLOCK_BYTES)
            content = b""
            blocks.append(block)
            size += len(block)
            _require_ratio(path, size, end - start)
        content = stream.unused_data
    return b"".join(blocks)


def _require_ratio(path: Path, size: int, stored: int) -> None:
    """Refuse what becomes much more than its size, as what is decompressed by `blink.decompression` is."""
    if size > RATIO_FROM and (fault := exceeds("ratio", size // max(stored, 1))):
        raise DataError(f"{path}: {fault}")


def _positions(content: bytes, magic: int, is_block: bool) -> Iterator[tuple[int, bool]]:
    """Bits where a magic number begins, not in order."""
    for shift in range(8):
        pattern = (magic << (8 - shift)).to_bytes(7, "big")
        inner = pattern[1:6]
        position = content.find(inner, 1)
        while position != -1:
            begin = 8 * (position - 1) + shift
            bits = int.from_bytes(content[position - 1 : position + 6].ljust(7, b"\0"), "big") >> (8 - shift)
            if bits & ((1 << _MAGIC_BITS) - 1) == magic and begin + _MAGIC_BITS <= 8 * len(content):
                yield begin, is_block
            position = content.find(inner, position + 1)


def _decompressed(content: bytes, bounds: list[int]) -> tuple[bytes, int]:
    """The block at the first bit of ``bounds``, and the bit where it ends: at the second, or at a later one if that is chance.

    Raises:
        OSError: it cannot be decompressed.
    """
    failure: Exception = OSError("its end is missing")
    for end in bounds[1:]:
        try:
            return bz2.decompress(_as_stream(content, bounds[0], end)), end
        except (OSError, ValueError, EOFError) as error:
            failure = error
    raise OSError(str(failure)) from failure


def _as_stream(content: bytes, begin: int, end: int) -> bytes:
    """The block in bits ``[begin, end)`` as a file of this block alone."""
    shift, n_bits = begin % 8, end - begin
    window = np.frombuffer(content, np.uint8)[begin // 8 : end // 8 + 2]
    if shift:
        following = np.append(window[1:], np.uint8(0))
        window = (window << np.uint8(shift)) | (following >> np.uint8(8 - shift))
    body = window.tobytes()
    whole, rest = divmod(n_bits, 8)
    checksum = int.from_bytes(body[_MAGIC_BITS // 8 : (_MAGIC_BITS + _CHECKSUM_BITS) // 8], "big")
    footer = END_MAGIC << _CHECKSUM_BITS | checksum
    last_bits = body[whole] >> (8 - rest) if rest else 0
    n_footer = rest + _MAGIC_BITS + _CHECKSUM_BITS
    padding = -n_footer % 8
    footer = (last_bits << (_MAGIC_BITS + _CHECKSUM_BITS) | footer) << padding
    return _FRAME + body[:whole] + footer.to_bytes((n_footer + padding) // 8, "big")
