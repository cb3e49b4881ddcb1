"""Explanations as data: why each span of a text is a link or none, and what its scores are made of.

A client finds the links at another threshold t without the model: `Explanation.mentions` with a score above t, by descending
score (a stable sort), each unless it overlaps an earlier one. Requested spans are all links.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blink.data.records import Candidate, Link, LinkedText
from blink.explaining.parts import ScoreParts
from blink.explaining.reasons import reasons_by_row
from blink.kb.where import WhereLike
from blink.linking.analysis import Analysis
from blink.linking.decoder import MODES, DecodedSpan, Thresholds, competing
from blink.linking.linker import Linker
from blink.linking.scales import score_kind
from blink.linking.spans import SpanLike

LINKED, BELOW, OVERLAPPED, REPEATED, REMOVED = "linked", "below_threshold", "overlapped", "repeated", "removed"
"""Whether a span is a link, or why not. REPEATED: its entity is linked elsewhere, in a mode that links each once. REMOVED: its
entity was removed after the text was analyzed."""
LEAST = {"probability": 0.01, "log_probability": math.log(0.01), "inner_product": -math.inf}
"""Spans with lower scores are left out, by kind of score."""


@dataclass(frozen=True)
class ExplainedCandidate:
    """An entity considered for a span.

    Attributes:
        candidate: the entity and its score.
        description: of it.
        url: its address.
        types: what it is.
        behind: how far its score is behind that of the best candidate.
        parts: what the score is made of, see `ScoreParts.of`.
        reasons: its features in words.
    """

    candidate: Candidate
    description: str
    url: str | None
    types: tuple[str, ...]
    behind: float
    parts: Mapping[str, float]
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        of, parts = self.candidate, {name: value for name, value in self.parts.items() if math.isfinite(value)}
        about = {"description": self.description, "url": self.url, "types": list(self.types)}
        return {"row": of.row, "kb_id": of.kb_id, "title": of.title} | about | {
            "score": of.score, "behind": self.behind, "parts": parts, "reasons": list(self.reasons)
        }  # fmt: skip


@dataclass(frozen=True)
class ExplainedMention:
    """A span with its candidates.

    Attributes:
        span: its index in ``Analysis.spans``.
        start, end: characters ``[start, end)``.
        mention: these characters.
        status: `LINKED` or why not.
        score: of its best candidate.
        mention_score: that it names something in the knowledge base, as a probability or the logarithm of one.
        detector: probability of the mention detector alone; None for a requested span.
        overlapped_by: characters of the link that overlaps it, the best of several; None where none does.
        candidates: best first.
    """

    span: int
    start: int
    end: int
    mention: str
    status: str
    score: float
    mention_score: float
    detector: float | None
    overlapped_by: tuple[int, int] | None
    candidates: tuple[ExplainedCandidate, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        names = ("start", "end", "mention", "status", "score", "mention_score", "detector")
        return {name: getattr(self, name) for name in names} | {
            "overlapped_by": None if self.overlapped_by is None else list(self.overlapped_by),
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }


@dataclass(frozen=True)
class Explanation:
    """Why a text has its links, and no others.

    Attributes:
        linked: the text with its links.
        mode: how they are decoded, one of `blink.linking.decoder.MODES`.
        thresholds: of the links.
        requested: whether the spans are the caller's own, which are linked whatever their score.
        mentions: the spans that were considered, but for those with low scores, see `LEAST`; by position.
    """

    linked: LinkedText
    mode: str
    thresholds: Thresholds
    requested: bool
    mentions: tuple[ExplainedMention, ...]

    @property
    def text(self) -> str:
        """The text."""
        return self.linked.text

    @property
    def score_kind(self) -> str:
        """What scores are: ``probability``, ``log_probability`` or ``inner_product``."""
        return score_kind(self.mode)

    def of_link(self, link: Link) -> ExplainedMention | None:
        """The span that became a link."""
        same = (m for m in self.mentions if (m.start, m.end, m.status) == (link.start, link.end, LINKED))
        return next((m for m in same if m.candidates[0].candidate.row == link.row), None)

    def to_json(self) -> dict[str, Any]:
        """The JSON object; a threshold is null where there is none."""
        score, mention = self.thresholds.score, self.thresholds.mention
        return {
            "text": self.text,
            "threshold": score if math.isfinite(score) else None,
            "score_kind": self.score_kind,
            "mode": self.mode,
            "mention_threshold": mention if mention is not None and math.isfinite(mention) else None,
            "requested": self.requested,
            "links": self.linked.to_json()["links"],
            "mentions": [mention.to_json() for mention in self.mentions],
        }


def explain_text(
    linker: Linker,
    text: str,
    *,
    spans: Iterable[SpanLike] | None = None,
    where: WhereLike = None,
    thresholds: Thresholds | None = None,
) -> Explanation:
    """Link a text and explain its links; arguments and errors as of `explain_texts`."""
    return next(explain_texts(linker, [text], spans=None if spans is None else [spans], where=where, thresholds=thresholds))


def explain_texts(
    linker: Linker,
    texts: Iterable[str],
    *,
    spans: Iterable[Iterable[SpanLike]] | None = None,
    where: WhereLike = None,
    thresholds: Thresholds | None = None,
    batch_size: int = 64,
) -> Iterator[Explanation]:
    """Link texts and explain their links.

    Args:
        linker: that links them.
        texts: any iterable.
        spans: for each text its mentions, as of `Linker.link`.
        where: which entities may be linked, as of `Linker.link`.
        thresholds: of the links; by default the linker's own.
        batch_size: windows that go through the model at once.

    Raises:
        DataError: a text is not well-formed Unicode, or a span is outside its text.
        SettingsError: the filter cannot be read.
    """
    keep = linker.explained_outputs
    for analysis in linker.analyze(texts, spans=spans, where=where, batch_size=batch_size, keep=keep):
        yield explanation_of(linker, analysis, thresholds)


@dataclass(frozen=True)
class ExplainedSection:
    """Characters ``[start, end)`` of a text with their explanation, whose offsets count from ``start``."""

    explanation: Explanation
    start: int
    end: int
    is_last: bool


def explain_sections(linker: Linker, text: str) -> Iterator[ExplainedSection]:
    """Explain a text section by section, each before the next one is analyzed; together they have the links of `Linker.link`.

    Args:
        linker: that links it.
        text: of any length.

    Raises:
        DataError: the text is not well-formed Unicode.
    """
    for section, analysis in linker.analyze_sections(text, keep=linker.explained_outputs):
        end = section.start + len(section.text)
        yield ExplainedSection(explanation_of(linker, analysis), section.start, end, section.is_last)


def explanation_of(
    linker: Linker,
    analysis: Analysis,
    thresholds: Thresholds | None = None,
    *,
    only: tuple[int, int] | None = None,
) -> Explanation:
    """Explain the links of an analysis.

    Args:
        linker: that analyzed the text.
        analysis: with `Linker.explained_outputs`; what it does not keep is left out of the explanation.
        thresholds: of the links; by default the linker's own.
        only: characters ``[start, end)`` of the only span that is explained, whatever its score; None for all.
    """
    thresholds = thresholds or linker.thresholds
    linked = linker.decode(analysis, thresholds)
    status = _statuses(linker, analysis, thresholds)
    parts = ScoreParts(linker, analysis)
    least = min(LEAST[score_kind(linker.mode)], thresholds.score)
    bounds = analysis.span_characters()
    if only is None:
        shown = [i for i, of in status.items() if of[0] in (LINKED, REMOVED) or parts.scores[i, 0] >= least]
    else:
        shown = [i for i in status if bounds[i] == only]
    decoded = [DecodedSpan(i, *bounds[i], int(analysis.spans.rows[i, 0]), float(parts.scores[i, 0])) for i in shown]
    spans = zip(decoded, linker.links_of(analysis, decoded), strict=True)
    mentions = tuple(_mention(linker, analysis, parts, span, link, status[span.span]) for span, link in spans)
    return Explanation(linked, linker.mode, thresholds, analysis.requested is not None, mentions)


_Status = tuple[str, tuple[int, int] | None]
"""A status and what overlaps the span."""


def _statuses(linker: Linker, analysis: Analysis, thresholds: Thresholds) -> dict[int, _Status]:
    """The status of each span that has an entity, by index, in the order in which ties of scores are broken."""
    spans, bounds = analysis.spans, analysis.span_characters()
    with_entity = np.flatnonzero(spans.rows[:, 0] >= 0) if spans.rows.shape[1] else np.empty(0, np.int64)
    decoded = {d.span: d for d in linker.decoder.decode(analysis, thresholds)}
    if analysis.requested is not None:
        return dict.fromkeys(with_entity.tolist(), (LINKED, None))
    passed = set(competing(spans, linker.mode, thresholds).tolist())
    best_first = sorted(decoded.values(), key=lambda d: (-d.score, spans.start[d.span], spans.end[d.span], d.row))
    order = np.lexsort((spans.rows[with_entity, 0], spans.end[with_entity], spans.start[with_entity]))
    statuses = {}
    for i in with_entity[order].tolist():
        start, end = bounds[i]
        if start == end:
            continue
        over = next(((d.start, d.end) for d in best_first if d.start < end and start < d.end and d.span != i), None)
        if i in decoded:
            statuses[i] = (LINKED, None if not MODES[linker.mode].overlaps else over)
        elif i not in passed:
            statuses[i] = (BELOW, over)
        else:
            statuses[i] = (REPEATED if over is None else OVERLAPPED, over)
    return statuses


def _mention(
    linker: Linker, analysis: Analysis, parts: ScoreParts, span: DecodedSpan, link: Link | None, status: _Status
) -> ExplainedMention:
    i, requested = span.span, analysis.requested is not None
    candidates: Sequence[Candidate] = () if link is None else link.candidates
    described = reasons_by_row(analysis, i, linker)
    explained = tuple(
        ExplainedCandidate(
            c, *linker.described(c.row), span.score - c.score, parts.of(i, c.row), tuple(described.get(c.row, ()))
        )
        for c in candidates
    )
    detector = None if requested else float(1 / (1 + np.exp(-np.clip(analysis.spans.mention_logits[i], -60, 60))))
    return ExplainedMention(
        i, span.start, span.end, analysis.text[span.start : span.end], REMOVED if link is None else status[0], span.score,
        parts.mention(i), detector, status[1], explained,
    )  # fmt: skip
