"""Texts and links as people and programs read them: on one line, without characters that change a terminal, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from blink.data.records import LinkedSection

_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)) if chr(code) not in "\n\t"}
_CONTROLS[ord("\r")] = " "


def printable(text: str) -> str:
    """``text`` without characters that would move the cursor or change the terminal; as long as before."""
    return text.translate(_CONTROLS)


def one_line(text: str, longest: int | None = None) -> str:
    """``text`` on one line, printable, cut with an ellipsis if it is longer than ``longest`` characters."""
    line = " ".join(printable(text).split())
    return line if longest is None or len(line) <= longest else line[: longest - 1].rstrip() + "…"


def json_pieces(section: LinkedSection, n_before: int = 0, *, escaped: bool = False) -> Iterator[str]:
    """The JSON of a text and its links, section by section; ``escaped`` is without characters outside ASCII."""
    if section.is_first:
        yield f'{{"text": {json.dumps(section.text, ensure_ascii=escaped)}, "links": ['
    for number, link in enumerate(section.links, n_before):
        yield (", " if number else "") + json.dumps(link.to_json(), ensure_ascii=escaped)
    if section.is_last:
        yield "]}\n"


def describe(section: LinkedSection, n_before: int = 0) -> Iterator[str]:
    """The text, and a line per link, without characters that would change a terminal, behind ``n_before`` links of the text."""
    if section.is_first:
        yield f"{printable(section.text)}\n"
    for link in section.links:
        name = one_line(link.kb_id or f"row {link.row}")
        target = f"{one_line(link.mention)} -> {one_line(link.title)} ({name})"
        yield f"  {link.start}-{link.end}  {target}  {link.score:.3f}\n"
    if section.is_last and not (n_before or section.links):
        yield "  no links\n"
