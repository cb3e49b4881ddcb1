"""Formats texts and scores as styled fragments and lines, by pure functions."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

from blink.apps.common import one_line, printable
from blink.data.records import Link, LinkedText

Fragments = list[tuple[str, str]]
"""Pieces of styled text, (style, text), as prompt_toolkit takes them."""

COLOURS = ("#ffd75f", "#87d787", "#87d7ff", "#d7afff", "#ffaf87", "#ff87af")
"""Backgrounds of mentions: the best link of a text takes the first, the next best the second, and round again."""

STYLE = {f"mention{i}": f"bg:{colour} fg:#000000" for i, colour in enumerate(COLOURS)} | {
    "title": "bold",
    "id": "fg:ansicyan",
    "score": "fg:ansigreen",
    "faint": "fg:ansibrightblack",
    "key": "bold",
    "error": "fg:ansired",
    "prompt": "bold fg:ansicyan",
    "bottom-toolbar": "noreverse bg:#303030 fg:#d0d0d0",
    "auto-suggestion": "fg:ansibrightblack",
}
WIDEST = 100
"""Longest line of running text, in columns: longer ones are hard to read."""
LONGEST_GAP = 2000
"""Longest stretch without a mention that is shown whole, in characters."""


@dataclass(frozen=True)
class View:
    """Display options.

    Attributes:
        width: columns of the terminal.
        colour: mark mentions by colour; brackets do it otherwise.
        k: candidates listed per link, the winner included.
    """

    width: int = 80
    colour: bool = False
    k: int = 3

    @property
    def room(self) -> int:
        """Columns for running text."""
        return max(20, min(self.width, WIDEST) - 1)


def wrapped(text: str, width: int, indent: int = 0, most: int | None = None) -> str:
    """``text`` in lines of at most ``width`` columns, indented, each with its line end; cut after ``most`` lines."""
    line = one_line(text)
    if any(unicodedata.east_asian_width(c) in "WF" for c in line):
        width = indent + (width - indent) // 2  # such characters take two columns
    room = max(width - indent, 10)
    lines = textwrap.wrap(line, room, max_lines=most, placeholder=" …", break_on_hyphens=False)
    return "".join(f"{' ' * indent}{line}\n" for line in lines)


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


def marked_text(linked: LinkedText, colour: bool) -> Fragments:
    """The text with its mentions coloured, or in brackets; long stretches without mentions are shortened."""
    positions = ranks(linked.links)
    fragments: Fragments = []
    for start, end, owner in segments(linked):
        piece = printable(linked.text[start:end])
        if owner is not None:
            fragments.append(mention(piece, positions[owner], colour))
        elif len(piece) > LONGEST_GAP:
            half = LONGEST_GAP // 2
            note = f" … {len(piece) - 2 * half:,} characters … "
            fragments += [("", piece[:half]), ("class:faint", note), ("", piece[-half:])]
        else:
            fragments.append(("", piece))
    return [*fragments, ("", "\n")]


def mention(text: str, rank: int, colour: bool) -> tuple[str, str]:
    """A mention: in the colour of its rank, or in brackets."""
    return (f"class:mention{rank % len(COLOURS)}", text) if colour else ("", f"[{text}]")


def name_of(kb_id: str | None, row: int) -> str:
    """The id of an entity, or its row where it has none."""
    return one_line(kb_id or f"row {row}")


def score_text(score: float) -> str:
    """A score with three decimals."""
    return f"{score:.3f}"


def threshold_text(threshold: float | None) -> str:
    """A threshold as text."""
    return "none" if threshold is None else f"{threshold:g}"
