"""Entity-disjoint splits of text and triples, so that training text does not state test triples.

If text and triples are split independently, a training line about the head often states a test triple. Here each line has the
id of its entity. The line of a held-out entity and all triples with that entity as head go into the same split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from blink.errors import DataError, MismatchError
from blink.files import require_file
from blink.input_files import read_lines_of
from blink.kglm.graph.triples import Graph


def read_subjects(path: str | Path, lines: int) -> list[str]:
    """Read the entity ids of the lines of a text, one id per line.

    Raises:
        MissingFileError: the file does not exist.
        DataError: it is not UTF-8.
        MismatchError: the number of ids differs from the number of lines of the text.
    """
    file = require_file(path, "give the entity ids of the text's lines, an id a line")
    ids = read_lines_of(file)
    if len(ids) != lines:
        raise MismatchError(f"{file} names {len(ids)} entities for {lines} lines of text; give an id for each line")
    return ids


def held_out_lines(subjects: Sequence[str] | None, lines: int, fraction: float, seed: int) -> np.ndarray:
    """Sample entities and mask their lines as held out. *Shape:* (lines,), bool.

    Args:
        subjects: entity of each line; None treats each line as an entity.
        lines: number of lines.
        fraction: fraction of the entities to hold out, 0 to 1.
        seed: seed of the sample.
    """
    names = np.array(subjects) if subjects is not None else np.arange(lines)
    entities = np.unique(names)
    count = round(len(entities) * fraction)
    sample = np.random.default_rng([seed, 0x5917]).permutation(len(entities))[:count]
    return np.isin(names, entities[sample])


def split_by_head(graph: Graph, valid: Collection[str], test: Collection[str]) -> Graph:
    """Split the training triples of a graph by their heads; its validation and test triples are dropped.

    A training triple that relates the same two entities as a held-out one, in either direction (``a spouse b`` and ``b spouse
    a``), is dropped and counted in the notes.

    Args:
        graph: the graph to split.
        valid: entities held out for validation.
        test: entities held out for testing.

    Raises:
        DataError: a split has no triples.
    """
    split_of_entity = np.zeros(len(graph.entities), dtype=np.int8)
    for code, held_out in ((1, frozenset(valid)), (2, frozenset(test))):
        split_of_entity[[row for row, entity in enumerate(graph.entities) if entity in held_out]] = code
    split_of_triple = split_of_entity[graph.train[:, 0]]
    pairs = np.sort(graph.train[:, [0, 2]], axis=1) @ np.array([len(graph.entities), 1])
    leaked = np.isin(pairs, pairs[split_of_triple > 0]) & (split_of_triple == 0)
    splits = {
        "train": graph.train[(split_of_triple == 0) & ~leaked],
        "valid": graph.train[split_of_triple == 1],
        "test": graph.train[split_of_triple == 2],
    }
    for name, triples in splits.items():
        if not len(triples):
            raise DataError(
                f"no triple is left for {name}: no triple has the subject of a {name} line as head; hold out more text"
            )
    notes = (
        f"valid, test: {len(splits['valid']):,} and {len(splits['test']):,} triples of entities whose text is held out",
        f"train: {int(leaked.sum()):,} triples dropped that relate the two entities of a held-out triple",
    )
    return dataclasses.replace(graph, splits=splits, negatives={}, notes=(*graph.notes, *notes), undivided=graph.given)
