"""Reads CoNLL-2003's files, with tags of either scheme (IOB1 or IOB2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blink.errors import DataError
from blink.input_files import read_text
from examples.luke.reading import data_file, shortened
from examples.ner.tags import TAG, TagSpan, tag_spans

FILES = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}
NEW_DOCUMENT = "-DOCSTART-"
REMEDY = "get CoNLL-2003 as examples/ner/README.md says"

_COLUMNS = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence.

    Attributes:
        line: number of its first line.
        words: its words.
        tags: their gold tags, as in the file.
    """

    line: int
    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def spans(self) -> list[TagSpan]:
        """The gold names."""
        return tag_spans(self.tags)


@dataclass(frozen=True)
class Document:
    """Sentences that are context of each other.

    Attributes:
        file: its name.
        sentences: in order.
    """

    file: str
    sentences: tuple[Sentence, ...]


def read_documents(folder: Path, split: str) -> list[Document]:
    """The documents of ``eng.train``, ``eng.testa`` or ``eng.testb``.

    The ``-DOCSTART-`` line before the first document and the empty line after the last sentence are optional.

    Raises:
        MissingFileError: the file is not there.
        DataError: a line is malformed; the message names it.
    """
    path = data_file(folder, FILES[split], REMEDY)
    documents: list[list[Sentence]] = [[]]
    for sentence in _sentences(path):
        if sentence is None:
            documents.append([])
        else:
            documents[-1].append(sentence)
    complete = [Document(path.name, tuple(sentences)) for sentences in documents if sentences]
    if not complete:
        raise DataError(f"{path} holds no sentences; look at the file")
    return complete


def _sentences(path: Path) -> Iterator[Sentence | None]:
    """Sentences, and None where a document begins."""
    words: list[str] = []
    tags: list[str] = []
    first_line = 0
    for number, line in enumerate(_lines(path), 1):
        columns = _COLUMNS.split(line.strip(" \t\r\n"))
        if columns[0] in ("", NEW_DOCUMENT):
            if words:
                yield Sentence(first_line, tuple(words), tuple(tags))
            words, tags = [], []
            if columns[0] == NEW_DOCUMENT:
                yield None
            continue
        if len(columns) < 2 or not TAG.fullmatch(columns[-1]):
            problem = f"found {shortened(line.strip())}; a word, and in the last column O, B-TYPE or I-TYPE, are expected"
            raise DataError(f"{path}, line {number}: {problem}")
        first_line = first_line if words else number
        words.append(columns[0])
        tags.append(columns[-1])
    if words:
        yield Sentence(first_line, tuple(words), tuple(tags))


def _lines(path: Path) -> list[str]:
    return read_text(path).split("\n")
