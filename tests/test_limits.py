"""Limits of what is read: one line with the number found, the limit and how it is lifted, by every way in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.apps.cli import cli
from blink.data.mention_files import read_samples
from blink.data.text_lines import read_lines
from blink.decompression import decompressed, lines_of, open_stream
from blink.errors import DataError, SettingsError
from blink.files import read_json, read_json_lines
from blink.json_text import loads
from blink.kb.catalogue import Catalogue
from blink.kb.live.lines import line_from
from blink.kb.sources.reading import entity_lines
from blink.limits import LIMITS, NO_LIMIT, VARIABLE, exceeds, limit, parse_limits, require, set_limits
from blink.resolve.reading import read_records

pytestmark = pytest.mark.quick

SMALL = "title=20,alias=20,description=40,values=5,line=400,document=2000,json_depth=9"
CAPITALS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "none": bytes}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SMALL)


LONG: dict[str, tuple[str, Any]] = {
    "title": ("title", "t" * 21),
    "aliases": ("alias", ["a", "b" * 21]),
    "types": ("alias", "c" * 21),
    "tags": ("values", [str(n) for n in range(6)]),
    "text": ("description", "d" * 41),
    "ids": ("alias", {"system": "e" * 21}),
    "kb_idx": ("alias", "f" * 21),
    "idx": ("alias", "g" * 21),
    "alias_counts": ("alias", {"h" * 21: 3}),
}
"""Key of an entity -> the limit that it is above, and its value."""


def jsonl(path: Path, line: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"title": "first"}) + "\n" + json.dumps(line) + "\n" + json.dumps({"title": "last"}) + "\n")
    return path


def array(path: Path, line: dict[str, Any]) -> Path:
    path.write_text(json.dumps([{"title": "first"}, line], indent=1))
    return path


READERS: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "catalogue": lambda folder, line: Catalogue.open(jsonl(folder / "entity.jsonl", line)),
    "lines": lambda folder, line: list(entity_lines(jsonl(folder / "e.jsonl", line))),
    "array": lambda folder, line: list(entity_lines(array(folder / "e.json", line))),
    "records": lambda folder, line: list(read_records(str(array(folder / "r.json", line)))),
    "live edit": lambda folder, line: line_from(line),
}


@pytest.mark.parametrize("key", LONG)
@pytest.mark.parametrize("reader", READERS)
def test_every_way_in_for_entities_keeps_the_limits(tmp_path: Path, reader: str, key: str) -> None:
    name, value = LONG[key]
    with pytest.raises(DataError, match=f"{LIMITS[name].of} has .* allowed are .*--limits {name}=") as caught:
        READERS[reader](tmp_path, {"title": "A", key: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", LONG)
@pytest.mark.parametrize("reader", READERS)
def test_lifted_limits_let_it_through(tmp_path: Path, reader: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{SMALL},{LONG[key][0]}=21K")
    READERS[reader](tmp_path, {"title": "A", key: LONG[key][1]})


def test_skip_bad_leaves_the_row_of_a_long_title_empty(tmp_path: Path) -> None:
    catalogue = Catalogue.open(jsonl(tmp_path / "entity.jsonl", {"title": "t" * 21}), skip_bad=True)
    assert [e.title for e in catalogue] == ["first", "", "last"]


LINE = json.dumps({"title": "A", "text": "x", "note": "y" * 500})
LINE_READERS: dict[str, Callable[[Path], Any]] = {
    "catalogue": lambda path: Catalogue.open(path),
    "entities": lambda path: list(entity_lines(path)),
    "mention file": lambda path: list(read_samples(path)),
    "JSON lines": lambda path: list(read_json_lines(path)),
    "texts": lambda path: list(read_lines(str(path))),
}


@pytest.mark.parametrize("reader", LINE_READERS)
@pytest.mark.parametrize("compression", CAPITALS)
def test_no_reader_loads_a_line_above_the_limit(tmp_path: Path, reader: str, compression: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(CAPITALS[compression](f'{{"title": "B", "text": "short"}}\n{LINE}\n'.encode()))
    if (reader, compression) in {("catalogue", name) for name in CAPITALS if name != "none"}:
        pytest.skip("a catalogue is not compressed")
    with pytest.raises(DataError, match=r"a line of a text file.* has more than 400 bytes .*--limits line=\d+"):
        LINE_READERS[reader](path)


class Endless(io.RawIOBase):
    """A stream without an end, and without a line end."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.read_bytes += len(buffer)
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


def test_a_line_without_an_end_is_read_no_further_than_its_limit() -> None:
    stream = Endless()
    with pytest.raises(DataError, match="endless, line 1: "):
        list(lines_of(decompressed(stream, "endless"), "endless"))
    assert stream.read_bytes <= 1 << 17


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.integers(0, 900), max_size=6))
def test_lines_are_those_of_the_file_up_to_the_first_long_one(lines: list[int]) -> None:
    contents = [b"x" * n + b"\n" for n in lines]
    got = []
    try:
        for line in lines_of(io.BytesIO(b"".join(contents))):
            got.append(line)
        assert got == contents
    except DataError:
        assert len(contents[len(got)]) > 400
        assert got == contents[: len(got)]


@pytest.mark.parametrize("compression", [name for name in CAPITALS if name != "none"])
def test_a_file_that_decompresses_to_more_than_allowed(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(CAPITALS[compression](b"line\n" * 1_000_000))
    monkeypatch.setenv(VARIABLE, "decompressed=1M")
    with pytest.raises(DataError, match=r"bomb: .* has more than 1,048,576 bytes"), open_stream(path) as stream:
        list(lines_of(stream))
    monkeypatch.setenv(VARIABLE, "ratio=20")
    monkeypatch.setattr("blink.decompression.RATIO_FROM", 1 << 20)
    fault = r"bomb: .* times its size, allowed are 20 .*--limits ratio="
    with pytest.raises(DataError, match=fault), open_stream(path) as stream:
        list(lines_of(stream))
    monkeypatch.setenv(VARIABLE, "ratio=none")
    with open_stream(path) as stream:
        assert sum(1 for _ in lines_of(stream)) == 1_000_000


def test_documents_and_depth(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text(json.dumps(["x" * 300] * 10))
    with pytest.raises(DataError, match=r"a file that is read as a whole.* more than 2,000 bytes .*--limits document="):
        read_json(tmp_path / "large.json")
    (tmp_path / "deep.json").write_text("[" * 10 + "]" * 10)
    with pytest.raises(DataError, match=r"brackets of JSON inside each other has more than 9 levels"):
        read_json(tmp_path / "deep.json")


@given(
    st.recursive(
        st.text(max_size=3) | st.integers() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=2), inner, max_size=3)
            | inner.map(lambda value: [[[[[value]]]]])
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_depth_is_that_of_the_value(value: Any) -> None:
    def depth(of: Any) -> int:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    content = json.dumps(value).encode()
    if depth(value) > 9:
        with pytest.raises(ValueError, match="json_depth"):
            loads(content)
    else:
        assert loads(content) == value


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_brackets_without_an_end_are_no_traceback(depth: int) -> None:
    for content in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth):
        with pytest.raises(ValueError, match=r"JSON|levels"):
            loads(content)


def test_limits_are_set_by_text() -> None:
    assert parse_limits("title=7, line = 2M,ratio=none") == {"title": 7, "line": 2 << 20, "ratio": NO_LIMIT}
    for text, message in {
        "titel=3": "no limit 'titel'; limits are title",
        "title": "has no number",
        "line=x": "no number",
    }.items():
        with pytest.raises(SettingsError, match=message):
            parse_limits(text)


def test_the_option_of_the_command_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "line=5")
    set_limits("title=9")
    assert (limit("title"), limit("line")) == (9, 5)
    result = CliRunner().invoke(cli, ["--limits", "titel=1", "doctor", "--help"])
    assert isinstance(result.exception, SettingsError)


def test_what_a_message_advises_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        found = limit(name) + 1
        fault = exceeds(name, found)
        assert fault is not None
        monkeypatch.setenv(VARIABLE, fault.rpartition("--limits ")[2].partition(",")[0])
        assert exceeds(name, found) is None
        with pytest.raises(DataError, match="FILE: "):
            require(name, found + 1, "FILE")
