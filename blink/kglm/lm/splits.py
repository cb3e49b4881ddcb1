"""Texts and triples apart by entity: what is said in the text of an entity is no help with that entity's test triples.

Where text and triples are divided independently, a test triple is often stated in a training line about its head. Here the
lines name their entities; a held-out entity's line and all triples it is the head of go into the same part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from blink.errors import DataError, MismatchError
from blink.files import require_file
from blink.kglm.graph.triples import Graph


def read_subjects(path: str | Path, lines: int) -> list[str]:
    """Entity ids of the lines of a text, an id a line.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: it has another number of lines than the text.
    """
    file = require_file(path, "give the entity ids of the text's lines, an id a line")
    ids = file.read_text(encoding="utf-8").splitlines()
    if len(ids) != lines:
        raise MismatchError(f"{file} names {len(ids)} entities for {lines} lines of text; give an id for each line")
    return ids


def held_out_lines(subjects: Sequence[str] | None, lines: int, share: float, seed: int) -> np.ndarray:
    """Which lines to hold out; all lines of an entity, or none. *Shape:* (lines,), bool.

    Args:
        subjects: entity of each line; None takes each line as one of its own.
        lines: number of lines.
        share: of the entities, 0 to 1.
        seed: of the choice.
    """
    names = np.array(subjects) if subjects is not None else np.arange(lines)
    entities = np.unique(names)
    count = round(len(entities) * share)
    chosen = np.random.default_rng([seed, 0x5917]).permutation(len(entities))[:count]
    return np.isin(names, entities[chosen])


def apart_by_head(graph: Graph, valid: Collection[str], test: Collection[str]) -> Graph:
    """Divide the training triples of a graph anew, by their heads; what it had for validation and test is left out.

    A training triple that relates the same two entities as a held-out one, in either direction (``a spouse b`` and ``b spouse
    a``), is left out, and noted.

    Args:
        graph: what is divided.
        valid: entities that are held out for validation.
        test: entities that are held out for the test.

    Raises:
        DataError: a part has no triples.
    """
    of_part = np.zeros(len(graph.entities), dtype=np.int8)
    for part, held_out in ((1, frozenset(valid)), (2, frozenset(test))):
        of_part[[row for row, entity in enumerate(graph.entities) if entity in held_out]] = part
    place = of_part[graph.train[:, 0]]
    pairs = np.sort(graph.train[:, [0, 2]], axis=1) @ np.array([len(graph.entities), 1])
    told = np.isin(pairs, pairs[place > 0]) & (place == 0)
    splits = {"train": graph.train[(place == 0) & ~told], "valid": graph.train[place == 1], "test": graph.train[place == 2]}
    for name, part in splits.items():
        if not len(part):
            raise DataError(f"no triple is left for {name}: no head of one is the subject of a line there; hold out more text")
    notes = (
        f"valid, test: {len(splits['valid']):,} and {len(splits['test']):,} triples of entities whose text is held out",
        f"train: {int(told.sum()):,} triples dropped that relate the two entities of a held-out triple",
    )
    return dataclasses.replace(graph, splits=splits, negatives={}, notes=(*graph.notes, *notes))
