"""Formats texts and scores as styled fragments and lines, by pure functions."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from blink.data.display import one_line, printable, ranks, segments
from blink.data.records import LinkedText

Fragments = list[tuple[str, str]]
"""Pieces of styled text, (style, text), as prompt_toolkit takes them."""
ESCAPE = "[ZeroWidthEscape]"
"""Style of what is written to a terminal as it is, and takes no room."""

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
        hyperlinks: make titles of entities links that the terminal opens.
        least: losing candidates with lower scores are hidden.
    """

    width: int = 80
    colour: bool = False
    k: int = 3
    hyperlinks: bool = False
    least: float = -math.inf

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


def hyperlinked(fragment: tuple[str, str], address: str | None, view: View) -> Fragments:
    """A fragment that a terminal opens an address from (OSC 8), where the view says so and it is one of the web."""
    if not view.hyperlinks or address is None or not address.lower().startswith(("http://", "https://")):
        return [fragment]
    # Percent signs stay, as of what is encoded already; nothing that is left can end the sequence.
    target = quote(address, safe="%/:?#[]@!$&'()*+,;=~-._")
    return [(ESCAPE, f"\x1b]8;;{target}\x1b\\"), fragment, (ESCAPE, "\x1b]8;;\x1b\\")]


def name_of(kb_id: str | None, row: int) -> str:
    """The id of an entity, or its row where it has none."""
    return one_line(kb_id or f"row {row}")


def score_text(score: float) -> str:
    """A score with three decimals."""
    return f"{score:.3f}"


def threshold_text(threshold: float | None) -> str:
    """A threshold as text."""
    return "none" if threshold is None else f"{threshold:g}"
