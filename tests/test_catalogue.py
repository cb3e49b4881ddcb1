"""The catalogue on disk: rows are line numbers, whatever the lines hold, and the sidecar is never trusted blindly."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blink import decompression
from blink.data.records import Entity
from blink.errors import DataError, MissingFileError
from blink.kb import catalogue, catalogue_scan, catalogue_sidecar
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX

pytestmark = pytest.mark.quick

ROWS = [
    {"title": "Lima", "text": " A city. ", "kb_idx": "Q2868", "idx": "https://example.org/?curid=7", "entity": "Lima"},
    {"title": "Žižkov", "catetories": ["odd key"], "aliases": ["Zizkov", "Prague 3"]},
    {"title": "川", "text": None, "kb_idx": "local:river", "idx": ""},
    {"title": "Naïve \u2028 \x85 line", "text": "separators that are no line breaks", "kb_idx": "Q60"},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encode(rows: list[dict[str, Any]], *, ascii_only: bool = False) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=ascii_only).encode("utf-8") + b"\n" for row in rows)


def put(folder: Path, content: bytes) -> Path:
    path = folder / "entity.jsonl"
    path.write_bytes(content)
    return path


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)


def forbid_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(*args: object) -> None:
        raise AssertionError("the catalogue was scanned again")

    monkeypatch.setattr(catalogue, "scan_catalogue", scan)


@pytest.mark.parametrize("again", [False, True])
def test_rows_and_ids(tmp_path: Path, again: bool) -> None:
    path = put(tmp_path, encode(ROWS))
    if again:
        Catalogue.open(path).close()
    with Catalogue.open(path) as catalogue:
        assert len(catalogue) == 4
        assert catalogue.path == path
        assert catalogue[0] == Entity(0, "Lima", "A city.", "Q2868", "https://example.org/?curid=7")
        assert catalogue[1] == Entity(1, "Žižkov", aliases=("Zizkov", "Prague 3"))
        assert catalogue[2] == Entity(2, "川", kb_id="local:river")
        assert catalogue.title(3) == ROWS[3]["title"]
        assert list(catalogue) == [catalogue[row] for row in range(4)]
        assert [entity.row for entity in catalogue.iter(1, 3)] == [1, 2]
        assert [catalogue.row_of(kb_id) for kb_id in ("Q2868", "local:river", "Q60")] == [0, 2, 3]
        assert [catalogue.row_of(kb_id) for kb_id in ("Q1", "Q060", "q60", "Q", "", "\ud800", "Q" + "9" * 30)] == [None] * 7
        assert catalogue.skipped == 0
        assert not catalogue.is_bad(0)
        assert len(catalogue.sha256) == 64


def test_second_open_does_not_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, encode(ROWS))
    digest = Catalogue.open(path).sha256
    forbid_scan(monkeypatch)
    assert Catalogue.open(path).sha256 == digest


def test_given_sidecar_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sidecar = put(tmp_path, encode(ROWS)), tmp_path / "elsewhere"
    Catalogue.open(path, sidecar=sidecar)
    assert sidecar.is_file()
    assert not sidecar_of(path).exists()
    forbid_scan(monkeypatch)
    assert len(Catalogue.open(path, sidecar=sidecar)) == 4


@pytest.mark.parametrize("row", [-1, 4, 10**30])
def test_row_out_of_range(tmp_path: Path, row: int) -> None:
    catalogue = Catalogue.open(put(tmp_path, encode(ROWS)))
    for read in (catalogue.__getitem__, catalogue.title, catalogue.is_bad):
        with pytest.raises(DataError, match=r"has no row .*rows 0 to 3 exist"):
            read(row)


@pytest.mark.parametrize(
    "content",
    [
        encode(ROWS)[:-1],
        encode(ROWS, ascii_only=True),
        encode(ROWS).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + encode(ROWS),
        encode(ROWS) + b"\n \r\n\t\n\n",
        encode(ROWS) + b"  ",
        b" " + encode(ROWS).replace(b"\n", b" \t\n"),
    ],
    ids=["no last newline", "escapes", "CRLF", "BOM", "blank lines at the end", "spaces at the end", "spaces around"],
)
def test_variants_of_the_same_catalogue(tmp_path: Path, content: bytes) -> None:
    plain = list(Catalogue.open(put(tmp_path, encode(ROWS))))
    (tmp_path / "other").mkdir()
    catalogue = Catalogue.open(put(tmp_path / "other", content))
    assert list(catalogue) == plain
    assert catalogue.row_of("Q60") == 3


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_empty_catalogue(tmp_path: Path, content: bytes) -> None:
    for _ in range(2):
        catalogue = Catalogue.open(put(tmp_path, content))
        assert len(catalogue) == 0
        assert list(catalogue) == []
        assert catalogue.row_of("Q1") is None
        with pytest.raises(DataError, match="it is empty"):
            catalogue[0]


BROKEN = {
    "blank": (b"  ", "the line is blank"),
    "cut": (b'{"title": "x"', "not JSON"),
    "two objects": (b'{"title": "x"} {"title": "y"}', "not JSON"),
    "array": (b'["x"]', "expected a JSON object, found list"),
    "no title": (b'{"text": "x"}', "no 'title'"),
    "null title": (b'{"title": null}', "no 'title'"),
    "empty title": (b'{"title": ""}', "'title' is empty"),
    "blank title": (b'{"title": " \\t"}', "'title' is empty"),
    "number title": (b'{"title": 3}', "'title' is int"),
    "text": (b'{"title": "x", "text": ["y"]}', "'text' is list"),
    "kb_idx": (b'{"title": "x", "kb_idx": 6.5}', "'kb_idx' is float"),
    "truth value": (b'{"title": "x", "kb_idx": true}', "'kb_idx' is bool"),
    "latin-1": (b'{"title": "\xe9"}', r"not UTF-8 \(byte 12 of the line\)"),
    "BOM inside": (b"\xef\xbb\xbf\xef\xbb\xbf" + b"{}", "not JSON"),
    "NUL": (b'{"title": "x\x00"}', "not JSON"),
    "NUL bytes": (b"\x00" * 40, "not JSON"),
    "half surrogate": (b'{"title": "x\\ud800"}', "half of a surrogate pair"),
    "deep": (b'{"title": "x", "y": ' + b"[" * 100_000, "not JSON"),
    "long number": (b'{"title": "x", "y": ' + b"9" * 5000 + b"}", "not JSON"),
}


@pytest.mark.parametrize(("name", "bad_row"), [(n, p) for n in BROKEN for p in (0, 2, 4) if (n, p) != ("blank", 4)])
def test_broken_line(tmp_path: Path, name: str, bad_row: int, caplog: pytest.LogCaptureFixture) -> None:
    line, message = BROKEN[name]
    lines = encode(ROWS).splitlines(keepends=True)
    lines.insert(bad_row, line + b"\n")
    path = put(tmp_path, b"".join(lines))
    with pytest.raises(DataError, match=rf"entity\.jsonl, line {bad_row + 1}: .*{message}.*--skip-bad") as caught:
        Catalogue.open(path)
    assert "\n" not in str(caught.value)
    assert not sidecar_of(path).exists()
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            catalogue = Catalogue.open(path, skip_bad=True)
        assert "1 broken lines" in caplog.text
        assert len(catalogue) == 5
        assert catalogue.skipped == 1
        assert [catalogue.is_bad(row) for row in range(5)] == [row == bad_row for row in range(5)]
        assert catalogue[bad_row] == Entity(bad_row, "")
        assert catalogue.title(bad_row) == ""
        assert [e.title for e in catalogue if e.row != bad_row] == [row["title"] for row in ROWS]
        assert catalogue.row_of("Q60") == (4 if bad_row < 4 else 3)
    with pytest.raises(DataError, match=f"line {bad_row + 1}: .*{message}"):
        Catalogue.open(path)  # the sidecar made with skip_bad does not hide the problem


def test_several_blank_lines_inside(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS[:1]) + b"\n\n{\n" + encode(ROWS[1:]))
    with pytest.raises(DataError, match="line 2: the line is blank"):
        Catalogue.open(path)
    catalogue = Catalogue.open(path, skip_bad=True)
    assert [catalogue.is_bad(row) for row in range(len(catalogue))] == [False, True, True, True, False, False, False]


@pytest.mark.parametrize("kb_id", ["Q7", "local:7"])
def test_repeated_id(tmp_path: Path, kb_id: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"title": str(row), "kb_idx": kb_id if row in (1, 3, 4) else f"Q{row + 100}"} for row in range(6)]
    path = put(tmp_path, encode(rows))
    with pytest.raises(DataError, match=rf"line 4: kb_idx '{kb_id}' already stands on line 2; .*--skip-bad"):
        Catalogue.open(path)
    for _ in range(2):
        catalogue = Catalogue.open(path, skip_bad=True)
        assert catalogue.row_of(kb_id) == 4
        assert catalogue.skipped == 0
        assert catalogue.repeated_ids == 2
        assert [e.title for e in catalogue] == [row["title"] for row in rows]
        assert [catalogue.row_of(f"Q{row + 100}") for row in (0, 2, 5)] == [0, 2, 5]
    assert "2 repeated ids" in caplog.text


def test_ids_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in (catalogue, catalogue_scan):
        monkeypatch.setattr(user, "id_sort_key", lambda kb_id: -5)
    rows = [{"title": str(row), "kb_idx": kb_id} for row, kb_id in enumerate("abcab")]
    path = put(tmp_path, encode(rows[:3]))
    assert [Catalogue.open(path).row_of(kb_id) for kb_id in "abcd"] == [0, 1, 2, None]
    put(tmp_path, encode(rows))
    with pytest.raises(DataError, match="line 4: kb_idx 'a' already stands on line 1"):
        Catalogue.open(path)
    assert [Catalogue.open(path, skip_bad=True).row_of(kb_id) for kb_id in "abcd"] == [3, 4, 2, None]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
entity_rows = st.fixed_dictionaries(
    {"title": text.filter(lambda s: bool(s) and not s.isspace())},
    optional={"text": text, "kb_idx": text, "idx": text, "aliases": st.lists(text, max_size=3)},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(entity_rows, max_size=12, unique_by=lambda row: row.get("kb_idx") or object()),
    ascii_only=st.booleans(),
    block=st.integers(1, 200),
)
def test_round_trip(tmp_path: Path, rows: list[dict[str, Any]], ascii_only: bool, block: int) -> None:
    path = put(tmp_path, encode(rows, ascii_only=ascii_only))
    sidecar_of(path).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue_scan, "_BLOCK_BYTES", block)
        Catalogue.open(path).close()
    with Catalogue.open(path) as catalogue:
        expected = [
            Entity(
                row=number,
                title=row["title"],
                text=row.get("text", "").strip(),
                kb_id=row.get("kb_idx") or None,
                url=row.get("idx") or None,
                aliases=tuple(row.get("aliases", ())),
            )
            for number, row in enumerate(rows)
        ]
        assert list(catalogue) == expected
        assert [catalogue.row_of(e.kb_id) for e in expected if e.kb_id] == [e.row for e in expected if e.kb_id]


BINARY_FORMATS = (*decompression.FIRST_BYTES, b"PAR1")
"""First bytes of files that are never read as lines, whatever follows."""


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(lines=[b"["])
@example(lines=[b"[", b'{"title": "x"}'])
@example(lines=[b"\xfd7zXZ\x00", b'{"title": "x"}'])
@given(lines=st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b'{"title": "x"}', b"", b"[", b"a;b"])), max_size=8))
def test_any_bytes_open_with_skip_bad(tmp_path: Path, lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    path = put(tmp_path, content)
    sidecar_of(path).unlink(missing_ok=True)
    has_entity = {b'{"title": "x"}', b'\xef\xbb\xbf{"title": "x"}'} & set(lines)
    if not has_entity or content.startswith(BINARY_FORMATS):  # perhaps a file of another format
        with contextlib.suppress(DataError):
            Catalogue.open(path, skip_bad=True)
        return
    catalogue = Catalogue.open(path, skip_bad=True)
    body = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while body and not body[-1].strip():
        body.pop()
    assert len(catalogue) == len(body)
    assert [e.title for e in catalogue if not catalogue.is_bad(e.row)] == ["x"] * (len(body) - catalogue.skipped)


def test_changed_catalogue_is_scanned_again(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS))
    before = Catalogue.open(path).sha256
    stamp = path.stat()
    path.write_bytes(encode(ROWS).replace(b"Lima", b"Rome"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    catalogue = Catalogue.open(path)
    assert catalogue.title(0) == "Rome"
    assert catalogue.sha256 != before
    with path.open("ab") as f:
        f.write(encode([{"title": "New"}]))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert Catalogue.open(path).title(4) == "New"


def test_damaged_sidecar_is_made_again(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS))
    expected = list(Catalogue.open(path))
    stored = sidecar_of(path).read_bytes()
    damaged = [stored[:size] for size in range(0, len(stored), 31)]
    for offset in range(0, len(stored), 5):
        damaged.append(stored[:offset] + bytes([stored[offset] ^ 0xFF]) + stored[offset + 1 :])
    for content in damaged:
        sidecar_of(path).write_bytes(content)
        with Catalogue.open(path) as catalogue:
            assert list(catalogue) == expected
            assert catalogue.row_of("Q60") == 3
    sidecar_of(path).unlink()
    sidecar_of(path).mkdir()
    assert list(Catalogue.open(path)) == expected


def test_a_sidecar_of_an_earlier_format_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, encode(ROWS))
    with monkeypatch.context() as earlier:
        earlier.setattr(catalogue_sidecar, "_FORMAT", 2)
        Catalogue.open(path).close()
    assert Catalogue.open(path).row_of("Q60") == 3
    forbid_scan(monkeypatch)
    assert Catalogue.open(path).row_of("Q60") == 3


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 300_000, 1 << 20])
def test_the_checksum_of_a_small_sidecar_covers_every_byte(size: int) -> None:
    raw = bytearray(np.random.default_rng(0).bytes(size))
    checksum = catalogue_sidecar._checksum(memoryview(raw), 7)
    for position in {0, size - 1, size // 2, size // 3} & set(range(size)):
        raw[position] ^= 1
        assert catalogue_sidecar._checksum(memoryview(raw), 7) != checksum
        raw[position] ^= 1
    assert catalogue_sidecar._checksum(memoryview(raw), 8) != checksum


def test_read_only_folder_uses_the_cache_then_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, real = put(tmp_path, encode(ROWS)), catalogue_sidecar._write_sidecar

    def refuse_beside(path: Path, tables: Any) -> None:
        if path.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        real(path, tables)

    monkeypatch.setattr(catalogue_sidecar, "_write_sidecar", refuse_beside)
    assert len(Catalogue.open(path)) == 4
    assert [p.name.endswith("entity.jsonl.offsets") for p in (tmp_path / "cache/blink/catalogues").iterdir()] == [True]
    with monkeypatch.context() as patch:
        forbid_scan(patch)
        assert Catalogue.open(path).row_of("Q60") == 3
    (tmp_path / "other").mkdir()
    other = put(tmp_path / "other", encode(ROWS[::-1]))

    def refuse(path: Path, tables: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(catalogue_sidecar, "_write_sidecar", refuse)
    assert Catalogue.open(other).row_of("Q60") == 0
    assert "scanned again" in caplog.text
    assert not sidecar_of(other).exists()


def test_full_disk_leaves_no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, encode(ROWS))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert Catalogue.open(path).title(0) == "Lima"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["entity.jsonl"]


def test_killed_while_writing_the_sidecar(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS))
    script = (
        "import os, sys\nfrom blink.kb.catalogue import Catalogue\n"
        "os.fsync = lambda handle: os._exit(9)\nCatalogue.open(sys.argv[1])\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False)
    assert done.returncode == 9
    assert not sidecar_of(path).exists()
    assert Catalogue.open(path).title(0) == "Lima"


def test_progress_ends_at_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_scan, "_BLOCK_BYTES", 50)
    path = put(tmp_path, encode(ROWS))
    calls: list[tuple[int, int]] = []
    Catalogue.open(path, progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert calls == sorted(calls)
    assert calls[-1] == (size, size)
    assert len(calls) > 2


def test_one_endless_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_scan, "_BLOCK_BYTES", 10)
    monkeypatch.setenv("BLINK_LIMITS", "line=100")
    with pytest.raises(DataError, match="one JSON object a line"):
        Catalogue.open(put(tmp_path, b"[" + b"1," * 200), skip_bad=True)


def test_written_while_it_is_scanned(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS))

    def meddle(done: int, total: int) -> None:
        with path.open("ab") as f:
            f.write(encode(ROWS))

    with pytest.raises(DataError, match="changed while it was read"):
        Catalogue.open(path, progress=meddle)


def test_changed_under_an_open_catalogue(tmp_path: Path) -> None:
    path = put(tmp_path, encode(ROWS))
    catalogue = Catalogue.open(path)
    with path.open("r+b") as f:
        f.write(b"#" * 20)
    with pytest.raises(DataError, match="changed on disk since it was opened"):
        catalogue[0]


def test_closed(tmp_path: Path) -> None:
    catalogue = Catalogue.open(put(tmp_path, encode(ROWS)))
    catalogue.close()
    catalogue.close()
    with pytest.raises(DataError, match="was closed"):
        catalogue[0]


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        Catalogue.open(tmp_path / "no.jsonl")
    with pytest.raises(MissingFileError, match="is a folder"):
        Catalogue.open(tmp_path)


def test_threads_read_the_same(tmp_path: Path) -> None:
    rows = [{"title": f"Title {row}", "text": "x" * (row % 97), "kb_idx": f"Q{row + 1}"} for row in range(500)]
    catalogue = Catalogue.open(put(tmp_path, encode(rows)))
    wrong: list[int] = []

    def read(seed: int) -> None:
        for step in range(1000):
            row = (seed * 31 + step * 17) % 500
            if catalogue.title(row) != f"Title {row}" or catalogue.row_of(f"Q{row + 1}") != row:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_golden_catalogue(parity: Path, tmp_path: Path) -> None:
    catalogue = Catalogue.open(parity / "entity.jsonl", sidecar=tmp_path / "offsets")
    assert len(catalogue) == 300
    assert catalogue[0].title == "France"
    assert catalogue[0].text.startswith("France")
    with_id = [entity for entity in catalogue if entity.kb_id]
    assert 0 < len(with_id) < 300
    assert all(catalogue.row_of(e.kb_id) == e.row for e in with_id if e.kb_id)
