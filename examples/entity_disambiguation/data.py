"""Reads the public data sets of entity disambiguation: a table of candidates, a CoNLL file of words, a list of persons.

A row of the table is a mention: document, document, mention, left words, right words, ``CANDIDATES``, a candidate
``id,prior,title`` in each of the next columns (or ``EMPTYCAND``), ``GT:``, and the gold entity as ``rank,id,prior,title``,
or ``-1,id,title`` if it is not a candidate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from blink.errors import DataError
from blink.files import require_file
from examples.luke.reading import data_file, text_lines

PERSONS_FILE = "persons.txt"
SETS = {
    "train": ("aida_train.csv", "aida_train.txt"),
    "dev": ("aida_testA.csv", "testa_testb_aggregate_original"),
    "test": ("aida_testB.csv", "testa_testb_aggregate_original"),
    "msnbc": ("wned-msnbc.csv", "msnbc.conll"),
    "aquaint": ("wned-aquaint.csv", "aquaint.conll"),
    "ace2004": ("wned-ace2004.csv", "ace2004.conll"),
    "clueweb": ("wned-clueweb.csv", "clueweb.conll"),
    "wikipedia": ("wned-wikipedia.csv", "wikipedia.conll"),
}
"""Name of a set to its table of mentions and its file of words."""
REMEDY = "get the sets as examples/entity_disambiguation/README.md says"
UNSCORED_DOCUMENTS = frozenset(("Jiří_Třanovský",))
"""Documents that published scores exclude (Le and Titov 2018)."""
_LINKED_COLUMNS = 6
_NO_WORD = re.compile(r"\W+")
_LAYOUT = "expected document, document, mention, left, right, CANDIDATES, candidates, GT:, gold, with tabulators between them"


@dataclass(frozen=True)
class Candidate:
    """An entity that a mention may refer to, and its prior probability."""

    title: str
    prior: float


@dataclass(frozen=True)
class Mention:
    """A mention of a document.

    Attributes:
        where: file and line.
        text: its words, from the table.
        title: its entity.
        candidates: by falling prior.
        start, end: its words in the document, end exclusive.
    """

    where: str
    text: str
    title: str
    candidates: tuple[Candidate, ...]
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Document:
    """A text and its mentions.

    Attributes:
        where: file and line of its first mention.
        name: its name.
        words: its words.
        mentions: in the order of the text.
    """

    where: str
    name: str
    words: tuple[str, ...]
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class Titles:
    """Maps the old titles of the data sets to those of the model.

    Attributes:
        redirects: old title to new one.
        existing: titles that exist; mentions of others are ignored. None keeps all mentions.
    """

    redirects: Mapping[str, str]
    existing: Set[str] | None = None

    def new(self, title: str) -> str:
        """The current form of a title."""
        return self.redirects.get(title, title)


def read_titles(titles_file: str | None, redirects_file: str | None) -> Titles:
    """Read a list of titles, one per line, and redirects, ``source<TAB>target`` per line.

    Raises:
        MissingFileError: a file is not there.
        DataError: a redirect has no tabulator.
    """
    remedy = "build-dump-db writes titles.txt and redirects.tsv"
    redirects: dict[str, str] = {}
    for number, line in text_lines(require_file(redirects_file, remedy)) if redirects_file else ():
        source, tab, target = line.partition("\t")
        if not tab:
            raise DataError(f"{redirects_file}, line {number}: expected source<TAB>target; {remedy}")
        redirects[source] = target
    existing = frozenset(line for _, line in text_lines(require_file(titles_file, remedy))) if titles_file else None
    return Titles(redirects, existing)


def read_documents(folder: Path, split: str, titles: Titles | None = None) -> list[Document]:
    """The documents of a set.

    Args:
        folder: with the files of `SETS`, and `PERSONS_FILE`.
        split: name of the set.
        titles: old titles to new ones.

    Raises:
        MissingFileError: a file is not there.
        DataError: a row is malformed, or its mention is not in the words; file and line are named.
    """
    titles = titles or Titles({})
    table, words_file = (data_file(folder, name, REMEDY) for name in SETS[split])
    persons = frozenset(line for _, line in text_lines(data_file(folder, PERSONS_FILE, REMEDY)))
    texts = _read_words(words_file)
    by_document: dict[str, list[Mention]] = defaultdict(list)
    for name, mention in _read_table(table):
        by_document[name].append(mention)
    documents = []
    for name, mentions in by_document.items():
        if name not in UNSCORED_DOCUMENTS:
            text = _text_of(name, mentions[0], texts, words_file)
            located = text.locate([_with_longer_name(m, mentions, persons) for m in mentions], words_file)
            usable = (_renamed(m, titles) for m in located if titles.existing is None or titles.new(m.title) in titles.existing)
            documents.append(Document(mentions[0].where, name, tuple(text.words), tuple(usable)))
    return documents


# --- the table ------------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> Iterator[tuple[str, Mention]]:
    for number, line in text_lines(path):
        where, columns = f"{path}, line {number}", line.split("\t")
        if len(columns) < 9 or columns[5] != "CANDIDATES" or columns[-2] != "GT:":
            raise DataError(f"{where}: found {len(columns)} columns; {_LAYOUT}")
        none = columns[6] == "EMPTYCAND"
        candidates = [] if none else [_candidate(column, where) for column in columns[6:-2]]
        ordered = sorted((c for c in candidates if c.title), key=lambda c: -c.prior)
        if title := _gold(columns[-1], where):  # mentions without a title have no entity in Wikipedia
            yield columns[0], Mention(where, columns[2], title, tuple(ordered))


def _candidate(column: str, where: str) -> Candidate:
    columns = column.split(",", 2)
    try:
        _, prior, title = columns
        return Candidate(_unescaped(title), float(prior))
    except ValueError as error:
        raise DataError(f"{where}: found the candidate {column[:60]!r}; expected id,prior,title") from error


def _gold(column: str, where: str) -> str:
    before = 2 if column.startswith("-1,") else 3
    columns = column.split(",", before)
    if len(columns) != before + 1:
        if column.strip() in ("-1", "-1,-1"):
            return ""
        raise DataError(f"{where}: found the gold entity {column[:60]!r}; expected rank,id,prior,title or -1,id,title")
    return _unescaped(columns[-1])


def _unescaped(title: str) -> str:
    return title.replace("&amp;", "&").strip()


def _with_longer_name(mention: Mention, others: Sequence[Mention], persons: Set[str]) -> Mention:
    """Give a partial name of a person the candidates of the longer names in its document, with averaged priors."""
    pattern = re.compile(rf"(?<!\S){re.escape(mention.text.lower())}(?!\S)")
    longer = [
        other
        for other in others
        if other.candidates and other.candidates[0].title in persons
        and other.text.lower() != mention.text.lower() and pattern.search(other.text.lower())
    ]  # fmt: skip
    if not longer:
        return mention
    priors: dict[str, float] = defaultdict(float)
    for other in longer:
        for candidate in other.candidates:
            priors[candidate.title] += candidate.prior / len(longer)
    ordered = sorted((Candidate(title, prior) for title, prior in priors.items()), key=lambda c: -c.prior)
    return replace(mention, candidates=tuple(ordered))


def _renamed(mention: Mention, titles: Titles) -> Mention:
    candidates = tuple(Candidate(titles.new(c.title), c.prior) for c in mention.candidates)
    return replace(mention, title=titles.new(mention.title), candidates=candidates)


# --- the words ------------------------------------------------------------------------------------------------------


class _Text:
    """Words of a document, and the spans of its linked mentions."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.spans: list[tuple[int, int]] = []

    def add(self, columns: Sequence[str], where: str) -> None:
        """Add a line: a word, and for linked mentions also ``B`` or ``I``, mention, title, URL and number."""
        here = len(self.words)
        self.words.append(columns[0])
        if len(columns) < _LINKED_COLUMNS:
            return
        if columns[1] == "B":
            self.spans.append((here, here + 1))
        elif columns[1] == "I" and self.spans and self.spans[-1][1] == here:
            self.spans[-1] = (self.spans[-1][0], here + 1)
        else:
            raise DataError(f"{where}: found {columns[1]!r} where a mention begins with B and continues with I; fix the line")

    def locate(self, mentions: Sequence[Mention], path: Path) -> Iterator[Mention]:
        """The mentions with their spans; both are in text order, and some spans are not in the table."""
        spans = iter(self.spans)
        for mention in mentions:
            for start, end in spans:
                if _plain(" ".join(self.words[start:end])) == _plain(mention.text):
                    yield replace(mention, start=start, end=end)
                    break
            else:
                problem = f"{path.name} has no mention {mention.text!r} after those of the rows before"
                raise DataError(f"{mention.where}: {problem}; the two files must list mentions in the same order")


def _read_words(path: Path) -> dict[str, _Text]:
    texts: dict[str, _Text] = {}
    text = None
    for number, line in text_lines(path):
        if line.startswith("-DOCSTART-"):
            name = line.removeprefix("-DOCSTART-").strip().removeprefix("(")
            text = texts.setdefault(name.split()[0] if name else "", _Text())
        elif text is None:
            raise DataError(f"{path}, line {number}: words before the first -DOCSTART- line; {REMEDY}")
        else:
            text.add(line.split("\t"), f"{path}, line {number}")
    return texts


def _text_of(name: str, first: Mention, texts: Mapping[str, _Text], path: Path) -> _Text:
    word = (name.split() or [""])[0]
    text = texts.get(word, texts.get(f"{word})"))
    if text is None:
        raise DataError(f"{first.where}: the document {name!r} is not in {path.name}; {REMEDY}")
    return text


def _plain(text: str) -> str:
    return _NO_WORD.sub("", text.lower())
