"""Documents to inputs of the model: word pieces, the mentions in reach of each other, their candidates as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.entity_disambiguation.data import Document, Mention
from examples.luke.convert import MASK, UNKNOWN
from examples.luke.features import EntitySlot, Feature
from examples.luke.loading import Vocabulary

AROUND = 2
"""Pieces around a text: ``<s>`` and ``</s>``."""
SPLIT_MODES = ("simple", "per_mention")


@dataclass(frozen=True)
class Limits:
    """What of a document is read at once.

    Attributes:
        max_seq_length: word pieces.
        max_entity_length: mentions.
        max_candidate_length: candidates of a mention, most frequent first.
        split_mode: of a longer document, parts of like length (``simple``), or one part around each mention (``per_mention``).
    """

    max_seq_length: int = 512
    max_entity_length: int = 128
    max_candidate_length: int = 30
    split_mode: str = "simple"


@dataclass(frozen=True)
class Decided:
    """What an input decides.

    Attributes:
        mentions: number in the document of each mention of the input.
        answered: how many of them, from the first, are answered from this input; the others are only read along.
        candidates: rows of each mention's candidates, -1 in place of one that repeats a row before it.
    """

    mentions: tuple[int, ...]
    answered: int
    candidates: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Placed:
    """A mention among the pieces of its document; ``number`` counts the document's mentions."""

    number: int
    mention: Mention
    start: int
    end: int


def document_inputs(place: int, document: Document, vocabulary: Vocabulary, limits: Limits, *, training: bool) -> list[Feature]:
    """The inputs for a document.

    Args:
        place: of the document among the examples.
        document: the document.
        vocabulary: of the model.
        limits: what is read at once.
        training: leave out mentions whose entity is unknown or no candidate, and give the others their labels, which are places
            in the candidates.
    """
    usable = [(i, m) for i, m in enumerate(document.mentions) if not training or gold_place(m, vocabulary, limits) is not None]
    pieces, located = _pieces(document, usable, vocabulary)
    room = limits.max_seq_length - AROUND
    if len(pieces) <= room:
        windows = list(_groups(0, len(pieces), located, limits))
    elif limits.split_mode == "simple" or training:
        windows = [
            window for start, end in _even(len(pieces), room, located) for window in _groups(start, end, located, limits)
        ]
    else:
        windows = [_around(target, len(pieces), located, room, limits) for target in located]
    features = (
        _feature(place, document, pieces, window, vocabulary, limits, training=training) for window in windows if window.placed
    )
    return list(features)


def candidate_rows(mention: Mention, vocabulary: Vocabulary, limits: Limits) -> tuple[int, ...]:
    """Rows of a mention's candidates; all that the model does not know are ``[UNK]``, and each row is there once."""
    unknown = vocabulary.entities[UNKNOWN]
    rows: list[int] = []
    for candidate in mention.candidates[: limits.max_candidate_length]:
        row = vocabulary.entity(candidate.title)
        row = unknown if row is None else row
        rows.append(-1 if row in rows else row)
    return tuple(rows)


def gold_place(mention: Mention, vocabulary: Vocabulary, limits: Limits) -> int | None:
    """Place of the right entity among the candidates; None where it is not there, or the model does not know it."""
    if all(mention.title != c.title for c in mention.candidates[: limits.max_candidate_length]):
        return None
    row = vocabulary.entity(mention.title)
    return None if row is None else candidate_rows(mention, vocabulary, limits).index(row)


@dataclass(frozen=True)
class _Part:
    """Pieces from ``start`` to ``end`` with the mentions in them, of which the first ``answered`` are answered."""

    start: int
    end: int
    placed: Sequence[_Placed]
    answered: int


def _pieces(
    document: Document, usable: Sequence[tuple[int, Mention]], vocabulary: Vocabulary
) -> tuple[list[int], list[_Placed]]:
    """Pieces of a text, each mention and what lies between tokenised alone."""
    pieces: list[int] = []
    located: list[_Placed] = []
    at = 0

    def read(start: int, end: int) -> None:
        pieces.extend(vocabulary.pieces.encode(" ".join(document.words[start:end])))

    for number, mention in usable:
        read(at, mention.start)
        start = len(pieces)
        read(mention.start, mention.end)
        located.append(_Placed(number, mention, start, len(pieces)))
        at = mention.end
    read(at, len(document.words))
    return pieces, located


def _even(length: int, room: int, located: Sequence[_Placed]) -> Iterator[tuple[int, int]]:
    """Parts of like length that cut no mention, unless one is longer than a part."""
    size = math.ceil(length / math.ceil(length / room))
    start = 0
    while start < length:
        end = min(start + size, length)
        cut = next((p.start for p in located if p.start < end < p.end and p.start > start), end)
        yield start, cut
        start = cut


def _groups(start: int, end: int, located: Sequence[_Placed], limits: Limits) -> Iterator[_Part]:
    """A part, as often as it takes for no more mentions at once than the model reads."""
    inside = [p for p in located if start <= p.start and p.end <= end]
    for first in range(0, len(inside), limits.max_entity_length):
        group = inside[first : first + limits.max_entity_length]
        yield _Part(start, end, group, len(group))


def _around(target: _Placed, length: int, located: Sequence[_Placed], room: int, limits: Limits) -> _Part:
    """A part with a mention in its middle, as far as the text reaches; the nearest other mentions in it are read along."""
    spare = max(room - (target.end - target.start), 0)
    left, after = target.start, length - target.end
    before = min(left, spare // 2) if left < after else min(left, spare - min(after, spare // 2))
    start = target.start - before
    end = min(start + room, length)
    others = [p for p in located if p is not target and start <= p.start and p.end <= end]
    others.sort(key=lambda p: max(p.start - target.end, target.start - p.end))
    return _Part(start, end, [target, *others[: limits.max_entity_length - 1]], 1)


def _feature(
    index: int,
    document: Document,
    pieces: Sequence[int],
    window: _Part,
    vocabulary: Vocabulary,
    limits: Limits,
    *,
    training: bool,
) -> Feature:
    mask = vocabulary.entities[MASK]
    slots = [EntitySlot(mask, p.start - window.start + 1, min(p.end, window.end) - window.start + 1) for p in window.placed]
    rows = [candidate_rows(p.mention, vocabulary, limits) for p in window.placed]
    golds = [gold_place(p.mention, vocabulary, limits) for p in window.placed] if training else []
    words = [vocabulary.pieces.begin, *pieces[window.start : window.end], vocabulary.pieces.end]
    decided = Decided(tuple(p.number for p in window.placed), window.answered, tuple(rows))
    return Feature(index, document.where, words, slots, [g for g in golds if g is not None], decided)
