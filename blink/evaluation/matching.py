"""Matching of predicted with gold mentions, with the counts of the original ELQ.

A *weak* hit needs overlapping spans, a *strong* hit equal spans; both need the same entity. Every gold mention and every
prediction is in at most one hit, and hits may not cross when both sides are sorted by the end of their spans. The number of
hits is thus the length of a longest common subsequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from blink.errors import DataError, SettingsError

Matching = Literal["weak", "strong"]


@dataclass(frozen=True, slots=True)
class EntitySpan:
    """An entity and its span ``[start, end)``, in any unit that gold and predictions share.

    Gold without spans has ``start`` and ``end`` None; then spans are ignored on both sides and all mentions overlap.
    An ``id`` of None equals ``""``. Ids are compared case-insensitively.
    """

    id: str | None
    start: int | None = None
    end: int | None = None

    @property
    def has_span(self) -> bool:
        """Whether both ends of the span are known."""
        return self.start is not None and self.end is not None


class MatchCounts(NamedTuple):
    """Number of hits under each matching."""

    weak: int
    strong: int


class _Item(NamedTuple):
    """A span with a normalized id, and its index in the caller's list."""

    key: str
    start: int
    end: int
    position: int


def count_matches(gold: Sequence[EntitySpan], predicted: Sequence[EntitySpan]) -> MatchCounts:
    """Count weak and strong hits between the gold and the predicted mentions of one text.

    Raises:
        DataError: the gold mentions have spans and a prediction has none.
    """
    return MatchCounts(len(match_pairs(gold, predicted, "weak")), len(match_pairs(gold, predicted, "strong")))


def match_pairs(gold: Sequence[EntitySpan], predicted: Sequence[EntitySpan], matching: Matching) -> list[tuple[int, int]]:
    """Find a largest set of hits.

    Of several largest sets, weak matching prefers one with the most equal spans. Remaining ties depend only on the order of
    the inputs.

    Returns:
        ``(index in gold, index in predicted)``, ascending by gold index.

    Raises:
        DataError: the gold mentions have spans and a prediction has none.
        SettingsError: ``matching`` is neither ``"weak"`` nor ``"strong"``.
    """
    if matching not in ("weak", "strong"):
        raise SettingsError(f"unknown matching {matching!r}; use 'weak' or 'strong'")
    if not gold or not predicted:
        return []
    gold_items, predicted_items = _comparable(gold, predicted)
    gold_items.sort(key=lambda item: item.end)
    predicted_items.sort(key=lambda item: item.end)
    weights = (
        _strong_weights(gold_items, predicted_items) if matching == "strong" else _weak_weights(gold_items, predicted_items)
    )
    return sorted((gold_items[g].position, predicted_items[p].position) for g, p in _heaviest_chain(weights))


def overlapping(gold: Sequence[EntitySpan], predicted: Sequence[EntitySpan]) -> list[list[bool]]:
    """For each gold mention (row), which predictions (columns) share a position with it, whatever their entity.

    Raises:
        DataError: the gold mentions have spans and a prediction has none.
    """
    if not gold:
        return []
    gold_items, predicted_items = _comparable(gold, predicted)
    return [[_overlap(g, p) for p in predicted_items] for g in gold_items]


def same_entity(gold: EntitySpan, predicted: EntitySpan) -> bool:
    """Whether both name the same entity."""
    return _key(gold) == _key(predicted)


def _key(span: EntitySpan) -> str:
    return (span.id or "").lower()


def _comparable(gold: Sequence[EntitySpan], predicted: Sequence[EntitySpan]) -> tuple[list[_Item], list[_Item]]:
    """Normalized spans of both sides. Spans are ignored if any gold mention has none."""
    use_spans = all(span.has_span for span in gold)
    return _items(gold, use_spans), _items(predicted, use_spans)


def _items(spans: Sequence[EntitySpan], use_spans: bool) -> list[_Item]:
    if not use_spans:
        return [_Item(_key(span), 0, 1, i) for i, span in enumerate(spans)]
    items = []
    for i, span in enumerate(spans):
        if span.start is None or span.end is None:
            raise DataError(
                f"predicted mention {i} ({span.id!r}) has no span but the gold has; give both sides spans or neither"
            )
        items.append(_Item(_key(span), span.start, span.end, i))
    return items


def _overlap(a: _Item, b: _Item) -> bool:
    return a.start < b.end and b.start < a.end


def _strong_weights(gold: list[_Item], predicted: list[_Item]) -> list[list[int]]:
    return [[int(g[:3] == p[:3]) for p in predicted] for g in gold]


def _weak_weights(gold: list[_Item], predicted: list[_Item]) -> list[list[int]]:
    """Weights of hits. They are so large that the 1 for equal spans only breaks ties between sets of equally many hits."""
    hit = min(len(gold), len(predicted)) + 1
    return [[hit + (g[1:3] == p[1:3]) if g.key == p.key and _overlap(g, p) else 0 for p in predicted] for g in gold]


def _heaviest_chain(weights: list[list[int]]) -> list[tuple[int, int]]:
    """Cells with the highest sum of weights that ascend in row and in column; a cell with weight 0 is not allowed.

    This is the weighted longest common subsequence by dynamic programming (Wagner and Fischer 1974).
    """
    rows, columns = len(weights), len(weights[0])
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for g in range(rows):
        for p in range(columns):
            skip = max(best[g][p + 1], best[g + 1][p])
            best[g + 1][p + 1] = max(skip, best[g][p] + weights[g][p])
    chain = []
    g, p = rows, columns
    while g and p:
        weight = weights[g - 1][p - 1]
        if weight and best[g][p] == best[g - 1][p - 1] + weight:
            g, p = g - 1, p - 1
            chain.append((g, p))
        elif best[g][p] == best[g - 1][p]:
            g -= 1
        else:
            p -= 1
    return chain
