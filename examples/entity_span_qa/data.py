"""Reads ReCoRD's files; in them, spans end at their last character."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.luke.reading import Row, data_file, read_object

PLACEHOLDER, HIGHLIGHT = "@placeholder", "@highlight"
REMEDY = "get ReCoRD as examples/entity_span_qa/README.md says"


@dataclass(frozen=True)
class Candidate:
    """An entity of a passage.

    Attributes:
        start, end: in characters, end exclusive.
        text: its characters.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class ClozeExample:
    """A question with a gap.

    Attributes:
        where: file, passage and question.
        id: of the question.
        query: the sentence with the gap.
        passage: what it is about.
        candidates: entities of the passage, in order.
        answers: spans of the gold candidates.
        gold: their texts.
        misplaced: whether the passage has other words where one of them is said to be.
    """

    where: str
    id: str
    query: str
    passage: str
    candidates: tuple[Candidate, ...]
    answers: frozenset[tuple[int, int]]
    gold: tuple[str, ...]
    misplaced: bool = False


def read_cloze(folder: Path, split: str) -> list[ClozeExample]:
    """The questions of ``train.json`` or ``dev.json``.

    Raises:
        MissingFileError: the file is not there.
        DataError: it is malformed; the message names file, passage and question.
    """
    path = data_file(folder, f"{split}.json", REMEDY)
    document = read_object(path)
    questions = [e for passage in document.rows("data", "passage") for e in _passage(passage)]
    if not questions:
        raise document.error("there are no questions; look at the file")
    return questions


def _passage(row: Row) -> list[ClozeExample]:
    passage = row.row("passage")
    text = passage.text("text")
    spans = {_span(entity, text) for entity in passage.rows("entities", "entity")}
    candidates = tuple(Candidate(start, end, text[start:end]) for start, end in sorted(spans))
    return [_question(qa, text, candidates) for qa in row.rows("qas", "question")]


def _question(row: Row, passage: str, candidates: tuple[Candidate, ...]) -> ClozeExample:
    query = row.text("query")
    if (count := query.count(PLACEHOLDER)) != 1:
        raise row.error(f"'query' holds {PLACEHOLDER} {count} times; it must be there once")
    answers = row.rows("answers", "answer") if "answers" in row else []
    bounds = [_span(answer, passage) for answer in answers]
    gold = tuple(answer.text("text") for answer in answers)
    misplaced = any(passage[start:end].split() != text.split() for (start, end), text in zip(bounds, gold, strict=True))
    # Line breaks have no meaning here; a space instead of each keeps all offsets.
    plain = passage.replace("\n", " ")
    return ClozeExample(
        row.where, row.text("id"), query.replace("\n", " "), plain, candidates, frozenset(bounds), gold, misplaced
    )


def _span(row: Row, text: str) -> tuple[int, int]:
    return row.span("start", "end", len(text), "characters of the passage", inclusive=True)
