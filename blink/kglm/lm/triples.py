"""Triples as text: names of entities and relations, and the word ids that a classifier reads.

A triple is read as ``<BOS> head words, relation words, tail words``. An entity is represented by the words of its name, so the
classifier also handles entities that were not in the training triples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blink.errors import DataError
from blink.files import read_json, read_json_lines, require_file
from blink.input_files import read_lines_of
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.vocabulary import BOS, PAD, Vocabulary
from blink.kglm.lm.words import name_words


def read_names(source: str | Path) -> dict[str, str]:
    """Names by id, from a catalogue (``.jsonl``: ``kb_idx`` and ``title``), ``.json`` (id to label), or ``id<TAB>name`` lines.

    Raises:
        MissingFileError: the file does not exist.
        DataError: the file has none of these formats.
    """
    path = require_file(source, "give names as id<TAB>name lines, a .json of labels, or the entity.jsonl of a catalogue")
    if path.suffix == ".jsonl":
        rows = (value for _, value in read_json_lines(path) if isinstance(value, dict))
        return {str(row["kb_idx"]): str(row["title"]) for row in rows if row.get("kb_idx") and row.get("title")}
    if path.suffix == ".json":
        return _labels(read_json(path), path)
    return dict(_named_lines(path))


def _named_lines(path: Path) -> Iterator[tuple[str, str]]:
    lines = read_lines_of(path)
    if not lines:
        raise DataError(f"{path} is empty (0 bytes); write a line id<TAB>name for each entity, or do not name the file")
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if line.strip() and (len(fields) < 2 or not fields[0]):
            raise DataError(f"{path}, line {number}: {line[:60]!r}; a line is id<TAB>name")
        if line.strip():
            yield fields[0], fields[1]


def _labels(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise DataError(f'{path} holds no labels by id; give {{"P50": {{"label": "author"}}}} or {{"P50": "author"}}')
    labels = {key: entry.get("label", "") if isinstance(entry, Mapping) else entry for key, entry in value.items()}
    return {str(key): label for key, label in labels.items() if isinstance(label, str) and label}


@dataclass(frozen=True)
class Facts:
    """Labelled triples as indices of entities and relations.

    Attributes:
        head, relation, tail: *Shape:* (n,), int64.
        label: true or false. *Shape:* (n,), bool.
    """

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.head)

    def select(self, rows: np.ndarray) -> Facts:
        """Select triples by row indices or by a mask."""
        return Facts(self.head[rows], self.relation[rows], self.tail[rows], self.label[rows])

    @staticmethod
    def join(batches: Sequence[Facts]) -> Facts:
        """Concatenate triples."""
        return Facts(*(np.concatenate([getattr(b, name) for b in batches]) for name in ("head", "relation", "tail", "label")))

    @staticmethod
    def of(triples: np.ndarray, label: bool = True) -> Facts:
        """Triples with one label. ``triples`` has *shape* (n, 3), int64."""
        return Facts(triples[:, 0], triples[:, 1], triples[:, 2], np.full(len(triples), label))


class Lexicon:
    """Ids of entities and relations by index, and the words of their names.

    Args:
        graph: the ids, in the order of their indices.
        entity_names, relation_names: names by id; the id is used if there is no name.

    Attributes:
        entities, relations: ids.
        nameless: number of entities without a name; 0 if there are no names at all.
        name_keys: an integer per entity; entities whose names have the same words share it. *Shape:* (entities,), int64.
    """

    def __init__(self, graph: Graph, entity_names: Mapping[str, str], relation_names: Mapping[str, str]) -> None:
        self.entities, self.relations = graph.entities, graph.relations
        self.nameless = sum(entity not in entity_names for entity in self.entities) if entity_names else 0
        self._entity_words = [name_words(entity_names.get(e, e)) for e in self.entities]
        self._relation_words = [name_words(relation_names.get(r, r)) for r in self.relations]
        keys: dict[tuple[str, ...], int] = {}
        key_of_each = (keys.setdefault(tuple(words), len(keys)) for words in self._entity_words)
        self.name_keys = np.fromiter(key_of_each, dtype=np.int64, count=len(self.entities))

    def names(self) -> Iterator[list[str]]:
        """Yield the words of each entity name and relation name once."""
        yield from self._entity_words
        yield from self._relation_words

    def relation_numbers(self, labels: Iterable[str]) -> np.ndarray:
        """Indices of the relations whose id or name is among ``labels``. *Shape:* (n,), int64."""
        ids = frozenset(labels)
        names = {tuple(name_words(name)) for name in ids}
        pairs = enumerate(zip(self.relations, self._relation_words, strict=True))
        return np.array([n for n, (r, words) in pairs if r in ids or tuple(words) in names], dtype=np.int64)

    def texts(self, vocabulary: Vocabulary) -> TripleTexts:
        """Names in word ids of ``vocabulary``."""
        return TripleTexts(
            [np.array(vocabulary.ids(words), dtype=np.int64) for words in self._entity_words],
            [np.array(vocabulary.ids(words), dtype=np.int64) for words in self._relation_words],
        )


class TripleTexts:
    """Word ids of triples.

    Args:
        entities, relations: word ids of each name.
    """

    def __init__(self, entities: Sequence[np.ndarray], relations: Sequence[np.ndarray]) -> None:
        self._entities, self._relations = entities, relations
        self._entity_lengths = np.array([len(e) for e in entities], dtype=np.int64)
        self._relation_lengths = np.array([len(r) for r in relations], dtype=np.int64)

    def lengths(self, facts: Facts) -> np.ndarray:
        """Number of word ids of each triple, `BOS` included. *Shape:* (n,)"""
        ends = self._entity_lengths[facts.head] + self._entity_lengths[facts.tail]
        return 1 + ends + self._relation_lengths[facts.relation]

    def batch(self, facts: Facts) -> tuple[Tensor, Tensor]:
        """Word ids of triples, padded on the right, *shape* (n, time), int64, and lengths, *shape* (n,), int64."""
        lengths = self.lengths(facts)
        texts = (
            np.concatenate((self._entities[h], self._relations[r], self._entities[t]))
            for h, r, t in zip(facts.head, facts.relation, facts.tail, strict=True)
        )
        return _padded(texts, lengths)

    def names(self, entities: np.ndarray) -> tuple[Tensor, Tensor]:
        """Word ids of entity names and their lengths, as in `batch`."""
        return _padded((self._entities[e] for e in entities), 1 + self._entity_lengths[entities])


def _padded(texts: Iterable[np.ndarray], lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    ids = np.full((len(lengths), int(lengths.max(initial=1))), PAD, dtype=np.int64)
    ids[:, 0] = BOS
    for row, words in enumerate(texts):
        ids[row, 1 : 1 + len(words)] = words
    return torch.from_numpy(ids), torch.from_numpy(lengths)
