"""A client that calls an annotator as GERBIL does, on pynif, and counts as GERBIL counts.

GERBIL (Usbeck et al. 2015) sends one document a request, reads offsets as Unicode code points, and calls a link right if its
URI is that of the gold and its span equals (strong) or overlaps (weak) the gold one. Micro scores sum the counts of all
documents; macro scores average those of each document, 1 where there was nothing to link and nothing was linked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pynif import NIFCollection

Annotation: TypeAlias = tuple[int, int, str | None, float | None]
"""Start and end in code points, URI of the entity, confidence."""
UriSpan: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True)
class GerbilDocument:
    """A text with the spans that are to be linked.

    Attributes:
        uri: of its context.
        text: to annotate.
        spans: characters ``[start, end)``, for D2KB.
    """

    uri: str
    text: str
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class GerbilScores:
    """Precision, recall and F1: micro and macro."""

    micro: tuple[float, float, float]
    macro: tuple[float, float, float]


def turtle_of(*documents: GerbilDocument) -> str:
    """The documents in Turtle, with types and addresses as GERBIL's library gives them."""
    collection = NIFCollection()
    for document in documents:
        context = collection.add_context(uri=document.uri, mention=document.text)
        for start, end in document.spans:
            address = f"{document.uri.partition('#')[0]}#char={start},{end}"
            context.add_phrase(beginIndex=start, endIndex=end, uri=address)
    written: str = collection.dumps(format="turtle")
    return written


def annotations_of(turtle: str) -> dict[str, list[Annotation]]:
    """The annotations of each context of an answer, by its URI, in order of position."""
    annotations: dict[str, list[Annotation]] = {}
    for context in NIFCollection.loads(turtle, format="turtle").contexts:
        of_context = [_annotation(phrase, context.mention) for phrase in context.phrases]
        annotations[str(context.uri)] = sorted(of_context, key=lambda of: of[:2])
    return dict(sorted(annotations.items()))


def _annotation(phrase: Any, text: str) -> Annotation:
    start, end = int(phrase.beginIndex), int(phrase.endIndex)
    if phrase.mention != text[start:end]:
        raise ValueError(f"nif:anchorOf is {phrase.mention!r}, the text has {text[start:end]!r} at [{start}, {end})")
    uri = None if phrase.taIdentRef is None else str(phrase.taIdentRef)
    return start, end, uri, None if phrase.score is None else float(phrase.score)


def gerbil_scores(
    gold: Sequence[Sequence[UriSpan]], predicted: Sequence[Sequence[UriSpan]], *, weak: bool = True
) -> GerbilScores:
    """Scores of the links of documents, by weak or by strong annotation match."""
    counts = [_counts(of_gold, of_text, weak=weak) for of_gold, of_text in zip(gold, predicted, strict=True)]
    sums = tuple(map(sum, zip(*counts, strict=True)))
    of_documents = [_measures(*of) for of in counts]
    macro = tuple(sum(column) / len(counts) for column in zip(*of_documents, strict=True))
    return GerbilScores(_measures(*sums), macro)  # type: ignore[arg-type]


def _counts(gold: Sequence[UriSpan], predicted: Sequence[UriSpan], *, weak: bool) -> tuple[int, int, int]:
    """True positives, false positives and false negatives; each gold annotation takes one prediction."""
    overlaps: Callable[[UriSpan, UriSpan], bool] = lambda a, b: a[0] < b[1] and b[0] < a[1]  # noqa: E731
    left = list(predicted)
    hits = 0
    for annotation in gold:
        matching = [of for of in left if of[2] == annotation[2] and (overlaps(of, annotation) if weak else of == annotation)]
        if matching:
            left.remove(matching[0])
            hits += 1
    return hits, len(predicted) - hits, len(gold) - hits


def _measures(hits: int, wrong: int, missed: int) -> tuple[float, float, float]:
    if not hits:
        perfect = float(not wrong and not missed)
        return perfect, perfect, perfect
    precision, recall = hits / (hits + wrong), hits / (hits + missed)
    return precision, recall, 2 * precision * recall / (precision + recall)
