"""Knowledge graphs: ids of entities and relations, and triples of their indices."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from blink.errors import DataError
from blink.kglm.graph.digests import content_digest
from blink.kglm.graph.layouts import Row

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Triples:
    """Triples of ids with their source.

    Attributes:
        path: the file.
        rows: the triples.
        lines: line number of each, from 1.
        notes: messages about the file, one line each.
    """

    path: Path
    rows: Sequence[Row]
    lines: Sequence[int]
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """File and line of a triple, for messages."""
        return f"{self.path}, line {self.lines[row]}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Source files."""
        return (self.path,) if self.path.is_file() else ()

    def select(self, keep: Sequence[int]) -> Triples:
        """Select triples by ascending row indices."""
        return Triples(self.path, [self.rows[i] for i in keep], [self.lines[i] for i in keep])


@dataclass(frozen=True)
class Joined(Triples):
    """Concatenated triples of several graphs.

    Attributes:
        sources: triples of each graph.
    """

    sources: tuple[Triples, ...] = ()

    @classmethod
    def of(cls, sources: Sequence[Triples]) -> Triples:
        """Concatenate triples; a single source is returned unchanged."""
        if len(sources) == 1:
            return sources[0]
        rows, lines = [row for source in sources for row in source.rows], [line for source in sources for line in source.lines]
        notes = tuple(note for source in sources for note in source.notes)
        return cls(sources[0].path, rows, lines, notes, tuple(sources))

    def where(self, row: int) -> str:
        """File and line of a triple, for messages."""
        for source in self.sources:
            if row < len(source.rows):
                return source.where(row)
            row -= len(source.rows)
        raise IndexError(row)

    @property
    def files(self) -> tuple[Path, ...]:
        """Source files."""
        return tuple(file for source in self.sources for file in source.files)

    def select(self, keep: Sequence[int]) -> Triples:
        """Select triples by ascending row indices."""
        first, selected = 0, []
        for source in self.sources:
            selected.append(source.select([i - first for i in keep if first <= i < first + len(source.rows)]))
            first += len(source.rows)
        return Joined.of(selected)


@dataclass(frozen=True)
class Graph:
    """A knowledge graph.

    Attributes:
        entities: entity ids by index.
        relations: relation ids by index.
        splits: the available splits of ``train``, ``valid``, ``test``: unique triples of head, relation and tail indices.
            *Shapes:* (n, 3), int64.
        negatives: false triples of the dataset by split.
        notes: messages about dropped or unusual triples, one line each.
        sources: files that were read.
        undivided: training triples before some were held out as another split; None if none were. *Shape:* (n, 3), int64.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    negatives: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    undivided: np.ndarray | None = None

    @property
    def train(self) -> np.ndarray:
        """Training triples. *Shape:* (n, 3), int64."""
        return self.splits["train"]

    @cached_property
    def degrees(self) -> np.ndarray:
        """Number of training triples of each entity, as head or tail. *Shape:* (entities,), int64."""
        return np.bincount(self.train[:, [0, 2]].ravel(), minlength=len(self.entities))

    @cached_property
    def digest(self) -> str:
        """Hash of ids and training triples, which identifies the graph of a model."""
        digest = hashlib.sha256()
        for names in (self.entities, self.relations):
            digest.update("\n".join(names).encode() + b"\0")
        digest.update(np.ascontiguousarray(self.train, dtype="<i8").tobytes())
        return digest.hexdigest()

    @property
    def given(self) -> np.ndarray:
        """The training triples as they were read, with those held out since. *Shape:* (n, 3), int64."""
        return self.train if self.undivided is None else self.undivided

    @cached_property
    def content(self) -> str:
        """Hash of `given` by names: graphs read from the same training triples have it, whatever their other splits are."""
        return content_digest(self.entities, self.relations, self.given)

    def split(self, name: str) -> np.ndarray:
        """The triples of a split.

        Raises:
            DataError: the graph has no such split.
        """
        if name not in self.splits:
            remedy = f"give a file by data.{name}, or hold out training triples by data.{name}_share"
            raise DataError(f"the graph has no {name} triples (only {', '.join(self.splits)}); {remedy}")
        return self.splits[name]


def build_graph(
    splits: Mapping[str, Triples],
    negatives: Mapping[str, Triples] | None = None,
    *,
    entities: Sequence[str] = (),
    relations: Sequence[str] = (),
    drop_unseen_relations: bool = False,
) -> Graph:
    """Index ids in the order of their appearance, and check the triples.

    Args:
        splits: ``train`` and optionally ``valid`` and ``test``.
        negatives: false triples by split.
        entities: all allowed entity ids; empty allows all.
        relations: all allowed relation ids; empty allows all.
        drop_unseen_relations: drop triples whose relation has no training triples, instead of failing.

    Raises:
        DataError: an id is not allowed, or a relation has no training triples.
    """
    notes = [note for triples in (*splits.values(), *(negatives or {}).values()) for note in triples.notes]
    trained = {relation for _, relation, _ in splits["train"].rows}
    unseen = _UnseenRelations(trained, drop_unseen_relations, notes)
    checked = {name: unseen.checked(name, splits[name]) for name in SPLITS if name in splits}
    kept_negatives = {name: unseen.checked(f"{name} negatives", triples) for name, triples in (negatives or {}).items()}
    checked, kept_negatives = ({name: x for name, x in kept.items() if x.rows} for kept in (checked, kept_negatives))
    everything = [*checked.values(), *kept_negatives.values()]
    index = _IdIndex(entities, relations, everything)
    sizes = len(index.entities), len(index.relations)

    def once(name: str, triples: Triples) -> np.ndarray:
        numbers = index.numbers(triples)
        return _deduplicated(name, numbers, keys_of(numbers, *sizes), notes)

    numbers = {name: once(name, triples) for name, triples in checked.items()}
    false = {name: once(f"{name} negatives", triples) for name, triples in kept_negatives.items()}
    _note_untrained(numbers, notes)
    _note_overlaps({name: keys_of(triples, *sizes) for name, triples in numbers.items()}, notes)
    sources = tuple(dict.fromkeys(file for triples in everything for file in triples.files))
    return Graph(tuple(index.entities), tuple(index.relations), numbers, false, tuple(notes), sources)


class _UnseenRelations:
    def __init__(self, trained: set[str], drop: bool, notes: list[str]) -> None:
        self._trained, self._drop, self._notes = trained, drop, notes

    def checked(self, name: str, triples: Triples) -> Triples:
        """Triples without those whose relation has no training triples."""
        wrong = [i for i, (_, relation, _) in enumerate(triples.rows) if relation not in self._trained]
        if not wrong:
            return triples
        first = f"relation {triples.rows[wrong[0]][1]!r} ({triples.where(wrong[0])})"
        if not self._drop:
            message = f"{len(wrong):,} {name} triples have a relation without training triples, first {first}"
            raise DataError(f"{message}; fix the files, or drop such triples by --data.unseen_relations drop")
        self._notes.append(f"{name}: {len(wrong):,} triples dropped whose relation has no training triples, first {first}")
        return triples.select(sorted(set(range(len(triples.rows))) - set(wrong)))


class _IdIndex:
    """Index of entity and relation ids."""

    def __init__(self, entities: Sequence[str], relations: Sequence[str], triples: Sequence[Triples]) -> None:
        self._listed = {"entity": bool(entities), "relation": bool(relations)}
        self.entities = {name: row for row, name in enumerate(dict.fromkeys(entities))}
        self.relations = {name: row for row, name in enumerate(dict.fromkeys(relations))}
        for source in triples:
            if not any(self._listed.values()):
                for head, relation, tail in source.rows:
                    self.entities.setdefault(head, len(self.entities))
                    self.relations.setdefault(relation, len(self.relations))
                    self.entities.setdefault(tail, len(self.entities))
                continue
            for row, (head, relation, tail) in enumerate(source.rows):
                self._add("entity", self.entities, head, source, row)
                self._add("relation", self.relations, relation, source, row)
                self._add("entity", self.entities, tail, source, row)

    def numbers(self, triples: Triples) -> np.ndarray:
        """Indices of triples. *Shape:* (n, 3), int64."""
        entities, relations = self.entities, self.relations
        flat = (n for h, r, t in triples.rows for n in (entities[h], relations[r], entities[t]))
        return np.fromiter(flat, dtype=np.int64, count=3 * len(triples.rows)).reshape(-1, 3)

    def _add(self, kind: str, rows: dict[str, int], name: str, triples: Triples, row: int) -> None:
        if name in rows:
            return
        if self._listed[kind]:
            message = f"{triples.where(row)}: {kind} {name!r} is not in the list of allowed ids"
            raise DataError(
                f"{message}; add it to the file of data.{'entities' if kind == 'entity' else 'relations'}, or fix the line"
            )
        rows[name] = len(rows)


def keys_of(triples: np.ndarray, entities: int, relations: int) -> np.ndarray:
    """Unique integer key of each triple. *Shapes:* (n, 3) and (n,), int64."""
    return (triples[:, 0] * relations + triples[:, 1]) * entities + triples[:, 2]


def _deduplicated(name: str, triples: np.ndarray, keys: np.ndarray, notes: list[str]) -> np.ndarray:
    """Drop duplicates, keeping the first occurrence."""
    first = np.sort(np.unique(keys, return_index=True)[1])
    if more := len(triples) - len(first):
        notes.append(f"{name}: {more:,} of {len(triples):,} triples are duplicates and were dropped")
    return triples[first]


def _note_untrained(splits: Mapping[str, np.ndarray], notes: list[str]) -> None:
    trained = np.unique(splits["train"][:, [0, 2]])
    for name, triples in splits.items():
        untrained = np.setdiff1d(triples[:, [0, 2]], trained)
        if len(untrained):
            notes.append(f"{name}: {len(untrained):,} entities are in no training triple; they are kept, untrained")


def _note_overlaps(keys: Mapping[str, np.ndarray], notes: list[str]) -> None:
    before = np.zeros(0, dtype=np.int64)
    for name, split_keys in keys.items():
        if common := int(np.isin(split_keys, before).sum()):
            notes.append(f"{name}: {common:,} triples are also in an earlier split, so their answers are known")
        before = np.concatenate([before, split_keys])


def set_aside(graph: Graph, name: str, fraction: float, seed: int) -> Graph:
    """Move a fraction of the training triples to a new split. Each entity and relation keeps at least one training triple.

    Raises:
        DataError: too few triples can be moved.
    """
    count = round(fraction * len(graph.train))
    used, relations = graph.degrees.copy(), np.bincount(graph.train[:, 1], minlength=len(graph.relations))
    moved: list[int] = []
    for row in np.random.default_rng([seed, len(name)]).permutation(len(graph.train)).tolist():
        if len(moved) == count:
            break
        head, relation, tail = graph.train[row].tolist()
        if min(used[head], used[tail]) > (2 if head == tail else 1) and relations[relation] > 1:
            used[head] -= 1
            used[tail] -= 1
            relations[relation] -= 1
            moved.append(row)
    if len(moved) < count or not moved:
        raise DataError(
            f"only {len(moved):,} of {len(graph.train):,} training triples can be held out as {name}; lower data.{name}_share"
        )
    rows = np.sort(np.array(moved))
    updated = {**graph.splits, "train": np.delete(graph.train, rows, axis=0), name: graph.train[rows]}
    splits = {
        split: updated[split] for split in SPLITS if split in updated
    }  # order matters: a split is filtered by the splits before it
    note = f"{name}: {len(rows):,} training triples held out"
    return dataclasses.replace(graph, splits=splits, notes=(*graph.notes, note), undivided=graph.given)
