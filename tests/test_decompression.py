"""Compressed files are recognised by their first bytes wherever texts, mention files and records are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blink.data.mention_files import read_samples
from blink.data.mention_store import line_table
from blink.data.text_lines import read_lines
from blink.decompression import decompressed
from blink.dumps.segments import Dump
from blink.errors import DataError
from blink.files import read_json, read_json_lines
from blink.resolve.reading import read_records

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
ROWS = [{"text": "Oslo é", "mentions": [[0, 4]], "label_id": [3]}, {"text": "中"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
RAW = json.dumps([{"utterance": "who is ada", "entities": [], "entities_pos": []}]).encode()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", COMPRESSED)
def test_every_reader_takes_them_whatever_their_name(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress = COMPRESSED[form]
    plain, packed = written(tmp_path / "plain.jsonl", LINES), written(tmp_path / "packed.jsonl", compress(LINES))
    assert list(read_lines(str(packed))) == list(read_lines(str(plain)))
    assert list(read_samples(packed)) == list(read_samples(plain))
    assert list(read_json_lines(packed)) == list(read_json_lines(plain))
    raw, packed_raw = written(tmp_path / "raw.json", RAW), written(tmp_path / "packed.json", compress(RAW))
    assert list(read_samples(packed_raw)) == list(read_samples(raw))
    assert read_json(packed_raw) == read_json(raw)
    records = written(tmp_path / "records.jsonl", compress(b'{"name": "Ada"}\n'))
    assert [r.name for r in read_records(str(records))] == ["Ada"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(compress(LINES))))
    assert list(read_lines("-")) == list(read_lines(str(plain)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(compress(b"Ada\n"))))
    assert [r.name for r in read_records("-")] == ["Ada"]


@pytest.mark.parametrize("form", COMPRESSED)
@pytest.mark.parametrize("read", [lambda f: list(read_lines(str(f))), lambda f: list(read_samples(f)), read_json])
def test_a_damaged_file_is_named(form: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    content = b"".join(json.dumps({"text": f"line {i * i}"}).encode() + b"\n" for i in range(2000))
    packed = written(tmp_path / "cut.jsonl", COMPRESSED[form](content)[:-20])
    with pytest.raises(DataError, match=r"cut\.jsonl is damaged or cut off \(.*; get the file again"):
        read(packed)


def _by_the_library(content: bytes) -> bytes | None:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def _by_blink(content: bytes) -> bytes | None:
    try:
        return decompressed(io.BufferedReader(io.BytesIO(content))).read()
    except (OSError, EOFError, zlib.error):
        return None


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    st.integers(0, 20),
    st.binary(max_size=3),
    st.integers(0, 40),
    st.integers(0, 10_000),
)
def test_gzip_is_read_as_by_the_library(pieces: list[bytes], zeros: int, tail: bytes, cut: int, flip: int) -> None:
    content = bytearray(b"".join(gzip.compress(piece) + bytes(zeros) for piece in pieces) + tail)
    if flip % 3 == 0 and (at := flip % len(content)) > 3:
        content[at] ^= 1 << flip % 8
    content = content[: max(len(content) - cut, 4)]
    assert _by_blink(bytes(content)) == _by_the_library(bytes(content))


def test_a_hole_behind_gzip_has_an_end(tmp_path: Path) -> None:
    packed = written(tmp_path / "texts.txt.gz", gzip.compress(LINES))
    os.truncate(packed, 1 << 23)
    assert list(read_lines(str(packed))) == LINES.decode().splitlines()
    os.truncate(packed, 1 << 40)
    with pytest.raises(DataError, match="zeros follow"):
        list(read_lines(str(packed)))


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
def test_a_text_is_no_compressed_file(line: str) -> None:
    for beginning in ("", "BZh", "BZh9", "BZhang and Li wrote it."):
        content = f"{beginning}{line}\n".encode()
        assert decompressed(io.BufferedReader(io.BytesIO(content))).read() == content


def test_lines_that_are_read_in_any_order_cannot_be_compressed(tmp_path: Path) -> None:
    packed = written(tmp_path / "train.jsonl.gz", gzip.compress(LINES))
    with pytest.raises(DataError, match=r"is compressed, .* decompress it first"):
        line_table(packed, tmp_path / "tables")


@pytest.mark.parametrize("index", [False, True])
def test_a_bomb_of_bzip2_is_refused_before_it_is_whole(index: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blink.dumps.bzip2.RATIO_FROM", 1 << 22)
    stream = bz2.compress(bytes(1 << 21))
    dump = written(tmp_path / "x-multistream.xml.bz2", stream * 30)
    if index:
        lines = b"".join(b"%d:1:A\n" % (i * len(stream)) for i in range(30))
        written(tmp_path / "x-multistream-index.txt.bz2", bz2.compress(lines))
    opened = Dump.open(dump)
    with pytest.raises(DataError, match="times its size"):
        [opened.read(segment) for segment in opened.segments()]


def test_a_hole_behind_bzip2_has_an_end(tmp_path: Path) -> None:
    dump = written(tmp_path / "dump.xml.bz2", bz2.compress(LINES))
    os.truncate(dump, 1 << 33)
    opened = Dump.open(dump)
    with pytest.raises(DataError, match="holds zeros"):
        [opened.read(segment) for segment in opened.segments()]
