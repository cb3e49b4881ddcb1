"""The featurizer: measures how well each candidate fits its mention, as inputs of the reranker.

The bi-encoder's inner products, names, spelling, popularity and the mention itself are measured; their weights are learned, see
`blink.model.reranker`. All windows of a round are measured at once: the candidates of a span are consecutive elements of flat
arrays, since spans have between one and dozens of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blink.data.ranges import Groups, numbers_of
from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT
from blink.kb.index.selector import RowSelector
from blink.kb.live.patched import plain
from blink.kb.name_index import NameIndex
from blink.kb.name_similarity import MEASURES
from blink.kb.popularity import COLUMNS
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import SURROUNDINGS, TextContext, surroundings
from blink.model.config import FEATURE_GROUPS

FEATURES = tuple(name for group in FEATURE_GROUPS.values() for name in group)
"""Features, in order."""
MANY_ENTITIES = 100_000
"""Largest catalogue that rerankers are fitted on: larger ones count as this. In a small one a name has fewer rivals."""
NO_MATCH = VARIANT - 1
"""Kind of a candidate that does not have the mention's name."""
_COLUMN = {name: i for i, name in enumerate(FEATURES)}
_SPELLING = [_COLUMN[name] for name in MEASURES]
_POPULARITY = [_COLUMN[name] for name in COLUMNS]
_AROUND = [_COLUMN[name] for name in SURROUNDINGS]


@dataclass(frozen=True)
class Candidates:
    """Dense, alias and fuzzy candidates of the spans of one or more windows.

    Attributes:
        spans: with their dense candidates, -1 where there are fewer.
        groups: candidates of each span, the dense ones first.
        rows: of the candidates. *Shape:* (n,), int64.
        logits: inner products. *Shape:* (n,), float32.
        kinds: how the mention's name matches that of the entity, see `AliasMatch`; `NO_MATCH` where it does not.
            *Shape:* (n,), int64.
        namesakes: entities of each span's name. *Shape:* (m,), int64.
        topic_logits: inner products with the text around the spans; None where the model has no such vectors.
            *Shape:* (n,), float32.
    """

    spans: ScoredSpans
    groups: Groups
    rows: np.ndarray
    logits: np.ndarray
    kinds: np.ndarray
    namesakes: np.ndarray
    topic_logits: np.ndarray | None = None


@dataclass(frozen=True)
class CandidateFeatures:
    """Spans with all their candidates, and the features of each, as matrices.

    Attributes:
        spans: dense candidates, then the added ones; -1 where there is none.
        values: in the order of `FEATURES`. *Shape:* (m, candidates, features), float32.
    """

    spans: ScoredSpans
    values: np.ndarray

    def select(self, indices: np.ndarray) -> CandidateFeatures:
        """Those of some spans (a mask or indices)."""
        return CandidateFeatures(self.spans.select(indices), self.values[indices])

    @classmethod
    def concatenate(cls, features: Sequence[CandidateFeatures]) -> CandidateFeatures:
        """Concatenate; narrow ones are padded with candidates of row -1."""
        width = max((f.values.shape[1] for f in features), default=0)
        padded = [f._padded(width) for f in features] or [cls(ScoredSpans.none(0), np.empty((0, 0, len(FEATURES)), np.float32))]
        return cls(ScoredSpans.concatenate([f.spans for f in padded]), np.concatenate([f.values for f in padded]))

    def _padded(self, width: int) -> CandidateFeatures:
        added = ((0, 0), (0, width - self.values.shape[1]))
        rows = np.pad(self.spans.rows, added, constant_values=-1)
        logits = np.pad(self.spans.entity_logits, added, constant_values=-np.inf)
        return CandidateFeatures(replace(self.spans, rows=rows, entity_logits=logits), np.pad(self.values, (*added, (0, 0))))


@dataclass(frozen=True)
class MeasuredCandidates:
    """Candidates with their features.

    Attributes:
        candidates: of the spans.
        values: in the order of `FEATURES`. *Shape:* (n, features), float32.
    """

    candidates: Candidates
    values: np.ndarray

    def matrices(self, first: int = 0, past: int | None = None) -> CandidateFeatures:
        """The spans ``first`` to ``past`` (excluded; by default all) with their candidates as matrices."""
        candidates, bounds = self.candidates, self.candidates.groups.bounds
        spans = candidates.spans.select(slice(first, past))
        inside = slice(int(bounds[first]), int(bounds[first + len(spans)]))
        span = candidates.groups.owner[inside] - first
        position = np.arange(inside.start, inside.stop) - bounds[first:][span]
        # Added candidates are behind the columns of the dense ones, of which there may be fewer.
        n_dense = (spans.rows >= 0).sum(1)
        k = spans.rows.shape[1]
        column = np.where(position < n_dense[span], position, position - n_dense[span] + k)
        width = max(k, int(column.max(initial=-1)) + 1)
        rows, logits = np.full((len(spans), width), -1, dtype=np.int64), np.full((len(spans), width), -np.inf, dtype=np.float32)
        values = np.zeros((len(spans), width, len(FEATURES)), dtype=np.float32)
        rows[span, column], logits[span, column] = candidates.rows[inside], candidates.logits[inside]
        values[span, column] = self.values[inside]
        return CandidateFeatures(replace(spans, rows=rows, entity_logits=logits), values)


class CandidateFeaturizer:
    """Measures candidates.

    Args:
        names: of the knowledge base.
        entities: how many may be candidates; None for all.
    """

    def __init__(self, names: NameIndex, entities: int | None = None) -> None:
        self.names = names
        self._popularity = plain(names.popularity)
        self._entities = max(1, len(self._popularity) if entities is None else entities)

    def filtered(self, selector: RowSelector) -> CandidateFeaturizer:
        """The same where some rows alone may be candidates, which count as a catalogue of this size."""
        return CandidateFeaturizer(self.names, len(selector))

    def measure(self, candidates: Candidates, contexts: Sequence[TextContext]) -> MeasuredCandidates:
        """The features of all candidates.

        Args:
            candidates: of the spans of some windows.
            contexts: of these windows, in the order of the spans.
        """
        of_span = np.zeros((len(candidates.groups), len(FEATURES)), dtype=np.float32)
        of_span[:, _AROUND] = surroundings(contexts)
        _fill(of_span, _mentions(candidates, contexts))
        of_span[:, _COLUMN["entities"]] = np.log(min(self._entities, MANY_ENTITIES))
        values = of_span[candidates.groups.owner]
        spelling, popularity = self._spelling(candidates, contexts), self._popularity[candidates.rows]
        values[:, _SPELLING], values[:, _POPULARITY] = spelling, popularity
        _fill(values, _against_others(candidates, spelling[:, 0], popularity[:, 0]))
        _fill(values, _names(candidates))
        return MeasuredCandidates(candidates, values)

    def _spelling(self, candidates: Candidates, contexts: Sequence[TextContext]) -> np.ndarray:
        return self.names.fuzzy_index.compare_all(
            [string for context in contexts for string in context.strings],
            candidates.rows,
            candidates.groups.owner,
            [context.window_text for context in contexts],
            np.repeat(np.arange(len(contexts)), [len(context.bounds) for context in contexts]),
        )


def _fill(values: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    for name, column in columns.items():
        values[:, _COLUMN[name]] = column


def _against_others(candidates: Candidates, dice: np.ndarray, popularity: np.ndarray) -> dict[str, np.ndarray]:
    """Inner products, similarity and popularity of each candidate against those of the other candidates of its span.

    Args:
        candidates: of the spans.
        dice: similarity of the names. *Shape:* (n,), float32.
        popularity: of the entities. *Shape:* (n,), float32.
    """
    groups, is_alias, logits, has_topics = candidates.groups, candidates.kinds >= ALIAS, candidates.logits, True
    topics = candidates.topic_logits
    if topics is None:
        topics, has_topics = np.zeros_like(logits), False
    # Few calls on matrices, since a question has two dozen candidates: all maxima at once.
    table = np.full((7, len(logits)), -np.inf, dtype=np.float32)
    table[0], table[1], table[2] = logits, topics, dice
    np.copyto(table[3:6], (logits, topics, popularity), where=is_alias)
    np.copyto(table[6], logits, where=~is_alias)
    best = groups.max(table)
    has_named, has_other = best[3] > -np.inf, best[6] > -np.inf
    best_of, has_named_of = best[:, groups.owner], has_named[groups.owner]
    is_best = table[:2] >= best_of[:2]
    second = groups.max(np.where(is_best, np.float32(-np.inf), table[:2]))
    second = np.where(groups.sum(is_best.astype(np.float32)) > 1, best[:2], second)
    second = np.where(second > -np.inf, second, best[:2] - np.array([[10], [0]], dtype=np.float32))
    behind = table[:2] - best_of[:2]
    ahead = table[:2] - np.where(is_best, second[:, groups.owner], best_of[:2])
    # Where no entity has the name, 0 instead of the maximum avoids differences of infinities.
    top = np.stack([best[0], np.where(has_named, best[3], 0)])
    shifted = table[[0, 3]] - top[:, groups.owner]
    log_softmax = shifted - np.log(np.maximum(groups.sum(np.exp(shifted)), np.float32(1e-37)))[:, groups.owner]
    behind_named = np.where(has_named_of, table[:2] - np.where(has_named_of, best_of[3:5], 0), 0).clip(-20, 20)
    margin = np.where(has_named & has_other, np.where(has_named, best[3], 0) - np.where(has_other, best[6], 0), 0).clip(-20, 20)
    measured = {
        "logit": logits,
        "behind_best": behind[0].clip(-30),
        "ahead_of_next": ahead[0].clip(-30, 30),
        "log_softmax": log_softmax[0].clip(-30),
        "named_margin": margin[groups.owner],
        "behind_best_named": behind_named[0],
        "namesake_log_softmax": np.where(is_alias, log_softmax[1], 0).clip(-20),
        "namesakes_ahead": np.log1p(_named_ahead(groups, logits, is_alias)),
        "behind_best_dice": dice - best_of[2],
        "popularity_gap": np.where(is_alias, popularity - best_of[5], 0),
    }
    if has_topics:
        of_topics = (topics, behind[1].clip(-20), behind_named[1], ahead[1].clip(-20, 20))
        measured |= dict(zip(FEATURE_GROUPS["topic"], of_topics, strict=True))
    return measured


def _names(candidates: Candidates) -> dict[str, np.ndarray]:
    kinds = candidates.kinds
    return {
        "alias": kinds >= ALIAS,
        "bare_title": kinds >= BARE_TITLE,
        "title": kinds >= TITLE,
        "is_unambiguous": (kinds >= VARIANT) & (candidates.namesakes == 1)[candidates.groups.owner],
        "is_fuzzy_match": kinds == VARIANT,
    }


def _named_ahead(groups: Groups, logits: np.ndarray, is_alias: np.ndarray) -> np.ndarray:
    """How many entities of the mention's name have a higher inner product than each candidate. *Shape:* (n,), int64."""
    named = np.flatnonzero(is_alias)
    of_group = np.bincount(groups.owner[named], minlength=len(groups))
    others = of_group[groups.owner]
    at = numbers_of((np.cumsum(of_group) - of_group)[groups.owner], others)
    candidate = np.repeat(np.arange(len(logits)), others)
    counts: np.ndarray = np.bincount(candidate[logits[named[at]] > logits[candidate]], minlength=len(logits))
    return counts


def _mentions(candidates: Candidates, contexts: Sequence[TextContext]) -> dict[str, np.ndarray]:
    """The spans as mentions, and against those of their window that overlap them."""
    logits, strings = candidates.spans.mention_logits, [string for context in contexts for string in context.strings]
    is_cased = [c.is_cased if isinstance(c.is_cased, np.ndarray) else np.full(len(c.bounds), c.is_cased) for c in contexts]
    strongest, longer, longer_named, shorter_named = _overlaps(candidates, contexts)
    return {
        "namesakes": np.log1p(candidates.namesakes),
        "in_alias_table": candidates.namesakes > 0,
        "mention": logits.clip(-12, 12),
        "width": np.log1p([string.count(" ") for string in strings]),
        "is_lowercase": np.array([string[:1].islower() for string in strings]) & np.concatenate(is_cased),
        "is_capitalized": np.array([string[:1].isupper() for string in strings]),
        "is_numeric": np.array([string.replace(" ", "").isdigit() for string in strings]),
        "overlap_margin": (logits - strongest).clip(-12, 12),
        "longer_name": longer_named,
        "shorter_name": shorter_named,
        "longer_mention": (logits - longer).clip(-12, 12),
    }


def _overlaps(candidates: Candidates, contexts: Sequence[TextContext]) -> np.ndarray:
    """Of the other spans of its window that overlap each span: the highest mention score, also of the longer ones, at least
    -12, and whether a longer and a shorter one is a name. *Shape:* (4, m), float32.
    """
    spans, windows = candidates.spans, Groups(np.array([len(context.bounds) for context in contexts]))
    company = Groups(windows.sizes[windows.owner])
    other, span = numbers_of(windows.bounds[windows.owner], company.sizes), company.owner
    overlap = (spans.start[span] <= spans.end[other]) & (spans.start[other] <= spans.end[span]) & (other != span)
    table = np.zeros((4, len(span)), dtype=np.float32)
    table[:2] = -12
    if overlap.any():
        width = spans.end - spans.start
        wider = width[other] - width[span]
        longer, named = overlap & (wider > 0), (candidates.namesakes > 0)[other]
        np.copyto(table[:2], spans.mention_logits[other], where=(overlap, longer))
        table[2], table[3] = longer & named, overlap & (wider < 0) & named
    return company.max(table)
