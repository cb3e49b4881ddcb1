"""Everything that speaks for or against an entity as the meaning of a mention, as numbers.

The bi-encoder proposes spans and candidates; names, spelling and popularity add candidates and evidence. What they weigh
is learned, see `blink.model.reranker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT, AliasMatch
from blink.kb.fuzzy_index import MEASURES
from blink.kb.knowledge_base import NameIndex
from blink.kb.popularity import COLUMNS
from blink.linking.scoring import ScoredSpans, log_softmax
from blink.model.config import FEATURE_GROUPS

REMEMBERED = 1 << 14
"""Strings whose names are kept in memory."""
FEATURES = tuple(name for group in FEATURE_GROUPS.values() for name in group)
"""Features, in order."""


@dataclass(frozen=True)
class CandidateFeatures:
    """Spans with every candidate, by vector and by name, and the features of each.

    Attributes:
        spans: candidates found by vector, then those added by name; -1 where there is none.
        features: as in `FEATURES`. *Shape:* (m, candidates, features), float32.
    """

    spans: ScoredSpans
    features: np.ndarray


@dataclass(frozen=True)
class TextContext:
    """What is known of the text around the spans.

    Attributes:
        strings: text of each span.
        cased: whether the text has capital letters.
    """

    strings: Sequence[str]
    cased: bool


class CandidateFeaturizer:
    """Looks names up and measures.

    Args:
        names: of the catalogue.
        vectors: entity vectors, for the scores of added candidates. *Shape:* (entities, d).
    """

    def __init__(self, names: NameIndex, vectors: np.ndarray) -> None:
        self.names, self.vectors = names, vectors
        # Long texts say the same words again and again, and looking up what is no name takes longest.
        self._found = lru_cache(maxsize=REMEMBERED)(self._look_up)

    def gather(self, spans: ScoredSpans, mentions: np.ndarray, around: TextContext) -> CandidateFeatures:
        """Add candidates by name and measure all.

        Args:
            spans: at least one, with candidates found by vector.
            mentions: vectors of the spans. *Shape:* (m, d).
            around: the text.
        """
        found = [self._found(s) for s in around.strings]
        matches, extra = [f[0] for f in found], [f[1] for f in found]
        wide = self._with(spans, mentions, extra)
        measured = {
            **_context(wide),
            **_names(wide, matches),
            **self._spelling(wide, around.strings),
        }
        measured |= self._popularity(wide, measured["alias"])
        measured |= _mention(wide, around, np.array([len(m) for m in matches]))
        m, k = wide.rows.shape
        features = np.stack([np.broadcast_to(measured[n], (m, k)) for n in FEATURES], axis=2).astype(np.float32)
        return CandidateFeatures(wide, features)

    def _look_up(self, string: str) -> tuple[Sequence[AliasMatch], Sequence[int]]:
        """Entities of that name, and the rows to add as candidates: those, or else entities whose name is nearly that."""
        matches = self.names.candidates(string)
        return matches, [m.row for m in matches] or self.names.fuzzy_index.similar(string)

    def _with(self, spans: ScoredSpans, mentions: np.ndarray, extra: Sequence[Sequence[int]]) -> ScoredSpans:
        retrieved = [set(row) for row in spans.rows.tolist()]
        new = [[r for r in found if r not in seen] for found, seen in zip(extra, retrieved, strict=True)]
        width = max(map(len, new))
        if not width:
            return spans
        rows = np.full((len(new), width), -1, dtype=np.int64)
        logits = np.full(rows.shape, -np.inf, dtype=np.float32)
        for i, added in enumerate(new):
            if added:
                rows[i, : len(added)] = added
                logits[i, : len(added)] = self.vectors[added].astype(np.float32) @ mentions[i]
        return replace(
            spans, rows=np.concatenate([spans.rows, rows], 1), entity_logits=np.concatenate([spans.entity_logits, logits], 1)
        )

    def _spelling(self, spans: ScoredSpans, strings: Sequence[str]) -> dict[str, np.ndarray]:
        measured = np.stack([self.names.fuzzy_index.compare(s, rows) for s, rows in zip(strings, spans.rows, strict=True)])
        dice = measured[..., 0]
        columns = dict(zip(MEASURES, np.moveaxis(measured, 2, 0), strict=True))
        return {**columns, "behind_best_dice": dice - dice.max(1, keepdims=True)}

    def _popularity(self, spans: ScoredSpans, named: np.ndarray) -> dict[str, np.ndarray]:
        table = np.where((spans.rows >= 0)[..., None], self.names.popularity[spans.rows.clip(min=0)], np.float32(0))
        columns = dict(zip(COLUMNS, np.moveaxis(table, 2, 0), strict=True))
        known = columns["popularity"]
        # Of the namesakes, how far behind the best known.
        best = np.where(named > 0, known, -np.inf).max(1, keepdims=True)
        behind = np.where((named > 0) & np.isfinite(best), known - np.where(np.isfinite(best), best, 0), 0)
        return {**columns, "popularity_gap": behind}


class EvidenceRecorder(CandidateFeaturizer):
    """Keeps what it gathers, for a ranker or instead of one: it can itself stand where a ranker would.

    Attributes:
        evidence: of each window that has spans, in the order of reading.
    """

    def __init__(self, names: NameIndex, vectors: np.ndarray) -> None:
        super().__init__(names, vectors)
        self.evidence: list[CandidateFeatures] = []

    def gather(self, spans: ScoredSpans, mentions: np.ndarray, around: TextContext) -> CandidateFeatures:
        """Gather and keep; see `CandidateFeaturizer.gather`."""
        evidence = super().gather(spans, mentions, around)
        self.evidence.append(evidence)
        return evidence

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, around: TextContext) -> ScoredSpans:
        """Keep the evidence, and leave the spans as they are; see `blink.linking.reranker.Refiner`."""
        if len(spans):
            self.gather(spans, mentions, around)
        return spans


def _context(spans: ScoredSpans) -> dict[str, np.ndarray]:
    logits = spans.entity_logits
    real = spans.rows >= 0
    finite = np.where(real, logits, 0)
    ordered = np.sort(logits, axis=1)
    best = ordered[:, -1:]
    second = ordered[:, -2:-1] if logits.shape[1] > 1 else best
    second = np.where(np.isfinite(second), second, best - 10)
    rival = np.where(logits >= best, second, best)
    return {
        "logit": finite,
        "behind_best": np.where(real, finite - best, 0).clip(-30),
        "ahead_of_next": np.where(real, finite - rival, 0).clip(-30, 30),
        "log_softmax": np.where(real, log_softmax(logits), 0).clip(-30),
    }


def _names(spans: ScoredSpans, matches: Sequence[Sequence[AliasMatch]]) -> dict[str, np.ndarray]:
    kinds = np.full(spans.rows.shape, VARIANT - 1)
    for i, found in enumerate(matches):
        for match in found:
            kinds[i, spans.rows[i] == match.row] = match.kind
    known = np.array([len(found) for found in matches])[:, None]
    return {
        "alias": kinds >= ALIAS,
        "bare_title": kinds >= BARE_TITLE,
        "title": kinds >= TITLE,
        "is_unambiguous": (kinds >= VARIANT) & (known == 1),
        "is_fuzzy_match": kinds == VARIANT,
        "namesakes": np.log1p(known),
        "in_alias_table": known > 0,
    }


def _mention(spans: ScoredSpans, around: TextContext, known: np.ndarray) -> dict[str, np.ndarray]:
    start, end = spans.start, spans.end
    overlap = (start[:, None] <= end) & (start <= end[:, None])
    np.fill_diagonal(overlap, False)
    width = end - start
    longer, shorter = overlap & (width > width[:, None]), overlap & (width < width[:, None])
    rival = np.where(overlap, spans.mention_logits, -12.0).max(1)
    longer_mention = np.where(longer, spans.mention_logits, -12.0).max(1)
    strings = around.strings
    columns = {
        "mention": spans.mention_logits.clip(-12, 12),
        "width": np.log1p([s.count(" ") for s in strings]),
        "is_lowercase": np.array([around.cased and s[:1].islower() for s in strings]),
        "is_capitalized": np.array([s[:1].isupper() for s in strings]),
        "is_numeric": np.array([s.replace(" ", "").isdigit() for s in strings]),
        "overlap_margin": (spans.mention_logits - rival).clip(-12, 12),
        "longer_name": (longer & (known > 0)).any(1),
        "shorter_name": (shorter & (known > 0)).any(1),
        "longer_mention": (spans.mention_logits - longer_mention).clip(-12, 12),
    }
    return {name: np.asarray(values, dtype=np.float32)[:, None] for name, values in columns.items()}
