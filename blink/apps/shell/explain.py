"""Why a link was made: ``:explain``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from blink.apps.common import one_line
from blink.apps.shell.cards import head
from blink.apps.shell.reasons import reasons
from blink.apps.shell.render import Fragments, View, name_of, ranks, score_text, wrapped
from blink.data.records import Link, LinkedText
from blink.errors import DataError
from blink.linking.analysis import Analysis
from blink.linking.decoder import MODES
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities, log_sigmoid, log_softmax

OVERLAPS_SHOWN = 5


def share(log_probability: float) -> str:
    """A log-probability as a percentage."""
    percent = 100 * math.exp(min(log_probability, 0.0))
    return "<1 %" if percent < 1 else f"{percent:.0f} %"


def span_of(analysis: Analysis, link: Link) -> int:
    """The index in ``analysis.spans`` of the span that became ``link``.

    Raises:
        DataError: none did.
    """
    spans = analysis.spans
    for i in np.flatnonzero(spans.rows[:, 0] == link.row).tolist():
        if analysis.characters(int(spans.start[i]), int(spans.end[i])) == (link.start, link.end):
            return int(i)
    raise DataError(f"“{link.mention}” was not linked in this text; type the text again")


def triple_of(analysis: Analysis, link: Link) -> tuple[int, int, int]:
    """The original's triple: the row of a link, its first token, and the one past its last."""
    span = span_of(analysis, link)
    return link.row, int(analysis.spans.start[span]), int(analysis.spans.end[span]) + 1


def explanation(number: int, linked: LinkedText, analysis: Analysis, linker: Linker, view: View) -> Fragments:
    """Why link ``number`` was made: its probabilities, the losing candidates and spans, and the winner's description."""
    link = linked.links[number - 1]
    span = span_of(analysis, link)
    fragments = head(number, link, ranks(linked.links)[number - 1], view.colour)
    fragments.append(("class:faint", f"  characters {link.start} to {link.end}\n"))
    fragments += _figures(link, analysis.spans, span, linker.mode)
    fragments += _losing_candidates(link)
    fragments += reasons(analysis, span, link, linker, view)
    fragments += _losing_spans(analysis, span, linker)
    fragments.append(("class:key", "    about the winner\n"))
    return [*fragments, ("", wrapped(linker.catalogue[link.row].text or "no description", view.room, 6) + "\n")]


def _figures(link: Link, spans: ScoredSpans, span: int, mode: str) -> Fragments:
    rows = _SCORE_ROWS.get(MODES[mode].scores, _rows_of_inner_product)(link, spans.select(np.array([span])))
    width = max(len(percents) for _, _, percents, _ in rows)
    return [
        fragment
        for name, value, percents, note in rows
        for fragment in [
            ("", f"    {name:<8}"),
            ("class:score", f"{score_text(value):>8}"),
            ("", f"  {percents:>{width}}  " if width else "  "),
            ("class:faint", note + "\n"),
        ]
    ]


_Row = tuple[str, float, str, str]
"""Name of a score, its value, as a percentage or empty, and its meaning."""


def _rows_of_probability(link: Link, spans: ScoredSpans) -> list[_Row]:
    named = float(link_probabilities(spans).sum())
    entity = math.exp(float(log_softmax(spans.entity_logits)[0, 0]))
    return [
        ("mention", named, "", "probability that these words name something in the knowledge base"),
        ("entity", entity, "", f"that it is then this one of {len(link.candidates)} candidates"),
        ("score", link.score, "", "their product: that the link is right"),
    ]


def _rows_of_sum(link: Link, spans: ScoredSpans) -> list[_Row]:
    return [*_shares(link, spans), ("score", link.score, share(link.score), "their sum")]


def _rows_of_inner_product(link: Link, spans: ScoredSpans) -> list[_Row]:
    return [*_shares(link, spans), ("score", link.score, "", "the inner product of mention and entity")]


def _shares(link: Link, spans: ScoredSpans) -> list[_Row]:
    mention = float(log_sigmoid(spans.mention_logits)[0])
    entity = float(log_softmax(spans.entity_logits)[0, 0])
    return [
        ("mention", mention, share(mention), "that these words name an entity"),
        ("entity", entity, share(entity), f"that they name this one of {len(link.candidates)} candidates"),
    ]


_SCORE_ROWS: dict[Callable[[ScoredSpans], np.ndarray], Callable[[Link, ScoredSpans], list[_Row]]] = {
    joint_scores: _rows_of_sum,
    link_probabilities: _rows_of_probability,
}
"""The rows that explain a mode's score."""


def _losing_candidates(link: Link) -> Fragments:
    if len(link.candidates) < 2:
        return [("class:faint", "    no other candidate\n")]
    losers = link.candidates[1:]
    margin = link.score - losers[0].score
    fragments: Fragments = [
        ("class:key", "    losing candidates"),
        ("class:faint", f", the first behind by {score_text(margin)}\n"),
    ]
    return [*fragments, *(f for c in losers for f in _scored_line(one_line(c.title, 44), name_of(c.kb_id, c.row), c.score))]


def _losing_spans(analysis: Analysis, span: int, linker: Linker) -> Fragments:
    spans = analysis.spans
    best = MODES[linker.mode].scores(spans)[:, 0]
    touching = (spans.start <= spans.end[span]) & (spans.end >= spans.start[span]) & (spans.rows[:, 0] >= 0)
    touching[span] = False
    order = [i for i in np.argsort(-best, kind="stable").tolist() if touching[i]]
    if not order:
        return [("class:faint", "    no other span overlaps it\n")]
    fragments: Fragments = [("class:key", "    losing spans"), ("class:faint", " that overlap it, with their best entity\n")]
    for i in order[:OVERLAPS_SHOWN]:
        start, end = analysis.characters(int(spans.start[i]), int(spans.end[i]))
        entity = linker.catalogue[int(spans.rows[i, 0])]
        named = f"“{one_line(analysis.text[start:end], 40)}” → {one_line(entity.title, 40)}"
        fragments += _scored_line(named, name_of(entity.kb_id, entity.row), float(best[i]))
    if len(order) > OVERLAPS_SHOWN:
        fragments.append(("class:faint", f"      and {len(order) - OVERLAPS_SHOWN} more\n"))
    return fragments


def _scored_line(named: str, kb_id: str, score: float) -> Fragments:
    return [("class:score", f"    {score_text(score):>16}"), ("", f"  {named}"), ("class:id", f"  {kb_id}\n")]
