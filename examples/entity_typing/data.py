"""Reads Open Entity: the JSON arrays of the ERNIE distribution, and the JSON lines of the original release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.luke.reading import Row, data_file, read_rows

NINE_TYPES = ("entity", "event", "group", "location", "object", "organization", "person", "place", "time")
"""The types that are evaluated, of thousands in the original release."""
BRACKETS = {"-LRB-": "(", "-LCB-": "(", "-LSB-": "(", "-RRB-": ")", "-RCB-": ")", "-RSB-": ")"}
REMEDY = "get Open Entity as examples/entity_typing/README.md says"


@dataclass(frozen=True)
class TypingExample:
    """A mention in a sentence.

    Attributes:
        where: file and line.
        text: the sentence.
        start, end: the mention, in characters.
        labels: its types.
    """

    where: str
    text: str
    start: int
    end: int
    labels: tuple[str, ...]


def read_typing(folder: Path, split: str) -> list[TypingExample]:
    """The examples of ``train.json``, ``dev.json`` or ``test.json``.

    Raises:
        MissingFileError: the file is not there.
        DataError: a row is malformed; the message names file and line.
    """
    rows = read_rows(data_file(folder, f"{split}.json", REMEDY))
    return [_original(row) if "mention_span" in row else _ernie(row) for row in rows]


def _ernie(row: Row) -> TypingExample:
    """``sent``, ``start``, ``end``, ``labels``."""
    text = row.text("sent")
    start, end = row.span("start", "end", len(text), "characters of 'sent'")
    return TypingExample(row.where, text, start, end, tuple(row.texts("labels")))


def _original(row: Row) -> TypingExample:
    """``left_context_token``, ``mention_span``, ``right_context_token``, ``y_str``."""
    before, mention, right = (
        " ".join(row.texts("left_context_token")),
        row.text("mention_span"),
        row.texts("right_context_token"),
    )
    if not mention.strip():
        raise row.error("'mention_span' is empty; the words of the mention are expected")
    start = len(before) + 1 if before else 0
    text = " ".join([*([before] if before else []), mention, *right])
    return TypingExample(row.where, text, start, start + len(mention), tuple(t for t in row.texts("y_str") if t in NINE_TYPES))


def without_codes(text: str) -> str:
    """Bracket codes of the Penn Treebank as brackets."""
    for code, bracket in BRACKETS.items():
        text = text.replace(code, bracket)
    return text
