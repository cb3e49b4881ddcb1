"""The featurizer: measures how well each candidate fits its mention, as inputs of the reranker.

The bi-encoder's inner products, names, spelling, popularity and the mention itself are measured; their weights are learned, see
`blink.model.reranker`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT, AliasMatch
from blink.kb.fuzzy_index import MEASURES
from blink.kb.knowledge_base import NameIndex
from blink.kb.popularity import COLUMNS
from blink.linking.scoring import ScoredSpans, log_softmax
from blink.model.config import FEATURE_GROUPS

FEATURES = tuple(name for group in FEATURE_GROUPS.values() for name in group)
"""Features, in order."""
_SURROUNDINGS = FEATURE_GROUPS["surroundings"]
MANY_ENTITIES = 100_000
"""Largest catalogue that rerankers are fitted on: larger ones count as this. In a small one a name has fewer rivals."""
_REACH = 40
"""Characters before and after a span that are searched for its neighbours."""
_WORD = re.compile(r"[^\W\d_][\w'’]*")
_LEFT = re.compile(r"(?<![\w-])(\w[\w'’.]*)[ \u00a0-]$")
"""The word directly before a span; a word within a compound such as ``anti-Vienna`` is no piece of a longer name."""
_RIGHT = re.compile(r"[ \u00a0-]([^\W_]+)(?!\w|-[a-z])")
"""The word directly after a span, other than in a compound such as ``Berlin-based``."""
_BEGINNING = re.compile(r"[ \u00a0][^\W_]+(?:['’]s)?[ \u00a0][a-z]")
"""A word behind a span that may begin another text: the word after it has a small letter."""
_OPENING = " \t\u00a0\"'“‘«([*#-–—"
_SENTENCE_ENDS = ".!?:\n\r•|"


@dataclass(frozen=True)
class Candidates:
    """Spans with dense, alias and fuzzy candidates.

    Attributes:
        spans: dense candidates, then the added ones; -1 where there is none.
        matches: entities of each span's name.
        topic_logits: inner products of the candidates with the text around the spans; None where the model has no such
            vectors. *Shape:* (m, candidates), float32.
    """

    spans: ScoredSpans
    matches: Sequence[Sequence[AliasMatch]]
    topic_logits: np.ndarray | None = None


@dataclass(frozen=True)
class TextContext:
    """The text around the spans.

    Attributes:
        text: the whole text.
        bounds: characters ``[start, end)`` of each span.
        window: characters ``[start, end)`` of the window that the spans are in.
        is_cased: whether the line or sentence of each span has capital letters. *Shape:* (m,), or one value for all.
        is_joined: whether the line of the spans joins several texts, so that another may begin behind each of them.
    """

    text: str
    bounds: Sequence[tuple[int, int]]
    window: tuple[int, int]
    is_cased: np.ndarray | bool
    is_joined: bool = False

    @cached_property
    def strings(self) -> list[str]:
        """Text of each span."""
        return [self.text[start:end] for start, end in self.bounds]


@dataclass(frozen=True)
class CandidateFeatures:
    """Spans with all their candidates, and the features of each.

    Attributes:
        spans: as in `Candidates`.
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


class CandidateFeaturizer:
    """Measures candidates.

    Args:
        names: of the knowledge base.
    """

    def __init__(self, names: NameIndex) -> None:
        self.names = names

    def measure(self, candidates: Candidates, context: TextContext) -> CandidateFeatures:
        """The features of all candidates of at least one span."""
        spans, matches = candidates.spans, candidates.matches
        measured = {**_inner_products(spans), **_names(spans, matches), **self._spelling(spans, context)}
        measured |= self._popularity(spans, measured["alias"])
        measured |= _rivals(spans, measured["alias"])
        measured |= _topics(spans, candidates.topic_logits, measured["alias"])
        measured |= _surroundings(context)
        measured["entities"] = np.array(np.log(min(len(self.names.popularity), MANY_ENTITIES)))
        measured |= _mention(spans, context, np.array([len(of_span) for of_span in matches]))
        values = np.empty((*spans.rows.shape, len(FEATURES)), dtype=np.float32)
        for i, name in enumerate(FEATURES):
            values[..., i] = measured[name]
        return CandidateFeatures(spans, values)

    def _spelling(self, spans: ScoredSpans, context: TextContext) -> dict[str, np.ndarray]:
        window = context.text[slice(*context.window)]
        measured = self.names.fuzzy_index.compare_all(context.strings, spans.rows, window)
        dice = measured[..., 0]
        columns = dict(zip(MEASURES, np.moveaxis(measured, 2, 0), strict=True))
        return {**columns, "behind_best_dice": dice - dice.max(1, keepdims=True)}

    def _popularity(self, spans: ScoredSpans, is_alias: np.ndarray) -> dict[str, np.ndarray]:
        table = np.where((spans.rows >= 0)[..., None], self.names.popularity[spans.rows.clip(min=0)], np.float32(0))
        columns = dict(zip(COLUMNS, np.moveaxis(table, 2, 0), strict=True))
        popularity = columns["popularity"]
        # Among entities of the mention's name, the distance to the most popular one.
        best = np.where(is_alias > 0, popularity, -np.inf).max(1, keepdims=True)
        gap = np.where((is_alias > 0) & np.isfinite(best), popularity - np.where(np.isfinite(best), best, 0), 0)
        return {**columns, "popularity_gap": gap}


def _inner_products(spans: ScoredSpans) -> dict[str, np.ndarray]:
    logits = spans.entity_logits
    real = spans.rows >= 0
    finite = np.where(real, logits, 0)
    ordered = np.sort(logits, axis=1)
    best = ordered[:, -1:]
    second = ordered[:, -2:-1] if logits.shape[1] > 1 else best
    second = np.where(np.isfinite(second), second, best - 10)
    strongest_other = np.where(logits >= best, second, best)
    return {
        "logit": finite,
        "behind_best": np.where(real, finite - best, 0).clip(-30),
        "ahead_of_next": np.where(real, finite - strongest_other, 0).clip(-30, 30),
        "log_softmax": np.where(real, log_softmax(logits), 0).clip(-30),
    }


def _names(spans: ScoredSpans, matches: Sequence[Sequence[AliasMatch]]) -> dict[str, np.ndarray]:
    kinds = np.full(spans.rows.shape, VARIANT - 1)
    for i, of_span in enumerate(matches):
        for match in of_span:
            kinds[i, spans.rows[i] == match.row] = match.kind
    counts = np.array([len(of_span) for of_span in matches])[:, None]
    return {
        "alias": kinds >= ALIAS,
        "bare_title": kinds >= BARE_TITLE,
        "title": kinds >= TITLE,
        "is_unambiguous": (kinds >= VARIANT) & (counts == 1),
        "is_fuzzy_match": kinds == VARIANT,
        "namesakes": np.log1p(counts),
        "in_alias_table": counts > 0,
    }


def _rivals(spans: ScoredSpans, is_alias: np.ndarray) -> dict[str, np.ndarray]:
    """Inner products of the entities of the mention's name against those of other names."""
    logits = np.where(spans.rows >= 0, spans.entity_logits, -np.inf)
    named = np.where(is_alias, logits, -np.inf)
    best_named, best_other = named.max(1, keepdims=True), np.where(is_alias, -np.inf, logits).max(1, keepdims=True)
    return {
        "named_margin": _difference(best_named, best_other),
        "behind_best_named": _difference(logits, np.broadcast_to(best_named, logits.shape)),
        "namesake_log_softmax": np.where(np.isfinite(named), log_softmax(named), 0).clip(-20),
        "namesakes_ahead": np.log1p((named[:, None, :] > logits[:, :, None]).sum(2)),
    }


def _topics(spans: ScoredSpans, topic_logits: np.ndarray | None, is_alias: np.ndarray) -> dict[str, np.ndarray]:
    """How well the text around a span fits each candidate, whatever the mention's name."""
    real = (spans.rows >= 0) & (topic_logits is not None)
    logits = np.where(real, 0 if topic_logits is None else topic_logits, -np.inf)
    best = logits.max(1, keepdims=True)
    second = np.partition(logits, -2, axis=1)[:, -2:-1] if logits.shape[1] > 1 else np.full_like(best, -np.inf)
    best_named = np.where(is_alias, logits, -np.inf).max(1, keepdims=True)
    return {
        "topic": np.where(real, logits, 0),
        "topic_behind_best": _difference(logits, np.broadcast_to(best, logits.shape)),
        "topic_behind_best_named": _difference(logits, np.broadcast_to(best_named, logits.shape)),
        "topic_ahead_of_next": _difference(logits, np.where(logits >= best, second, best)),
    }


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Subtract, limited to 20 either way; 0 where either is -inf."""
    both = np.isfinite(a) & np.isfinite(b)
    return np.where(both, np.where(both, a, 0) - np.where(both, b, 0), 0).clip(-20, 20)


def _surroundings(context: TextContext) -> dict[str, np.ndarray]:
    """Capitals of spans and of the words around them: ``Cook`` in ``Tim Cook`` is a piece of a longer name."""
    text, table = context.text, np.zeros((len(context.bounds), len(_SURROUNDINGS)), dtype=np.float32)
    words = _WORD.findall(text[slice(*context.window)])
    text_capitals = sum(word[0].isupper() for word in words) / max(1, len(words))
    cased = np.broadcast_to(context.is_cased, len(context.bounds))
    for i, (start, end) in enumerate(context.bounds):
        string = text[start:end]
        # What another window reads is no neighbour: with whole sentences in windows, it is another sentence.
        first, past = max(context.window[0], start - _REACH), min(context.window[1], end + _REACH)
        left, right = _LEFT.search(text[first:start]), _RIGHT.match(text[end:past])
        # A name that is repeated is no longer name.
        left = None if left is not None and left[1] == string else left
        right = None if right is not None and right[1] == string else right
        right = None if context.is_joined and _BEGINNING.match(text, end, past) else right
        left_capital = left is not None and left[1][0].isupper()
        left_is_first = left is not None and _is_first(text, start - len(left[0]), context.window[0])
        table[i] = (
            left_capital and not left_is_first,
            left_capital and left_is_first,
            right is not None and right[1][0].isupper(),
            _is_first(text, start, context.window[0]),
            len(string) > 1 and string.isupper(),
            np.log1p(sum(word[0].isupper() for word in _WORD.findall(string))),
            np.log(max(1, len(string))),
            cased[i],
            text_capitals,
        )
    return dict(zip(_SURROUNDINGS, table.T[:, :, None], strict=True))


def _is_first(text: str, start: int, first: int) -> bool:
    """Whether a sentence or the window begins at a character. ``first``: of the window."""
    before = text[max(first, start - _REACH) : start].rstrip(_OPENING)
    return not before or before[-1] in _SENTENCE_ENDS


def _mention(spans: ScoredSpans, context: TextContext, match_counts: np.ndarray) -> dict[str, np.ndarray]:
    start, end = spans.start, spans.end
    overlap = (start[:, None] <= end) & (start <= end[:, None])
    np.fill_diagonal(overlap, False)
    width = end - start
    longer, shorter = overlap & (width > width[:, None]), overlap & (width < width[:, None])
    strongest_overlap = np.where(overlap, spans.mention_logits, -12.0).max(1)
    longer_mention = np.where(longer, spans.mention_logits, -12.0).max(1)
    strings = context.strings
    columns = {
        "mention": spans.mention_logits.clip(-12, 12),
        "width": np.log1p([s.count(" ") for s in strings]),
        "is_lowercase": np.array([s[:1].islower() for s in strings]) & context.is_cased,
        "is_capitalized": np.array([s[:1].isupper() for s in strings]),
        "is_numeric": np.array([s.replace(" ", "").isdigit() for s in strings]),
        "overlap_margin": (spans.mention_logits - strongest_overlap).clip(-12, 12),
        "longer_name": (longer & (match_counts > 0)).any(1),
        "shorter_name": (shorter & (match_counts > 0)).any(1),
        "longer_mention": (spans.mention_logits - longer_mention).clip(-12, 12),
    }
    return {name: np.asarray(values, dtype=np.float32)[:, None] for name, values in columns.items()}
