"""Texts and links as people read them: on one line, without characters that change a terminal, in segments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blink.data.records import Link, LinkedText


_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)) if chr(code) not in "\n\t"}
_CONTROLS[ord("\r")] = " "


def printable(text: str) -> str:
    """``text`` without characters that would move the cursor or change the terminal; as long as before."""
    return text.translate(_CONTROLS)


def one_line(text: str, longest: int | None = None) -> str:
    """``text`` on one line, printable, cut with an ellipsis if it is longer than ``longest`` characters."""
    line = " ".join(printable(text).split())
    return line if longest is None or len(line) <= longest else line[: longest - 1].rstrip() + "…"


def ranks(links: tuple[Link, ...]) -> list[int]:
    """The place of each link when they are sorted by descending score; ties keep the order of position."""
    order = sorted(range(len(links)), key=lambda i: -links[i].score)
    positions = [0] * len(links)
    for position, i in enumerate(order):
        positions[i] = position
    return positions


def segments(linked: LinkedText) -> Iterator[tuple[int, int, int | None]]:
    """Split the text into ``(start, end, link)``: stretches of one link each (the best of overlapping ones), or of none."""
    positions = ranks(linked.links)
    bounds = {0, len(linked.text)}.union(*((link.start, link.end) for link in linked.links))
    pieces = []
    for start, end in pairwise(sorted(bounds)):
        covering = [i for i, link in enumerate(linked.links) if link.start <= start and end <= link.end]
        pieces.append((start, end, min(covering, key=positions.__getitem__) if covering else None))
    for owner, group in groupby(pieces, key=itemgetter(2)):
        of_owner = list(group)
        yield of_owner[0][0], of_owner[-1][1], owner
