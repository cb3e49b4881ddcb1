"""Progress on a stream that is no terminal: a line at intervals, with rate and time left, and one at the end."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink import progress
from blink.apps.common import bar
from blink.progress import ProgressLines, clock

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.05)


def run_stage(total: int | None, unit: str, counts: list[int], reused: int = 0, note: str = "") -> list[str]:
    lines: list[str] = []
    stage = ProgressLines("encoding", total, unit, lines.append)
    if reused:
        stage.reuse(reused)
    if note:
        stage.note(note)
    for count in counts:
        stage.advance(count)
        time.sleep(0.06)
    stage.close()
    return lines


def test_lines_give_count_rate_and_time_left() -> None:
    lines = run_stage(4000, "entity", [1000, 1000, 1000], note="loss 0.5")
    assert len(lines) >= 3
    assert re.fullmatch(r"encoding: [1-3],000 of 4,000 entities \((25|50|75)%\), [\d,]+/s, 0:00 left, loss 0\.5", lines[0])
    assert re.fullmatch(r"encoding: 3,000 entities in 0:00, [\d,]+/s, loss 0\.5", lines[-1])


def test_a_stage_that_reports_nothing_is_not_silent() -> None:
    lines = run_stage(None, "entity", [0, 0])
    assert lines[0] == "encoding: 0:00 so far"
    assert lines[-1] == "encoding: done in 0:00"


def test_rows_of_an_earlier_run_are_no_speed() -> None:
    lines = run_stage(1_000_100, "entity", [50, 50], reused=1_000_000)
    assert lines[0].startswith("encoding: 1,000,0")
    for line in lines:
        assert int(re.search(r"([\d,]+)/s", line)[1].replace(",", "")) < 10_000  # type: ignore[index]


def test_short_stages_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 30)
    assert run_stage(10, "text", [5, 5]) == []


def test_a_stage_that_fails_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with bar("linking", 10, "text") as stage:
            stage.advance(5)
            time.sleep(0.12)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    written = capsys.readouterr().err.splitlines()
    assert written
    assert all(line.startswith("linking: 5 of 10 texts (50%)") for line in written)


def test_nothing_is_written_after_the_end() -> None:
    lines = run_stage(2, "text", [2])
    n_lines = len(lines)
    time.sleep(0.12)
    assert len(lines) == n_lines


@given(st.integers(0, 10**6))
def test_clock_times_are_those_of_a_clock(seconds: int) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == seconds
    assert all(part < 60 for part in parts[1:])
