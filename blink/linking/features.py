"""The featurizer: measures how well each candidate fits its mention, as inputs of the reranker.

The bi-encoder's inner products, names, spelling, popularity and the mention itself are measured; their weights are learned, see
`blink.model.reranker`. All windows of a round are measured at once: the candidates of a span are consecutive elements of flat
arrays, since spans have between one and dozens of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blink.data.ranges import Groups, numbers_of
from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT
from blink.kb.knowledge_base import NameIndex
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
    """

    def __init__(self, names: NameIndex) -> None:
        self.names = names
        self._popularity = np.asarray(names.popularity)

    def measure(self, candidates: Candidates, contexts: Sequence[TextContext]) -> MeasuredCandidates:
        """The features of all candidates.

        Args:
            candidates: of the spans of some windows.
            contexts: of these windows, in the order of the spans.
        """
        groups = candidates.groups
        spans = np.zeros((len(groups), len(FEATURES)), dtype=np.float32)
        spans[:, _AROUND] = surroundings(contexts)
        spans[:, _COLUMN["entities"]] = np.log(min(len(self._popularity), MANY_ENTITIES))
        of_span = _mentions(candidates, contexts) | _name_of(candidates)
        for name, column in of_span.items():
            spans[:, _COLUMN[name]] = column
        values = spans[groups.owner]
        of_candidate = _inner_products(candidates) | _names(candidates) | _topics(candidates)
        for name, column in of_candidate.items():
            values[:, _COLUMN[name]] = column
        self._spelling(candidates, contexts, values)
        self._popular(candidates, values)
        return MeasuredCandidates(candidates, values)

    def _spelling(self, candidates: Candidates, contexts: Sequence[TextContext], values: np.ndarray) -> None:
        groups, sizes = candidates.groups, [len(context.bounds) for context in contexts]
        measured = self.names.fuzzy_index.compare_all(
            [string for context in contexts for string in context.strings],
            candidates.rows,
            groups.owner,
            [context.window_text for context in contexts],
            np.repeat(np.arange(len(contexts)), sizes),
        )
        values[:, _SPELLING] = measured
        dice = measured[:, 0]
        values[:, _COLUMN["behind_best_dice"]] = dice - groups.max(dice)[groups.owner]

    def _popular(self, candidates: Candidates, values: np.ndarray) -> None:
        groups, table = candidates.groups, self._popularity[candidates.rows]
        values[:, _POPULARITY] = table
        # Among entities of the mention's name, the distance to the most popular one.
        named = np.where(candidates.kinds >= ALIAS, table[:, COLUMNS.index("popularity")], -np.inf)
        values[:, _COLUMN["popularity_gap"]] = _difference(named, groups.max(named)[groups.owner], limit=np.inf)


def _inner_products(candidates: Candidates) -> dict[str, np.ndarray]:
    groups, logits = candidates.groups, candidates.logits
    best, second = _best_two(groups, logits)
    second = np.where(np.isfinite(second), second, best - 10)
    best_of = best[groups.owner]
    return {
        "logit": logits,
        "behind_best": (logits - best_of).clip(-30),
        "ahead_of_next": (logits - np.where(logits >= best_of, second[groups.owner], best_of)).clip(-30, 30),
        "log_softmax": _log_softmax(groups, logits, best).clip(-30),
    }


def _name_of(candidates: Candidates) -> dict[str, np.ndarray]:
    """What the name of each span says by itself; its entities against those of other names."""
    groups, logits, is_alias = candidates.groups, candidates.logits, candidates.kinds >= ALIAS
    best_named, best_other = (groups.max(np.where(mask, logits, -np.inf)) for mask in (is_alias, ~is_alias))
    return {
        "namesakes": np.log1p(candidates.namesakes),
        "in_alias_table": candidates.namesakes > 0,
        "named_margin": _difference(best_named, best_other),
    }


def _names(candidates: Candidates) -> dict[str, np.ndarray]:
    groups, kinds, logits = candidates.groups, candidates.kinds, candidates.logits
    is_alias = kinds >= ALIAS
    named = np.where(is_alias, logits, -np.inf)
    best_named = groups.max(named)
    return {
        "alias": is_alias,
        "bare_title": kinds >= BARE_TITLE,
        "title": kinds >= TITLE,
        "is_unambiguous": (kinds >= VARIANT) & (candidates.namesakes == 1)[groups.owner],
        "is_fuzzy_match": kinds == VARIANT,
        "behind_best_named": _difference(logits, best_named[groups.owner]),
        "namesake_log_softmax": np.where(is_alias, _log_softmax(groups, named, best_named), 0).clip(-20),
        "namesakes_ahead": np.log1p(_named_ahead(groups, logits, is_alias)),
    }


def _named_ahead(groups: Groups, logits: np.ndarray, is_alias: np.ndarray) -> np.ndarray:
    """How many entities of the mention's name have a higher inner product than each candidate. *Shape:* (n,), int64."""
    named = np.flatnonzero(is_alias)
    of_group = np.bincount(groups.owner[named], minlength=len(groups))
    first = np.cumsum(of_group) - of_group
    others = of_group[groups.owner]
    ahead = logits[named[numbers_of(first[groups.owner], others)]] > np.repeat(logits, others)
    counts: np.ndarray = np.bincount(np.repeat(np.arange(len(logits)), others)[ahead], minlength=len(logits))
    return counts


def _topics(candidates: Candidates) -> dict[str, np.ndarray]:
    """How well the text around a span fits each candidate, whatever the mention's name."""
    groups, logits = candidates.groups, candidates.topic_logits
    if logits is None:
        return {}
    best, second = _best_two(groups, logits)
    best_of = best[groups.owner]
    best_named = groups.max(np.where(candidates.kinds >= ALIAS, logits, -np.inf))
    return {
        "topic": logits,
        "topic_behind_best": _difference(logits, best_of),
        "topic_behind_best_named": _difference(logits, best_named[groups.owner]),
        "topic_ahead_of_next": _difference(logits, np.where(logits >= best_of, second[groups.owner], best_of)),
    }


def _best_two(groups: Groups, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best value of each group, and the second best, -inf in a group of one. *Shape:* (m,), float32, each."""
    best = groups.max(values)
    is_best = values >= best[groups.owner]
    second = groups.max(np.where(is_best, -np.inf, values))
    return best, np.where(groups.sum(is_best.astype(np.int64)) > 1, best, second)


def _log_softmax(groups: Groups, values: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax over each group; groups that are all -inf stay -inf. ``best``: the maximum of each."""
    shifted = values - np.where(np.isfinite(best), best, 0)[groups.owner]
    total = groups.sum(np.exp(shifted))
    result: np.ndarray = shifted - np.log(np.where(total > 0, total, 1))[groups.owner]
    return result


def _difference(a: np.ndarray, b: np.ndarray, limit: float = 20) -> np.ndarray:
    """Subtract, limited either way; 0 where either is -inf."""
    both = np.isfinite(a) & np.isfinite(b)
    return np.subtract(a, b, out=np.zeros_like(a), where=both).clip(-limit, limit)


def _mentions(candidates: Candidates, contexts: Sequence[TextContext]) -> dict[str, np.ndarray]:
    """The spans as mentions, and against those of their window that overlap them."""
    spans = candidates.spans
    windows = Groups(np.array([len(context.bounds) for context in contexts], dtype=np.int64))
    company = Groups(windows.sizes[windows.owner])
    other, span = numbers_of(windows.bounds[windows.owner], company.sizes), company.owner
    overlap = (spans.start[span] <= spans.end[other]) & (spans.start[other] <= spans.end[span]) & (span != other)
    width = spans.end - spans.start
    longer, shorter = overlap & (width[other] > width[span]), overlap & (width[other] < width[span])
    logits, named = spans.mention_logits, (candidates.namesakes > 0)[other]
    of_other, least = logits[other], np.float32(-12)
    strings = [string for context in contexts for string in context.strings]
    is_cased = np.concatenate([np.broadcast_to(context.is_cased, len(context.bounds)) for context in contexts])
    return {
        "mention": logits.clip(-12, 12),
        "width": np.log1p([string.count(" ") for string in strings]),
        "is_lowercase": np.array([string[:1].islower() for string in strings]) & is_cased,
        "is_capitalized": np.array([string[:1].isupper() for string in strings]),
        "is_numeric": np.array([string.replace(" ", "").isdigit() for string in strings]),
        "overlap_margin": (logits - company.max(np.where(overlap, of_other, least))).clip(-12, 12),
        "longer_name": company.max(longer & named),
        "shorter_name": company.max(shorter & named),
        "longer_mention": (logits - company.max(np.where(longer, of_other, least))).clip(-12, 12),
    }
