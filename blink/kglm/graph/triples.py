"""A knowledge graph in numbers: ids of entities and relations, and triples of their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from blink.errors import DataError

SPLITS = ("train", "valid", "test")
Row = tuple[str, str, str]
"""Head, relation and tail as they are spelt in a file."""


@dataclass(frozen=True)
class Triples:
    """Triples as they are spelt in a file.

    Attributes:
        path: the file.
        rows: the triples.
        lines: line number of each, from 1.
    """

    path: Path
    rows: Sequence[Row]
    lines: Sequence[int]

    def where(self, row: int) -> str:
        """File and line of a triple, for messages."""
        return f"{self.path}, line {self.lines[row]}"

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read."""
        return (self.path,) if self.path.is_file() else ()

    def select(self, keep: Sequence[int]) -> Triples:
        """Those of some rows, in rising order."""
        return Triples(self.path, [self.rows[i] for i in keep], [self.lines[i] for i in keep])


@dataclass(frozen=True)
class Joined(Triples):
    """Triples of several graphs, one after the other.

    Attributes:
        parts: of each graph.
    """

    parts: tuple[Triples, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Triples]) -> Triples:
        """Triples joined; those of one graph stay as they are."""
        if len(parts) == 1:
            return parts[0]
        rows, lines = [row for part in parts for row in part.rows], [line for part in parts for line in part.lines]
        return cls(parts[0].path, rows, lines, tuple(parts))

    def where(self, row: int) -> str:
        """File and line of a triple, for messages."""
        for part in self.parts:
            if row < len(part.rows):
                return part.where(row)
            row -= len(part.rows)
        raise IndexError(row)

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read."""
        return tuple(file for part in self.parts for file in part.files)

    def select(self, keep: Sequence[int]) -> Triples:
        """Those of some rows, in rising order."""
        first, parts = 0, []
        for part in self.parts:
            parts.append(part.select([i - first for i in keep if first <= i < first + len(part.rows)]))
            first += len(part.rows)
        return Joined.of(parts)


@dataclass(frozen=True)
class Graph:
    """A knowledge graph.

    Attributes:
        entities: id of each row of an entity table.
        relations: id of each row of a relation table.
        splits: ``train``, ``valid``, ``test``, as far as there are any; each triple is head row, relation row, tail row, and
            stands there once. *Shapes:* (n, 3), int64.
        negatives: false triples given with ``valid`` and ``test``.
        notes: what was dropped or is unusual, a line each.
        sources: files that were read.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    negatives: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()

    @property
    def train(self) -> np.ndarray:
        """Training triples. *Shape:* (n, 3), int64."""
        return self.splits["train"]

    @cached_property
    def degrees(self) -> np.ndarray:
        """Training triples that each entity occurs in, as head or as tail. *Shape:* (entities,), int64."""
        return np.bincount(self.train[:, [0, 2]].ravel(), minlength=len(self.entities))

    @cached_property
    def digest(self) -> str:
        """A hash of ids and training triples: vectors of one graph do not fit another."""
        digest = hashlib.sha256()
        for names in (self.entities, self.relations):
            digest.update("\n".join(names).encode() + b"\0")
        digest.update(np.ascontiguousarray(self.train, dtype="<i8").tobytes())
        return digest.hexdigest()

    def split(self, name: str) -> np.ndarray:
        """The triples of a split.

        Raises:
            DataError: the graph has none of that name.
        """
        if name not in self.splits:
            remedy = f"give a file by data.{name}, or set some of the training triples aside by data.{name}_share"
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
    """Give rows to ids, in the order of their appearance, and check the triples.

    Args:
        splits: ``train`` and, as far as there are any, ``valid`` and ``test``.
        negatives: false triples, by split.
        entities: all ids that may occur; empty takes those that do.
        relations: the same for relations.
        drop_unseen_relations: drop triples whose relation has no training triple, rather than fail.

    Raises:
        DataError: an id is not among those listed, or a relation has no training triple.
    """
    notes: list[str] = []
    seen = {relation for _, relation, _ in splits["train"].rows}
    unseen = _UnseenRelations(seen, drop_unseen_relations, notes)
    kept = {name: unseen.checked(name, splits[name]) for name in SPLITS if name in splits}
    kept_negatives = {name: unseen.checked(f"{name} negatives", triples) for name, triples in (negatives or {}).items()}
    everything = [*kept.values(), *kept_negatives.values()]
    places = _Places(entities, relations, everything)
    sizes = len(places.entities), len(places.relations)

    def once(name: str, triples: Triples) -> np.ndarray:
        numbers = places.numbers(triples)
        return _once(name, numbers, keys_of(numbers, *sizes), notes)

    numbers = {name: once(name, triples) for name, triples in kept.items()}
    false = {name: once(f"{name} negatives", triples) for name, triples in kept_negatives.items()}
    _note_strangers(numbers, notes)
    _note_repeats({name: keys_of(triples, *sizes) for name, triples in numbers.items()}, notes)
    sources = tuple(dict.fromkeys(file for triples in everything for file in triples.files))
    return Graph(tuple(places.entities), tuple(places.relations), numbers, false, tuple(notes), sources)


class _UnseenRelations:
    def __init__(self, seen: set[str], drop: bool, notes: list[str]) -> None:
        self._seen, self._drop, self._notes = seen, drop, notes

    def checked(self, name: str, triples: Triples) -> Triples:
        """The triples whose relation has training triples."""
        wrong = [i for i, (_, relation, _) in enumerate(triples.rows) if relation not in self._seen]
        if not wrong:
            return triples
        first = f"relation {triples.rows[wrong[0]][1]!r} ({triples.where(wrong[0])})"
        if not self._drop:
            found = f"{len(wrong):,} {name} triples have a relation without training triples, first {first}"
            raise DataError(f"{found}; mend the files, or drop such triples by --data.unseen_relations drop")
        self._notes.append(f"{name}: {len(wrong):,} triples dropped whose relation has no training triples, first {first}")
        return triples.select(sorted(set(range(len(triples.rows))) - set(wrong)))


class _Places:
    """Rows of ids."""

    def __init__(self, entities: Sequence[str], relations: Sequence[str], triples: Sequence[Triples]) -> None:
        self._listed = {"entity": bool(entities), "relation": bool(relations)}
        self.entities = {name: row for row, name in enumerate(dict.fromkeys(entities))}
        self.relations = {name: row for row, name in enumerate(dict.fromkeys(relations))}
        for found in triples:
            for row, (head, relation, tail) in enumerate(found.rows):
                self._place("entity", self.entities, head, found, row)
                self._place("relation", self.relations, relation, found, row)
                self._place("entity", self.entities, tail, found, row)

    def numbers(self, triples: Triples) -> np.ndarray:
        """*Shape:* (n, 3), int64."""
        entities, relations = self.entities, self.relations
        flat = (n for h, r, t in triples.rows for n in (entities[h], relations[r], entities[t]))
        return np.fromiter(flat, dtype=np.int64, count=3 * len(triples.rows)).reshape(-1, 3)

    def _place(self, kind: str, places: dict[str, int], name: str, triples: Triples, row: int) -> None:
        if name in places:
            return
        if self._listed[kind]:
            found = f"{triples.where(row)}: {kind} {name!r} is not in the list of those that there are"
            raise DataError(
                f"{found}; add it to the file of data.{'entities' if kind == 'entity' else 'relations'}, or mend the line"
            )
        places[name] = len(places)


def keys_of(triples: np.ndarray, entities: int, relations: int) -> np.ndarray:
    """One number for each triple, the same for the same triple. *Shapes:* (n, 3) and (n,), int64."""
    return (triples[:, 0] * relations + triples[:, 1]) * entities + triples[:, 2]


def _once(name: str, triples: np.ndarray, keys: np.ndarray, notes: list[str]) -> np.ndarray:
    """Each triple once, where it stands first."""
    first = np.sort(np.unique(keys, return_index=True)[1])
    if more := len(triples) - len(first):
        notes.append(f"{name}: {more:,} of {len(triples):,} triples are duplicates and were dropped")
    return triples[first]


def _note_strangers(splits: Mapping[str, np.ndarray], notes: list[str]) -> None:
    known = np.unique(splits["train"][:, [0, 2]])
    for name, triples in splits.items():
        strangers = np.setdiff1d(triples[:, [0, 2]], known)
        if len(strangers):
            notes.append(f"{name}: {len(strangers):,} entities occur in no training triple; they stay in, untrained")


def _note_repeats(keys: Mapping[str, np.ndarray], notes: list[str]) -> None:
    before = np.zeros(0, dtype=np.int64)
    for name, own in keys.items():
        if common := int(np.isin(own, before).sum()):
            notes.append(f"{name}: {common:,} triples also stand in an earlier split, so that their answers are known")
        before = np.concatenate([before, own])


def set_aside(graph: Graph, name: str, share: float, seed: int) -> Graph:
    """Move a share of the training triples to a new split; each entity and relation keeps a training triple at least.

    Raises:
        DataError: there are not so many triples that can go.
    """
    wanted = round(share * len(graph.train))
    used, relations = graph.degrees.copy(), np.bincount(graph.train[:, 1], minlength=len(graph.relations))
    moved: list[int] = []
    for row in np.random.default_rng([seed, len(name)]).permutation(len(graph.train)).tolist():
        if len(moved) == wanted:
            break
        head, relation, tail = graph.train[row].tolist()
        if min(used[head], used[tail]) > (2 if head == tail else 1) and relations[relation] > 1:
            used[head] -= 1
            used[tail] -= 1
            relations[relation] -= 1
            moved.append(row)
    if len(moved) < wanted or not moved:
        raise DataError(
            f"only {len(moved):,} of {len(graph.train):,} training triples can be set aside as {name}; lower data.{name}_share"
        )
    rows = np.sort(np.array(moved))
    parts = {**graph.splits, "train": np.delete(graph.train, rows, axis=0), name: graph.train[rows]}
    splits = {split: parts[split] for split in SPLITS if split in parts}  # a split's filter is made of those before it
    note = f"{name}: {len(rows):,} training triples set aside"
    return Graph(graph.entities, graph.relations, splits, graph.negatives, (*graph.notes, note), graph.sources)
