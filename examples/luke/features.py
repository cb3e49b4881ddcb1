"""Inputs of the model as ids: marked spans, windows over long texts, and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

NO_POSITION = -1
"""Padding of the positions of an entity."""


@dataclass(frozen=True, slots=True)  # there are millions
class EntitySlot:
    """An entity of an input: its id and the tokens that it covers.

    Attributes:
        id: row of the entity table.
        start: first token.
        end: token after the last.
    """

    id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model.

    Attributes:
        example: index of the example that it belongs to; a long one has several.
        where: source of the example, for messages.
        words: token ids, special tokens included.
        entities: the entities of the input.
        label: targets, in the form of the task; empty if unknown.
        note: data that the task needs for decoding.
    """

    example: int
    where: str
    words: Sequence[int]
    entities: Sequence[EntitySlot]
    label: Sequence[int] = ()
    note: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class MarkedSpan:
    """A span of a text that is marked by tokens before and after it.

    Attributes:
        start, end: in the unit of the text (characters or tokens), end exclusive.
        marker: id of the marker.
    """

    start: int
    end: int
    marker: int


def encode_marked(
    length: int, spans: Sequence[MarkedSpan], encode: Callable[[int, int], list[int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Encode the segments of a text between the bounds of spans, with markers around the spans, which may overlap.

    Args:
        length: of the text.
        spans: the spans.
        encode: returns the ids of the text between two offsets.

    Returns:
        ids, and the bounds of each span in them, markers included.
    """
    ids: list[int] = []
    begins, ends = [0] * len(spans), [0] * len(spans)
    inner_first = sorted(range(len(spans)), key=lambda i: (spans[i].end - spans[i].start, -i))
    borders = sorted({0, length, *(s.start for s in spans), *(s.end for s in spans)})
    for border, following in zip(borders, [*borders[1:], length], strict=True):
        for i in inner_first:
            if spans[i].end == border:
                ids.append(spans[i].marker)
                ends[i] = len(ids)
        for i in reversed(inner_first):
            if spans[i].start == border:
                begins[i] = len(ids)
                ids.append(spans[i].marker)
        ids += encode(border, following) if following > border else []
    return ids, list(zip(begins, ends, strict=True))


def keep_near(ids: Sequence[int], spans: Sequence[tuple[int, int]], limit: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Truncate a text to the ``limit`` tokens nearest to a span.

    A span longer than the limit keeps its first and last token (the markers) and as much as fits after the first.

    Returns:
        the remaining ids, and the spans in them.
    """
    if len(ids) <= limit:
        return list(ids), list(spans)

    def far(i: int) -> tuple[int, int]:
        if any(i in (start, end - 1) for start, end in spans):
            return -1, i
        return min(max(start - i, i - end + 1, 0) for start, end in spans), i

    nearest = sorted(sorted(range(len(ids)), key=far)[:limit])
    new_position = {old: new for new, old in enumerate(nearest)}
    return [ids[i] for i in nearest], [(new_position[start], new_position[end - 1] + 1) for start, end in spans]


def windows(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Windows of at most ``size`` over ``length`` tokens, each ``stride`` further (or its own length, if that is less)."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < length:
        end = min(start + size, length)
        bounds.append((start, end))
        if end == length:
            break
        start += min(size, stride)
    return bounds


def context(begin: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """Bounds of a span with its context: up to half of the room on the shorter side, the rest on the other.

    Args:
        begin: index of the span's first token.
        end: index of the token after its last.
        length: tokens of the document.
        limit: maximum tokens of the window, at least those of the span.
    """
    before, after = begin, length - end
    room = limit - (end - begin)
    if before < after:
        before = min(before, room // 2)
        after = min(after, room - before)
    else:
        after = min(after, room // 2)
        before = min(before, room - after)
    return begin - before, end + after


def collate(features: Sequence[Feature], pad: int, longest_mention: int) -> dict[str, Tensor]:
    """The model's inputs for a batch; without entities, only those of words.

    Args:
        features: n features.
        pad: id of the padding token.
        longest_mention: maximum tokens of an entity that have a position.

    Returns:
        ``input_ids`` and ``attention_mask``, *Shape:* (n, words), ``entity_ids`` and ``entity_attention_mask``,
        *Shape:* (n, entities), and ``entity_position_ids``, *Shape:* (n, entities, tokens); all int64.
    """
    words = max(len(f.words) for f in features)
    batch = {
        "input_ids": _filled(((f.words) for f in features), words, pad),
        "attention_mask": _filled(([1] * len(f.words) for f in features), words, 0),
    }
    entities = max(len(f.entities) for f in features)
    if entities == 0:
        return batch
    lengths = [min(e.end - e.start, longest_mention) for f in features for e in f.entities]
    positions = torch.full((len(features), entities, max(lengths)), NO_POSITION)
    for row, feature in zip(positions, features, strict=True):
        for slot, entity in zip(row, feature.entities, strict=False):
            count = min(entity.end - entity.start, longest_mention)
            slot[:count] = torch.arange(entity.start, entity.start + count)
    return batch | {
        "entity_ids": _filled(([e.id for e in f.entities] for f in features), entities, 0),
        "entity_attention_mask": _filled(([1] * len(f.entities) for f in features), entities, 0),
        "entity_position_ids": positions,
    }


def _filled(rows: Iterable[Sequence[int]], width: int, filler: int) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
