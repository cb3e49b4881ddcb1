"""Damage to the files of a folder, by seed: to their content, and to the files as such."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.content import Random, damaged

# --- files ----------------------------------------------------------------------------------------------------------


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _node(path: Path, device: tuple[int, int]) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*device))
    except OSError:  # needs rights that not everyone has
        path.symlink_to("/dev/zero" if device == (1, 5) else "/dev/full")


SPECIAL: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/null": lambda path: path.symlink_to("/dev/null"),
    "a device": lambda path: _node(path, (1, 5)),
    "a link to its folder": lambda path: path.symlink_to("."),
}
"""What a file is replaced with -> how."""


def mutate(folder: Path, targets: Sequence[Path], rng: Random) -> list[tuple[Path, str]]:
    """Damage one file of a folder, or two.

    Args:
        folder: of the case.
        targets: files in it, of which some are damaged.

    Returns:
        The damaged files, and how.
    """
    done = []
    for _ in range(rng.choices((1, 2), (9, 1))[0]):
        path = rng.choice(targets)
        done.append((path, _mutate(path, targets, rng)))
    return done


def _mutate(path: Path, targets: Sequence[Path], rng: Random) -> str:
    how = rng.random()
    if how < 0.1 or path.is_dir():
        name = rng.choice(list(SPECIAL))
        _remove(path)
        SPECIAL[name](path)
        return f"is {name}"
    if not path.is_file():
        return "as it was"
    alike = [other for other in targets if other != path and other.suffix == path.suffix and other.is_file()]
    if how < 0.14 and alike:
        other = rng.choice(alike)
        content_before, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        if rng.random() < 0.5:
            other.write_bytes(content_before)
        return f"has the content of {other.name}"
    before = content = path.read_bytes()
    if rng.random() < 0.01:
        content = _long(content, rng)
    for _ in range(rng.choices((1, 2, 5), (8, 1, 1))[0]):
        content = damaged(path.name, content, rng)
    path.write_bytes(content)
    return "changed" if content != before else "as it was"


def _long(content: bytes, rng: Random) -> bytes:
    """A word, or a line, of megabytes."""
    matches = list(re.finditer(rb"[A-Za-z]{3,}", content)) or list(re.finditer(rb"^", content))
    match = rng.choice(matches)
    return content[: match.start()] + b"x" * rng.choice((100_000, 3_000_000)) + content[match.end() :]
