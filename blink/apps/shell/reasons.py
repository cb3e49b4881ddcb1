"""What speaks for a candidate, in words: the evidence that a ranker weighed."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from blink.apps.common import one_line
from blink.apps.shell.render import Fragments, View, wrapped
from blink.data.records import Link
from blink.linking.features import FEATURES, CandidateFeatures, EvidenceRecorder
from blink.linking.graph_prior import GraphPrior
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker

_LINES = 2
"""Most lines for a candidate."""
_KINDS = (
    ("title", "its title"),
    ("bare_title", "its title but for brackets"),
    ("alias", "a name of it"),
    ("is_fuzzy_match", "nearly a name of it"),
    ("initials", "its initials"),
)
"""What a mention is to an entity, by the feature that says so; the strongest first."""


def reasons(text: str, link: Link, linker: Linker, view: View) -> Fragments:
    """What speaks for the winner and for the best candidate that lost; nothing where candidates are not ranked.

    The text is read once more for it: a reading keeps what the ranker made of the evidence, not the evidence.
    """
    ranked = linker.refiner
    evidence = _gathered(text, link, linker, ranked) if isinstance(ranked, Reranker) else None
    if evidence is None or not isinstance(ranked, Reranker):
        return []
    weighed = [name not in ranked.ranker.off for name in FEATURES]
    told = _told(evidence, weighed)
    fragments: Fragments = []
    for candidate in link.candidates[:2]:
        if candidate.row in told:
            parts = [*told[candidate.row], *_known(candidate.row, linker.prior)]
            line = f"{one_line(candidate.title, 40)}: {'; '.join(parts) or 'nothing'}"
            fragments.append(("", wrapped(line, view.room, 6, _LINES)))
    heading: Fragments = [("class:key", "    reasons"), ("class:faint", " (inner products in brackets)\n")]
    return [*heading, *fragments] if fragments else []


def _known(row: int, prior: GraphPrior | None) -> list[str]:
    """How well a graph knows the entity, where that counts."""
    if prior is None or not prior.weights.popularity:
        return []
    return [f"known from the graph: {prior.degree(row):,} links"]


def _gathered(text: str, link: Link, linker: Linker, ranked: Reranker) -> CandidateFeatures | None:
    """The evidence for the one span of a link."""
    again, recorder = copy.copy(linker), EvidenceRecorder(ranked.gatherer.names, ranked.gatherer.vectors)
    again.refiner = recorder
    for _ in again.read([text], spans=[[(link.start, link.end)]]):
        pass
    return next(iter(recorder.evidence), None)


def _told(evidence: CandidateFeatures, weighed: list[bool]) -> dict[int, list[str]]:
    """Catalogue row -> what speaks for it, of the features that the ranker weighs."""
    rows = [row for row in evidence.spans.rows[0].tolist() if row >= 0]
    real = evidence.features[0][evidence.spans.rows[0] >= 0]
    table = [{n: v for n, v, w in zip(FEATURES, values, weighed, strict=True) if w} for values in real.tolist()]
    namesakes = [each for each in table if each.get("alias", 0) > 0]
    best_known = [each for each in namesakes if each.get("popularity_gap", -1) == 0]
    nearest = max((each.get("logit", 0) for each in table), default=0)
    found = {}
    for row, each in zip(rows, table, strict=True):
        parts = _name(each, len(namesakes))
        if len(namesakes) > 1 and each in namesakes and "popularity_gap" in each:
            # Namesakes without an id are all as well known as each other, as far as anyone can tell.
            parts += ["less known than another"] if each["popularity_gap"] < 0 else []
            parts += ["the best known of these"] if best_known == [each] else []
        if "logit" in each:
            fits = "best" if each["logit"] >= nearest else "less"
            parts.append(f"fits the context {fits} ({each['logit']:.2f})")
        found[row] = parts
    return found


def _name(each: Mapping[str, float], namesakes: int) -> list[str]:
    """What the mention is to the entity as a name."""
    kind = next((words for feature, words in _KINDS if each.get(feature, 0) > 0), None)
    if kind is None:
        if "dice" not in each:
            return []
        return [f"spelt {100 * each['dice']:.0f} % like a name of it" if each["dice"] > 0 else "no name of it"]
    if each.get("is_unambiguous", 0) > 0:
        return [f"{kind}, and of nothing else"]
    others = namesakes - 1 if each.get("alias", 0) > 0 else 0
    shared = f", shared with {others} other{'s' * (others > 1)}" if others > 0 else ""
    return [f"{kind}{shared}"]
