"""Why a link was made: ``:explain N``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blink.data.display import one_line, ranks
from blink.data.records import Link
from blink.errors import DataError
from blink.explaining.cards import head
from blink.explaining.explanation import LEAST, ExplainedCandidate, ExplainedMention, Explanation
from blink.explaining.render import Fragments, View, name_of, score_text, wrapped
from blink.linking.analysis import Analysis

OVERLAPS_SHOWN = 5
_REASON_LINES = 2
"""Most lines for the reasons of a candidate."""
CHANGES = {
    "prior": "what the graph prior changes",
    "coherence": "what related entities of the text change",
    "document": "what full names of the text change",
}
"""Parts of a score that stages add to it, and what they are."""


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


def link_explanation(number: int, explained: Explanation, view: View) -> Fragments:
    """Why link ``number`` was made: what its score is made of, the losing candidates and spans, and who won."""
    link = explained.linked.links[number - 1]
    mention = explained.of_link(link)
    if mention is None:
        raise DataError(f"“{link.mention}” is not explained; type the text again")
    fragments = head(number, link, ranks(explained.linked.links)[number - 1], view)
    fragments.append(("class:faint", f"  characters {link.start} to {link.end}\n"))
    fragments += figures(mention, explained)
    fragments += losing_candidates(mention, explained)
    fragments += reason_lines(mention, view)
    fragments += _losing_spans(mention, explained)
    fragments.append(("class:key", "    about the winner\n"))
    return [*fragments, ("", wrapped(link.description or "no description", view.room, 6) + "\n")]


_Row = tuple[str, str, str, str]
"""Name of a figure, its value, as a percentage or empty, and its meaning."""


def figures(mention: ExplainedMention, explained: Explanation) -> Fragments:
    """The parts of the score of a span's best candidate, a line each."""
    best, kind = mention.candidates[0], explained.score_kind
    entity, n = best.parts["entity"], len(mention.candidates)
    rows: list[_Row]
    if kind == "probability":
        rows = [
            (
                "mention",
                score_text(mention.mention_score),
                "",
                "probability that these words name something in the knowledge base",
            ),
            ("entity", score_text(entity), "", f"that it is then this one of {n} candidates"),
            ("score", score_text(mention.score), "", "their product: that the link is right"),
        ]
    else:
        is_sum = kind == "log_probability"
        total = "their sum" if is_sum else "the inner product of mention and entity"
        rows = [
            ("mention", score_text(mention.mention_score), share(mention.mention_score), "that these words name an entity"),
            ("entity", score_text(entity), share(entity), f"that they name this one of {n} candidates"),
            ("score", score_text(mention.score), share(mention.score) if is_sum else "", total),
        ]
    rows += _changes(best)
    width = max(len(percents) for _, _, percents, _ in rows)
    return [
        fragment
        for name, value, percents, note in rows
        for fragment in [
            ("", f"    {name:<10}"),
            ("class:score", f"{value:>8}"),
            ("", f"  {percents:>{width}}  " if width else "  "),
            ("class:faint", note + "\n"),
        ]
    ]


def _changes(candidate: ExplainedCandidate) -> list[_Row]:
    changes = changes_of(candidate)
    if not changes:
        return []
    rows = [("without", score_text(candidate.parts["base"]), "", f"the score before {listed(list(changes))}")]
    return rows + [(name, f"{value:+.3f}", "", CHANGES[name]) for name, value in changes.items()]


def listed(names: Sequence[str]) -> str:
    """Names as an enumeration."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def changes_of(candidate: ExplainedCandidate) -> dict[str, float]:
    """What stages changed of a score: the prior in any case, others where it can be seen."""
    parts = {name: candidate.parts[name] for name in CHANGES if name in candidate.parts}
    return {name: value for name, value in parts.items() if name == "prior" or abs(value) >= 5e-4}


def shown_losers(mention: ExplainedMention, kind: str) -> tuple[list[ExplainedCandidate], str]:
    """The losing candidates with a score that counts, and how many others there are, in words or empty."""
    losers = mention.candidates[1:]
    shown = [c for c in losers if c.candidate.score >= LEAST[kind]]
    n_hidden = len(losers) - len(shown)
    return shown, f"{'and ' if shown else ''}{n_hidden} {'more ' if shown else ''}below {LEAST[kind]:.3g}" if n_hidden else ""


def losing_candidates(mention: ExplainedMention, explained: Explanation) -> Fragments:
    """The candidates that lost, and by how much the first did."""
    if len(mention.candidates) < 2:
        return [("class:faint", "    no other candidate\n")]
    shown, hidden = shown_losers(mention, explained.score_kind)
    fragments: Fragments = [
        ("class:key", "    losing candidates"),
        ("class:faint", f", the first behind by {score_text(mention.candidates[1].behind)}\n"),
    ]
    for loser in shown:
        of = loser.candidate
        fragments += scored_line(one_line(of.title, 44), name_of(of.kb_id, of.row), of.score)
    return [*fragments, ("class:faint", f"      {hidden}\n")] if hidden else fragments


def reason_lines(mention: ExplainedMention, view: View) -> Fragments:
    """Features of the best candidate and of the next, in words; nothing where candidates are not reranked."""
    fragments: Fragments = []
    for explained in mention.candidates[:2]:
        if explained.reasons:
            line = f"{one_line(explained.candidate.title, 40)}: {'; '.join(explained.reasons)}"
            fragments.append(("", wrapped(line, view.room, 6, _REASON_LINES)))
    heading: Fragments = [("class:key", "    reasons"), ("class:faint", " (inner products in brackets)\n")]
    return [*heading, *fragments] if fragments else []


def _losing_spans(mention: ExplainedMention, explained: Explanation) -> Fragments:
    others = [m for m in explained.mentions if m.start < mention.end and mention.start < m.end and m.span != mention.span]
    others = sorted((m for m in others if m.candidates), key=lambda m: -m.score)
    if not others:
        return [("class:faint", "    no other span overlaps it\n")]
    fragments: Fragments = [("class:key", "    losing spans"), ("class:faint", " that overlap it, with their best entity\n")]
    for other in others[:OVERLAPS_SHOWN]:
        best = other.candidates[0].candidate
        named = f"“{one_line(other.mention, 40)}” → {one_line(best.title, 40)}"
        fragments += scored_line(named, name_of(best.kb_id, best.row), other.score)
    if len(others) > OVERLAPS_SHOWN:
        fragments.append(("class:faint", f"      and {len(others) - OVERLAPS_SHOWN} more\n"))
    return fragments


def scored_line(named: str, kb_id: str, score: float) -> Fragments:
    """A line of a list: a score, what has it, and the id of the entity."""
    return [("class:score", f"    {score_text(score):>16}"), ("", f"  {named}"), ("class:id", f"  {kb_id}\n")]
