"""Documents to inputs of the model: tokens, mentions, and their candidates as rows of the entity table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.entity_disambiguation.data import Document, Mention
from examples.luke.convert import MASK, UNKNOWN
from examples.luke.features import EntitySlot, Feature, context
from examples.luke.loading import Vocabulary

N_SPECIAL = 2
"""Special tokens around a text: ``<s>`` and ``</s>``."""
SPLIT_MODES = ("simple", "per_mention")


@dataclass(frozen=True)
class Limits:
    """Maximum sizes of an input.

    Attributes:
        max_seq_length: tokens.
        max_entity_length: mentions.
        max_candidate_length: candidates of a mention, by falling prior.
        split_mode: windows of a longer document: of equal length (``simple``), or one around each mention (``per_mention``).
    """

    max_seq_length: int = 512
    max_entity_length: int = 128
    max_candidate_length: int = 30
    split_mode: str = "simple"


@dataclass(frozen=True)
class Decided:
    """The mentions that an input decides.

    Attributes:
        mentions: number in the document of each mention of the input.
        answered: how many of them, from the first, are decided from this input; the others are context.
        candidates: rows of each mention's candidates, -1 for a repeated row.
    """

    mentions: tuple[int, ...]
    answered: int
    candidates: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _MentionTokens:
    """A mention with its bounds in tokens of the document; ``number`` counts the document's mentions."""

    number: int
    mention: Mention
    start: int
    end: int


def document_inputs(index: int, document: Document, vocabulary: Vocabulary, limits: Limits, *, training: bool) -> list[Feature]:
    """The inputs for a document.

    Args:
        index: of the document among the examples.
        document: the document.
        vocabulary: of the model.
        limits: sizes of an input.
        training: skip mentions whose entity is unknown or not a candidate, and label the others with its index.
    """
    usable = [(i, m) for i, m in enumerate(document.mentions) if not training or gold_index(m, vocabulary, limits) is not None]
    tokens, located = _tokenize(document, usable, vocabulary)
    room = limits.max_seq_length - N_SPECIAL
    if len(tokens) <= room:
        windows = list(_groups(0, len(tokens), located, limits))
    elif limits.split_mode == "simple" or training:
        windows = [
            window for start, end in _even(len(tokens), room, located) for window in _groups(start, end, located, limits)
        ]
    else:
        windows = [_around(target, len(tokens), located, room, limits) for target in located]
    features = (
        _feature(index, document, tokens, window, vocabulary, limits, training=training)
        for window in windows
        if window.mentions
    )
    return list(features)


def candidate_rows(mention: Mention, vocabulary: Vocabulary, limits: Limits) -> tuple[int, ...]:
    """Rows of a mention's candidates, ``[UNK]`` for unknown ones; repeated rows become -1."""
    unknown = vocabulary.entities[UNKNOWN]
    rows: list[int] = []
    for candidate in mention.candidates[: limits.max_candidate_length]:
        row = vocabulary.entity(candidate.title)
        row = unknown if row is None else row
        rows.append(-1 if row in rows else row)
    return tuple(rows)


def gold_index(mention: Mention, vocabulary: Vocabulary, limits: Limits) -> int | None:
    """Index of the gold entity among the candidates; None if it is not a candidate or unknown to the model."""
    if all(mention.title != c.title for c in mention.candidates[: limits.max_candidate_length]):
        return None
    row = vocabulary.entity(mention.title)
    return None if row is None else candidate_rows(mention, vocabulary, limits).index(row)


@dataclass(frozen=True)
class _Window:
    """Tokens from ``start`` to ``end`` with the mentions in them; the first ``answered`` are decided."""

    start: int
    end: int
    mentions: Sequence[_MentionTokens]
    answered: int


def _tokenize(
    document: Document, usable: Sequence[tuple[int, Mention]], vocabulary: Vocabulary
) -> tuple[list[int], list[_MentionTokens]]:
    """Tokenise each mention, and each text between mentions, separately."""
    tokens: list[int] = []
    located: list[_MentionTokens] = []
    next_word = 0

    def append(start: int, end: int) -> None:
        tokens.extend(vocabulary.tokenizer.encode(" ".join(document.words[start:end])))

    for number, mention in usable:
        append(next_word, mention.start)
        start = len(tokens)
        append(mention.start, mention.end)
        located.append(_MentionTokens(number, mention, start, len(tokens)))
        next_word = mention.end
    append(next_word, len(document.words))
    return tokens, located


def _even(length: int, room: int, located: Sequence[_MentionTokens]) -> Iterator[tuple[int, int]]:
    """Windows of equal length that split no mention, unless one is longer than a window."""
    size = math.ceil(length / math.ceil(length / room))
    start = 0
    while start < length:
        end = min(start + size, length)
        boundary = next((p.start for p in located if p.start < end < p.end and p.start > start), end)
        yield start, boundary
        start = boundary


def _groups(start: int, end: int, located: Sequence[_MentionTokens], limits: Limits) -> Iterator[_Window]:
    """A window, repeated until each has at most ``max_entity_length`` of its mentions."""
    inside = [p for p in located if start <= p.start and p.end <= end]
    for first in range(0, len(inside), limits.max_entity_length):
        group = inside[first : first + limits.max_entity_length]
        yield _Window(start, end, group, len(group))


def _around(target: _MentionTokens, length: int, located: Sequence[_MentionTokens], room: int, limits: Limits) -> _Window:
    """A window with a mention in its middle, as far as the text allows; the nearest other mentions are context."""
    start, _ = context(target.start, target.end, length, max(room, target.end - target.start))
    end = min(start + room, length)
    others = [p for p in located if p is not target and start <= p.start and p.end <= end]
    others.sort(key=lambda p: max(p.start - target.end, target.start - p.end))
    return _Window(start, end, [target, *others[: limits.max_entity_length - 1]], 1)


def _feature(
    index: int,
    document: Document,
    tokens: Sequence[int],
    window: _Window,
    vocabulary: Vocabulary,
    limits: Limits,
    *,
    training: bool,
) -> Feature:
    mask = vocabulary.entities[MASK]
    slots = [EntitySlot(mask, p.start - window.start + 1, min(p.end, window.end) - window.start + 1) for p in window.mentions]
    rows = [candidate_rows(p.mention, vocabulary, limits) for p in window.mentions]
    golds = [gold_index(p.mention, vocabulary, limits) for p in window.mentions] if training else []
    words = [vocabulary.tokenizer.begin, *tokens[window.start : window.end], vocabulary.tokenizer.end]
    decided = Decided(tuple(p.number for p in window.mentions), window.answered, tuple(rows))
    return Feature(index, document.where, words, slots, [g for g in golds if g is not None], decided)
