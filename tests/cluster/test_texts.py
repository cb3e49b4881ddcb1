"""Shards of lines: whatever was killed in between, the parts are the same, and are joined in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.cluster.texts import count_lines, merge_lines, process_lines
from blink.errors import MismatchError, SettingsError

pytestmark = pytest.mark.quick

LINES = [f"line {i} é" for i in range(23)]
BLOCK = 4


def transform(block: Sequence[str]) -> Iterator[str]:
    """What a line becomes depends on its block, so that a wrong one shows."""
    return (f"{block[0]} | {line}" for line in block)


def write_lines(out: Path) -> bytes:
    assert process_lines(iter(LINES), out, transform, block_lines=BLOCK) == len(LINES)
    return out.read_bytes()


@given(length=st.integers(0, 1000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_kill_at_any_byte(tmp_path: Path, length: int) -> None:
    content = write_lines(tmp_path / "whole")
    partial = tmp_path / "killed.part"
    partial.write_bytes(content[: length % (len(content) + 1)])
    worked: list[str] = []

    def noting(block: Sequence[str]) -> Iterator[str]:
        worked.extend(block)
        return transform(block)

    process_lines(iter(LINES), tmp_path / "killed", noting, block_lines=BLOCK)
    assert (tmp_path / "killed").read_bytes() == content
    assert not partial.exists()
    complete = content[: length % (len(content) + 1)].count(b"\n") // BLOCK * BLOCK
    assert worked == LINES[complete:]


def test_progress_begins_where_it_was(tmp_path: Path) -> None:
    content = write_lines(tmp_path / "whole")
    (tmp_path / "next.part").write_bytes(b"".join(content.splitlines(keepends=True)[:9]))
    noted: list[int] = []
    process_lines(iter(LINES), tmp_path / "next", transform, noted.append, block_lines=BLOCK)
    assert noted == [8, 12, 16, 20, 23]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def meanwhile(block: Sequence[str]) -> Iterator[str]:
        with pytest.raises(SettingsError, match="another process is writing to"):
            write_lines(tmp_path / "f")
        return transform(block)

    process_lines(iter(LINES), tmp_path / "f", meanwhile)
    assert len((tmp_path / "f").read_text().splitlines()) == len(LINES)


@pytest.mark.parametrize(("content", "count"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"\n" * 5, 5)])
def test_counting(tmp_path: Path, content: bytes, count: int) -> None:
    (tmp_path / "f").write_bytes(content)
    assert count_lines(tmp_path / "f") == count


def test_merging(tmp_path: Path) -> None:
    shards = []
    for name, lines in (("b", 2), ("a", 3), ("c", 1)):
        (tmp_path / name).write_text("".join(f"{name}{i}\n" for i in range(lines)))
        shards.append((tmp_path / name, lines))
    merge_lines(shards, tmp_path / "all")
    assert (tmp_path / "all").read_text().split() == ["b0", "b1", "a0", "a1", "a2", "c0"]
    (tmp_path / "a").write_text("a0\n")
    with pytest.raises(MismatchError, match=r"/a has 1 lines, expected 3"):
        merge_lines(shards, tmp_path / "all")
    (tmp_path / "b").unlink()
    with pytest.raises(MismatchError, match=r"/b is missing"):
        merge_lines(shards, tmp_path / "all")
    assert (tmp_path / "all").read_text().split()[0] == "b0"
