"""Why words of a text are not linked: ``:explain NAME``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from blink.data.display import one_line
from blink.data.occurrences import occurrences
from blink.data.records import LinkedText
from blink.errors import DataError, SettingsError
from blink.explaining.explain import (
    OVERLAPS_SHOWN,
    figures,
    link_explanation,
    losing_candidates,
    reason_lines,
    scored_line,
    shown_losers,
)
from blink.explaining.explanation import (
    BELOW,
    OVERLAPPED,
    REMOVED,
    REPEATED,
    ExplainedMention,
    Explanation,
    explanation_of,
)
from blink.explaining.render import Fragments, View, name_of, score_text, wrapped
from blink.kb.name_search import NamedEntity, search_names
from blink.linking.analysis import Analysis, TokenizedText
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.span_scores import log_sigmoid

MOST_OCCURRENCES = 3
_ALL_SPANS = 1 << 20
_NAMED = 3


@dataclass(frozen=True)
class Explained:
    """An explained text, and what it was explained from."""

    explanation: Explanation
    analysis: Analysis
    linker: Linker


def is_words(argument: str, linked: LinkedText) -> bool:
    """Whether an argument names words of the text rather than the number of a link."""
    if not (argument.isascii() and argument.isdigit()):
        return bool(argument)
    return not 1 <= int(argument[:9]) <= len(linked.links) and bool(occurrences(linked.text, argument))


def words_explained(words: str, linker: Linker, analysis: Analysis, thresholds: Thresholds, view: View) -> Fragments:
    """Why words of a text are linked or not, wherever they occur.

    Raises:
        SettingsError: they do not occur in it.
    """
    explanation = explanation_of(linker, analysis, thresholds)
    links, places = explanation.linked.links, occurrences(analysis.text, words)
    if not places:
        numbered = f", or the number of a link from 1 to {len(links)}" if links else ""
        raise SettingsError(f"{words!r} is not in the text; give words of it{numbered}")
    numbers = {(link.start, link.end): number for number, link in enumerate(links, 1)}
    explained = Explained(explanation, analysis, linker)
    fragments: Fragments = []
    for start, end in places[:MOST_OCCURRENCES]:
        number = numbers.get((start, end))
        fragments += (
            why_not_linked(start, end, explained, view) if number is None else link_explanation(number, explanation, view)
        )
    more = len(places) - MOST_OCCURRENCES
    return [*fragments, ("class:faint", f"    {more} more occurrences\n")] if more > 0 else fragments


def why_not_linked(start: int, end: int, explained: Explained, view: View) -> Fragments:
    """Why characters ``[start, end)`` of a text, which are not linked, are not."""
    mention = _span_at(explained, start, end)
    if mention is None:
        why, details = _not_proposed(start, end, explained, view)
    else:
        why = reason_of(mention, explained.explanation)
        details = _of_span(mention, explained.explanation, view)
    words = one_line(explained.analysis.text[start:end], 60)
    head: Fragments = [("class:title", f"“{words}”"), ("class:faint", f"  characters {start} to {end}\n")]
    return [*head, ("", wrapped(f"not linked: {why}", view.room, 4)), *details, *_names(words, explained, mention, view)]


def reason_of(mention: ExplainedMention, explanation: Explanation) -> str:
    """Why a span is no link, in words."""
    over = mention.overlapped_by
    link = next((x for x in explanation.linked.links if (x.start, x.end) == over), None)
    named = "" if link is None else f"“{one_line(link.mention, 40)}” ({link.start}-{link.end}, {score_text(link.score)})"
    if mention.status == OVERLAPPED:
        return f"{named} overlaps it, and scores more than its {score_text(mention.score)}"
    if mention.status == REPEATED:
        return "its entity is linked elsewhere, and this mode links each once"
    if mention.status == REMOVED:
        return "its entity was removed from the knowledge base"
    assert mention.status == BELOW
    threshold = explanation.thresholds.score
    if mention.score > threshold:
        return f"its score as a mention is not above the mention threshold {explanation.thresholds.mention:g}"
    by = score_text(threshold - mention.score)
    behind = f"its best score {score_text(mention.score)} is {by} below the threshold {threshold:g}"
    return f"{behind}; {named} overlaps it too" if named else behind


def _span_at(explained: Explained, start: int, end: int) -> ExplainedMention | None:
    """The span of these characters that was considered, whatever its score."""
    every = explanation_of(explained.linker, explained.analysis, explained.explanation.thresholds, only=(start, end))
    return next(iter(every.mentions), None)


def _of_span(mention: ExplainedMention, explanation: Explanation, view: View) -> Fragments:
    if not mention.candidates:
        return []
    best = mention.candidates[0].candidate
    fragments: Fragments = [("class:key", "    its best candidate\n")]
    fragments += scored_line(one_line(best.title, 44), name_of(best.kb_id, best.row), best.score)
    return [*fragments, *figures(mention, explanation), *losing_candidates(mention, explanation), *reason_lines(mention, view)]


def _not_proposed(start: int, end: int, explained: Explained, view: View) -> tuple[str, Fragments]:
    """Why there is no such span, or none with an entity, and what it would be linked to if it were requested."""
    linker, analysis = explained.linker, explained.analysis
    over = [x for x in explained.explanation.linked.links if x.start < end and start < x.end]
    why = f"“{one_line(over[0].mention, 40)}” ({over[0].start}-{over[0].end}) is linked instead; " if over else ""
    try:
        probability = mention_probability(linker, analysis.text, start, end)
        (requested,) = linker.analyze([analysis.text], spans=[[(start, end)]], keep=linker.explained_outputs)
    except DataError:
        return f"{why}it holds no letters or digits", []
    if (start, end) in analysis.span_characters():
        why += "it is proposed as a mention, and no entity is a candidate that is probable at all"
    elif probability is None:
        why += f"it is not proposed as a mention: mentions are whole words, of at most {_longest(linker)} tokens"
    else:
        why += f"it is not proposed as a mention: the mention detector gives it {score_text(probability)}, and "
        why += _considered_instead(analysis, start, end) or (
            f"the best {linker.options.mentions} spans of a window are considered, unless they hold several names"
        )
    as_mention = explanation_of(linker, requested, explained.explanation.thresholds).mentions
    if not as_mention or not as_mention[0].candidates:
        return f"{why}; no entity could be linked", []
    mention = as_mention[0]
    fragments: Fragments = [("class:key", "    as a mention it would name\n")]
    shown = shown_losers(mention, explained.explanation.score_kind)[0]
    for candidate in [mention.candidates[0], *shown][:OVERLAPS_SHOWN]:
        of = candidate.candidate
        fragments += scored_line(one_line(of.title, 44), name_of(of.kb_id, of.row), of.score)
    return why, [*fragments, *reason_lines(mention, view)]


def _considered_instead(analysis: Analysis, start: int, end: int) -> str:
    """The most probable mention that overlaps characters ``[start, end)``; empty where none does."""
    bounds, logits = analysis.span_characters(), analysis.spans.mention_logits
    over = [i for i, (first, past) in enumerate(bounds) if first < end and start < past]
    if not over:
        return ""
    first, past = bounds[max(over, key=lambda i: float(logits[i]))]
    return f"“{one_line(analysis.text[first:past], 40)}” ({first}-{past}) is considered instead"


def mention_probability(linker: Linker, text: str, start: int, end: int) -> float | None:
    """Probability of the mention detector for characters ``[start, end)``; None where they are no span that it scores.

    Raises:
        DataError: they hold nothing to read.
    """
    stages = linker.stages
    (encoding,) = stages.tokenizer.tokenize([text])
    tokens = encoding.tokens_of(start, end)
    if tokens is None:
        raise DataError(f"span [{start}, {end}) holds nothing to read")
    (windows,) = stages.windows.inputs([TokenizedText(text, encoding)])
    window = next((w for w in windows if w.window.start <= tokens[0] and tokens[1] <= w.window.end), None)
    if window is None:
        return None
    options = replace(stages.detector.options, mentions=_ALL_SPANS, min_mention_log_prob=-np.inf, topics=False)
    (every,) = stages.detector.detect([window.ids], options=options)
    first = 1 - window.window.start
    same = np.flatnonzero((every.start == tokens[0] + first) & (every.end == tokens[1] - 1 + first))
    return float(np.exp(log_sigmoid(every.logits[same]))[0]) if len(same) else None


def _longest(linker: Linker) -> int:
    return linker.stages.detector.max_mention_length + 1


def _names(words: str, explained: Explained, mention: ExplainedMention | None, view: View) -> Fragments:
    """The entities of the name that are no candidates, or that there are none."""
    linker = explained.linker
    if linker.kb.names is None:
        return []
    named = [n for n in search_names(linker.kb, words, 20) if n.match in ("title", "alias", "variant")]
    if not named:
        return [("", wrapped("no entity of the knowledge base has this name; :add adds one", view.room, 4))]
    selector = linker.kb.selector(linker.options.where)
    filtered = [n for n in named if selector is not None and not selector.mask[n.entity.row]]
    if filtered:
        return [("", wrapped(f"left out by the filter: {_listed(filtered)}", view.room, 4))]
    candidates = {c.candidate.row for c in mention.candidates} if mention is not None else set[int]()
    missing = [n for n in named if n.entity.row not in candidates]
    return [("", wrapped(f"other entities of this name: {_listed(missing)}", view.room, 4))] if missing else []


def _listed(named: list[NamedEntity]) -> str:
    shown = [f"{one_line(n.entity.title)} ({name_of(n.entity.kb_id, n.entity.row)})" for n in named[:_NAMED]]
    return ", ".join([*shown, *([f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else [])])
