"""Reads SQuAD 1.1 and 2.0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from examples.luke.reading import Row, data_file, read_object

REMEDY = "get SQuAD as examples/reading_comprehension/README.md says"
_SPACES = re.compile("[ \t\r\n\u202f]+")
_WORD = re.compile("[^ \t\r\n\u202f]+")


@dataclass(frozen=True)
class Answer:
    """A gold answer.

    Attributes:
        text: its text.
        start, end: first and last word of the passage that it overlaps.
        misplaced: whether the passage has other words at its place.
    """

    text: str
    start: int
    end: int
    misplaced: bool = False


@dataclass(frozen=True)
class Passage:
    """A paragraph of an article.

    Attributes:
        title: of the article, unescaped.
        text: the paragraph.
        words: its words, split at spaces.
    """

    title: str
    text: str
    words: tuple[str, ...]

    def word_starts(self) -> list[int]:
        """First character of each word."""
        return [match.start() for match in _WORD.finditer(self.text)]


@dataclass(frozen=True)
class SquadExample:
    """A question.

    Attributes:
        where: file, article, paragraph and question.
        id: of the question.
        question: the question.
        passage: the paragraph.
        answers: gold answers, empty for a question without answer.
        impossible: whether it is marked as unanswerable.
    """

    where: str
    id: str
    question: str
    passage: Passage
    answers: tuple[Answer, ...]
    impossible: bool


def file_name(split: str, with_negative: bool) -> str:
    """``train-v1.1.json`` and so on; version 2.0 has questions without answer."""
    return f"{split}-v{'2.0' if with_negative else '1.1'}.json"


def read_squad(folder: Path, split: str, with_negative: bool) -> list[SquadExample]:
    """The questions of a split.

    Raises:
        MissingFileError: the file does not exist; the message says if the other version does.
        DataError: it is malformed; the message names file, article, paragraph and question.
    """
    other = folder / file_name(split, not with_negative)
    hint = f"{other.name} exists: give --{'no' if with_negative else 'with'}-negative" if other.is_file() else REMEDY
    document = read_object(data_file(folder, file_name(split, with_negative), hint))
    questions = [
        _question(qa, passage)
        for article in document.rows("data", "article")
        for paragraph in article.rows("paragraphs", "paragraph")
        for passage in [_passage(article.text("title"), paragraph.text("context"))]
        for qa in paragraph.rows("qas", "question")
    ]
    if not questions:
        raise document.error("there are no questions; look at the file")
    return questions


def _passage(title: str, text: str) -> Passage:
    return Passage(unquote(title).replace("_", " "), text, tuple(w for w in _SPACES.split(text) if w))


def _question(row: Row, passage: Passage) -> SquadExample:
    answers = row.rows("answers", "answer") if "answers" in row else []
    impossible = row.flag("is_impossible", False)
    gold = tuple(_answer(answer, passage) for answer in answers)
    return SquadExample(row.where, row.text("id"), row.text("question"), passage, gold, impossible)


def _answer(row: Row, passage: Passage) -> Answer:
    text, start = row.text("text"), row.number("answer_start")
    end = start + len(text)
    if not (0 <= start < end <= len(passage.text)):
        raise row.error(f"'answer_start' is {start}; the answer must lie in the {len(passage.text)} characters of the passage")
    misplaced = passage.text[start:end].split() != text.split()
    return Answer(text, _word_at(passage.text, start), _word_at(passage.text, end - 1), misplaced)


def _word_at(text: str, position: int) -> int:
    """Index of the word at a character; a space belongs to the word before it."""
    return max(sum(1 for w in _SPACES.split(text[: position + 1]) if w) - 1, 0)
