"""Tags of words in both IOB schemes, their spans, and entity scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TAG = re.compile(r"O|[BI]-\S+")


@dataclass(frozen=True)
class TagSpan:
    """A name.

    Attributes:
        start: first word.
        end: word after the last.
        type: its kind.
    """

    start: int
    end: int
    type: str


def tag_spans(tags: Sequence[str]) -> list[TagSpan]:
    """The spans of a sentence's tags.

    A span begins at ``B-``, and at ``I-`` after ``O`` or another type. So tags of IOB1 (``B-`` only between neighbours of one
    type) and of IOB2 (``B-`` always) give the same.
    """
    spans: list[TagSpan] = []
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, here = tag.partition("-")
        if kind and (mark != "I" or here != kind):
            spans.append(TagSpan(start, i, kind))
            kind = ""
        if here and not kind:
            start, kind = i, here
    return spans


def span_tags(spans: Iterable[TagSpan], length: int) -> list[str]:
    """Tags (IOB2) of spans that do not overlap."""
    tags = ["O"] * length
    for span in spans:
        tags[span.start : span.end] = [f"B-{span.type}", *[f"I-{span.type}"] * (span.end - span.start - 1)]
    return tags


def as_iob1(tags: Sequence[str]) -> list[str]:
    """Tags of IOB2 in the scheme of the original CoNLL files."""
    kinds = ["", *(tag[2:] for tag in tags)]
    return [f"I{tag[1:]}" if tag[0] == "B" and tag[2:] != before else tag for before, tag in zip(kinds, tags, strict=False)]


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of whole names with their type, over all sentences, as conlleval counts them (by seqeval).

    Args:
        gold: tags of each sentence.
        predicted: tags of each sentence.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # takes a second to import

    lists = ([list(tags) for tags in side] for side in (gold, predicted))  # seqeval knows sentences by this type
    scores = precision_recall_fscore_support(*lists, average="micro", zero_division=0)
    return {name: float(score) for name, score in zip(("precision", "recall", "f1"), scores, strict=False)}
