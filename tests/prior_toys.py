"""Priors of a random graph, and a linker's spans without a model, for the tests of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blink.data.prior_file import PriorTable, PriorWeights, Relations
from blink.linking.graph_prior import EntityAlignment
from blink.linking.scoring import ScoredSpans


def table(ids: Sequence[str], seed: int = 0, *, width: int = 6, layout: str | None = None, bare: int = 0) -> PriorTable:
    """A random graph's table; the last ``bare`` entities have no vector."""
    random = np.random.default_rng(seed)
    n = len(ids)
    ends = np.sort(random.integers(n, size=(3 * n, 2)), axis=1)
    edges = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0).astype(np.int32)
    vectors = random.normal(size=(n, width)).astype(np.float16).astype(np.float32) if width else None
    if vectors is not None and bare:
        vectors[-bare:] = 0
    relations = None
    if layout is not None:
        of = random.normal(size=(3, width)).astype(np.float16).astype(np.float32)
        bias, spread = random.normal(size=3).astype(np.float32), random.uniform(0.5, 2, size=3).astype(np.float32)
        relations = Relations(of, bias, spread, layout)
    triples = np.insert(ends, 1, random.integers(3, size=len(ends)), axis=1).astype(np.int32)
    return PriorTable(tuple(ids), random.integers(0, 500, size=n), edges, vectors, relations, {"graph": "toy"}, triples)


def weights(scores: str, *, text: int, graph: int = 6, seed: int = 0, width: int = 3, **numbers: Any) -> PriorWeights:
    """Weights with random projections, which count if ``vector`` is given."""
    random = np.random.default_rng(seed)
    prior = PriorWeights(scores, scores.startswith("ranker"))
    prior = replace(
        prior,
        text=random.normal(size=(width, text)).astype(np.float32),
        graph=random.normal(size=(width, graph)).astype(np.float32),
        gate=random.normal(size=graph).astype(np.float32),
        gate_bias=-0.5,
    )
    return replace(prior, **numbers)


class AsTheyAre(EntityAlignment):
    """Rows that are places in the table themselves; those past its end it lacks."""

    def __init__(self, entities: int) -> None:
        self.entities, self.shared = entities, entities

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.where(rows < self.entities, rows, -1).astype(np.int64)


def spans(rows: Any, logits: Any, *, mentions: Any = None, length: int = 1) -> ScoredSpans:
    """Spans side by side, each ``length`` long."""
    rows, logits = np.asarray(rows, np.int64), np.asarray(logits, np.float32)
    start = np.arange(len(rows), dtype=np.int64) * length
    mention_logits = np.full(len(rows), 2.0, np.float32) if mentions is None else np.asarray(mentions, np.float32)
    return ScoredSpans(start, start + length - 1, mention_logits, rows, logits)


def random_spans(random: np.random.Generator, m: int, k: int, entities: int, *, overlapping: bool = True) -> ScoredSpans:
    """Spans that may overlap, with candidates in order; some have fewer than ``k``."""
    rows = np.stack([random.permutation(entities)[:k] for _ in range(m)]).reshape(m, k).astype(np.int64)
    logits = random.normal(size=(m, k)).astype(np.float32) * 2
    lacking = random.random((m, k)) < 0.15
    rows, logits = np.where(lacking, -1, rows), np.where(lacking, np.float32(-np.inf), logits)
    order = np.lexsort((rows, -logits), axis=1)
    start = np.sort(random.integers(0, 3 * m, size=m)) if overlapping else np.arange(m) * 3
    end = start + random.integers(0, 3, size=m)
    mentions = random.normal(size=m).astype(np.float32) * 2
    return ScoredSpans(start, end, mentions, np.take_along_axis(rows, order, 1), np.take_along_axis(logits, order, 1))


def by_row(spans: ScoredSpans) -> list[dict[int, float]]:
    """Of each span the scores of its candidates."""
    return [
        {row: score for row, score in zip(rows, scores, strict=True) if row >= 0}
        for rows, scores in zip(spans.rows.tolist(), spans.entity_logits.tolist(), strict=True)
    ]


def same(one: ScoredSpans, other: ScoredSpans) -> bool:
    """Whether spans are the same to the last bit."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)
