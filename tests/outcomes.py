"""Outcome of a command: success, or one clear line of error."""

from __future__ import annotations


def done(result: tuple[int, str, str]) -> tuple[str, str]:
    """Standard output and standard error of a successful command; ``result`` is that of the fixture `blink`."""
    status, out, err = result
    assert status == 0, err
    return out, err


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Check that a command wrote nothing but one clear line, with these words in it."""
    status, out, err = result
    assert out == ""
    one_clear_line(status, err, *words)


def one_clear_line(status: int, err: str, *words: str) -> None:
    """Check that a command failed, and that all it said of it is one line with these words in it."""
    lines = err.strip().splitlines()
    assert status != 0
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]
