"""The entity vocabulary: the titles with a row in the entity table, in order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array, save_array
from blink.errors import DataError, SettingsError
from blink.files import atomic_open, read_json, require_file
from blink.input_files import read_lines_of
from examples.luke.archive import EntityRow, read_entities, read_titles
from examples.pretraining.dump_db import DumpDb, read_shard, resolve
from examples.pretraining.pool import spread

PAD, UNK, MASK, MASK2 = "[PAD]", "[UNK]", "[MASK]", "[MASK2]"
SPECIAL = (PAD, UNK, MASK)
"""Rows 0 to 2 in training; `MASK2` gets a row after the titles when the model is written for fine-tuning."""
_REMEDY = "make it with: python -m examples.cli pretraining build-entity-vocab"


@dataclass(frozen=True)
class EntityVocab:
    """Maps titles to rows.

    Attributes:
        rows: names and counts, in order; multilingual names are like ``de:Bern``.
    """

    rows: tuple[EntityRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def titles(self) -> list[str]:
        """The first name of each row."""
        return [row.names[0] for row in self.rows]

    def ids(self, language: str | None = None) -> dict[str, int]:
        """Title to row without special rows; for a multilingual vocabulary, the titles of one language."""
        prefix = f"{language}:" if language else ""
        every = ((name, number) for number, row in enumerate(self.rows) for name in row.names)
        return {n.removeprefix(prefix): number for n, number in every if n.startswith(prefix) and n not in (*SPECIAL, MASK2)}

    def row(self, special: str) -> int:
        """The row of a special entity, by name, as vocabularies order them differently.

        Raises:
            DataError: there is none.
        """
        for number, row in enumerate(self.rows):
            if any(name.rpartition(":")[2] == special for name in row.names):
                return number
        raise DataError(f"the entity vocabulary has no {special}; {_REMEDY}")

    def write(self, path: str | Path, language: str | None = None) -> None:
        """Write as ``.tsv`` (title, count) or, with any other suffix, as JSON lines; one row per line.

        ``language`` is written with each title except special rows.
        """
        path = Path(path)
        with atomic_open(path) as f:
            for number, row in enumerate(self.rows):
                f.write(f"{row.names[0]}\t{row.count}\n" if path.suffix == ".tsv" else _json_line(number, row, language))


def _json_line(number: int, row: EntityRow, language: str | None) -> str:
    prefix = f"{language}:" if language else None
    names = [[n.removeprefix(prefix), language] if prefix and n.startswith(prefix) else [n, None] for n in row.names]
    return json.dumps({"id": number, "entities": names, "count": row.count}, ensure_ascii=False) + "\n"


def read_vocab(path: str | Path) -> EntityVocab:
    """Read ``entity_vocab.jsonl``, the older ``entity_vocab.tsv``, or ``entity_vocab.json`` of a Hugging Face folder.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is malformed.
    """
    path = require_file(path, _REMEDY)
    readers = {".tsv": read_titles, ".json": _read_map}
    rows = tuple(readers.get(path.suffix, read_entities)(path))
    if not rows:
        raise DataError(f"{path} is empty; {_REMEDY}")
    return EntityVocab(rows)


def _read_map(path: Path) -> Iterator[EntityRow]:
    value = read_json(path, _REMEDY)
    if not isinstance(value, dict) or not all(isinstance(row, int) for row in value.values()):
        raise DataError(f"{path} does not map titles to rows; {_REMEDY}")
    names: list[list[str]] = [[] for _ in range(max(value.values(), default=-1) + 1)]
    for name, row in value.items():
        names[row].append(name)
    if not all(names):
        raise DataError(f"{path} has no title of the row {names.index([])}; {_REMEDY}")
    return (EntityRow(tuple(titles_of_row)) for titles_of_row in names)


# --- from a dump ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VocabChoice:
    """Criteria for titles of a vocabulary.

    Attributes:
        size: rows, special ones included.
        min_count: minimum links to a title.
        white_list: titles that come first, whatever their count, if there is at least one link to them.
        white_list_only: include only these.
        language: language of the titles.
    """

    size: int = 1_000_000
    min_count: int = 0
    white_list: frozenset[str] = frozenset()
    white_list_only: bool = False
    language: str | None = None


def build_vocab(
    db: DumpDb, choice: VocabChoice, pool_size: int = 1, progress: Callable[[], None] = lambda: None
) -> EntityVocab:
    """Count the links to each article, redirects followed, and select the most frequent titles.

    Args:
        db: parsed pages.
        choice: criteria.
        pool_size: processes that count.
        progress: called after each shard.

    Raises:
        SettingsError: no title is left.
    """
    counts: Counter[str] = Counter()
    for links in spread(_count, db.shards, pool_size):
        counts.update(links)
        progress()
    return select_titles(_resolved(counts, db.titles(), db.redirects()), choice)


def select_titles(counts: Counter[str], choice: VocabChoice) -> EntityVocab:
    """The vocabulary of counted titles: white-listed ones, then by falling count, ties in alphabetical order.

    Raises:
        SettingsError: no title is left.
    """
    first = [t for t in choice.white_list if counts[t] > 0]
    others = (
        [] if choice.white_list_only else [t for t, n in counts.items() if n >= choice.min_count and t not in choice.white_list]
    )
    ordered = [t for group in (first, others) for t in sorted(group, key=lambda t: (-counts[t], t))]
    frequent = ordered[: max(choice.size - len(SPECIAL), 0)]
    if not frequent:
        problem = f"no title is left with a size of {choice.size} and at least {choice.min_count} links"
        raise SettingsError(f"{problem}; lower --min-count, raise --vocab-size, or check --white-list")
    prefix = f"{choice.language}:" if choice.language else ""
    return EntityVocab((*(EntityRow((name,)) for name in SPECIAL), *(EntityRow((prefix + t,), counts[t]) for t in frequent)))


def _count(path: Path) -> Counter[str]:
    return Counter(link.title for article in read_shard(path) for paragraph in article.paragraphs for link in paragraph.links)


def _resolved(counts: Counter[str], titles: set[str], redirects: dict[str, str]) -> Counter[str]:
    resolved: Counter[str] = Counter()
    for title, count in counts.items():
        if (target := resolve(title, redirects)) in titles:
            resolved[target] += count
    return resolved


def read_white_list(paths: Iterable[str | Path]) -> frozenset[str]:
    """Titles of files of one title a line; blank lines are skipped.

    Raises:
        MissingFileError: a file is not there.
    """
    lines = (line for path in paths for line in read_lines_of(path, "give one title a line"))
    return frozenset(line.strip().replace("_", " ") for line in lines if line.strip())


# --- looking titles up in many processes ----------------------------------------------------------------------------


class TitleIndex:
    """Titles and their redirects as sorted hashes in two files, memory-mapped by all processes.

    Args:
        folder: what `write_title_index` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._keys = map_array(folder / "title_keys.npy", "write the index again")
        self._rows = map_array(folder / "title_rows.npy", "write the index again")

    def get(self, title: str) -> int | None:
        """The row of a title, or None."""
        key = _key(title)
        index = int(np.searchsorted(self._keys, key))
        return int(self._rows[index]) if index < len(self._keys) and self._keys[index] == key else None


def write_title_index(folder: Path, ids: dict[str, int], redirects: dict[str, str]) -> None:
    """Write the files of a `TitleIndex`: all titles of the vocabulary and all redirects to them.

    A vocabulary may be older than the dump: the current target of a renamed title gets its row.
    """
    index = dict(ids)
    for title, row in ids.items():
        index.setdefault(resolve(title, redirects), row)
    for source in redirects:
        target = resolve(source, redirects)
        if target in ids:
            index.setdefault(source, ids[target])
    keys = np.fromiter((_key(title) for title in index), dtype=np.uint64, count=len(index))
    rows = np.fromiter(index.values(), dtype=np.int32, count=len(index))
    order = np.argsort(keys, kind="stable")
    save_array(folder / "title_keys.npy", keys[order])
    save_array(folder / "title_rows.npy", rows[order])


def _key(title: str) -> np.uint64:
    digest = hashlib.blake2b(title.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def first_titles(vocab: EntityVocab, count: int = 3) -> Sequence[str]:
    """The most frequent titles, for messages."""
    return [t for t in vocab.titles if t not in (*SPECIAL, MASK2)][:count]
