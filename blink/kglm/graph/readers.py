"""Readers of knowledge graphs: tab-separated triples, CoDEx folders, PyKEEN's datasets and folders, the original's facts."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from blink.decompression import lines_of, open_stream
from blink.errors import DataError, MissingFileError
from blink.files import require_file
from blink.kglm.config import data_path, extra
from blink.kglm.graph.layouts import Layout, Row, parse
from blink.kglm.graph.triples import SPLITS, Graph, Joined, Triples, build_graph, set_aside
from blink.kglm.settings import GraphData, JointData
from blink.progress import Bars, Progress, no_bars

SUFFIXES = tuple(f"{suffix}{packed}" for packed in ("", ".gz") for suffix in (".txt", ".tsv", ".csv"))
FACTS = ".en"
PICKLES = (".pkl", ".pickle", ".joblib", ".pth", ".pt")
PYKEEN = "pykeen:"
PYKEEN_SPLITS = {"training": "train", "validation": "valid", "testing": "test"}
LAYOUT = "head<TAB>relation<TAB>tail"
AUTO = Layout()
LINES_AT_ONCE = 1 << 14
Source = tuple[dict[str, Triples], dict[str, Triples]]
"""Triples by split, and false triples by split."""


def read_graph(data: GraphData | JointData, bars: Bars = no_bars) -> Graph:
    """Read the graph of the section ``data``; ``defaults/graph.yaml`` describes its keys.

    Args:
        data: the section.
        bars: progress over the lines of each file.

    Raises:
        MissingFileError, DataError: a file is missing, empty or malformed, or ids or relations of the splits do not match.
    """
    if not data.graph:
        raise MissingFileError("data.graph is not set; give a folder with train.txt and valid.txt, or a file of triples")
    graphs, layout = [data.graph] if isinstance(data.graph, str) else data.graph, Layout.of(data)
    splits, negatives = join_graphs([_read_source(graph, data.root, layout, bars) for graph in graphs])
    for name in SPLITS[1:]:
        if file := getattr(data, name):
            splits[name] = read_triples(data_path(file, data.root), layout, bars)
        if file := getattr(data, f"{name}_negatives"):
            negatives[name] = read_triples(data_path(file, data.root), layout, bars)
    listed = {kind: _listed(getattr(data, kind), data.root) for kind in ("entities", "relations")}
    graph = build_graph(splits, negatives, **listed, drop_unseen_relations=data.unseen_relations == "drop")
    for name in SPLITS[1:]:
        fraction = getattr(data, f"{name}_share")
        if fraction and name not in graph.splits:
            graph = set_aside(graph, name, fraction, data.split_seed)
    return graph


def _read_source(graph: str, root: str, layout: Layout, bars: Bars) -> Source:
    if graph.startswith(PYKEEN):
        return _read_pykeen_name(graph.removeprefix(PYKEEN)), {}
    path = data_path(graph, root)
    if path.is_file():
        return {"train": read_triples(path, layout, bars)}, {}
    if (path / "training").is_dir():
        folders = {name: path / folder for folder, name in PYKEEN_SPLITS.items() if (path / folder).is_dir()}
        return {name: _read_pykeen_folder(folder) for name, folder in folders.items()}, {}
    if _find(path, "train") is None and any(path.glob(f"*{FACTS}")):
        return {"train": read_facts(path)}, {}
    return read_folder(path, layout, bars)


def join_graphs(graphs: Sequence[Source]) -> Source:
    """Join graphs, split by split. Duplicates across graphs are dropped later, like all duplicates.

    Raises:
        DataError: a graph shares no entity with the others, or has held-out or false triples that another graph trains on.
    """
    for graph in graphs:
        if others := [other for other in graphs if other is not graph]:
            _check_shared_entities(graph, others)
            _check_leakage(graph, {row for splits, _ in others for row in splits["train"].rows})
    joined: Source = ({}, {})
    for kind, target in enumerate(joined):
        for name in SPLITS:
            if triples_by_graph := [graph[kind][name] for graph in graphs if name in graph[kind]]:
                target[name] = Joined.of(triples_by_graph)
    return joined


def _check_shared_entities(graph: Source, others: Sequence[Source]) -> None:
    names = {name for splits, _ in others for head, _, tail in splits["train"].rows for name in (head, tail)}
    train = graph[0]["train"]
    if not any(head in names or tail in names for head, _, tail in train.rows):
        example, other_example = (f"{triples.rows[0][0]!r} in {triples.path}" for triples in (train, others[0][0]["train"]))
        raise DataError(
            f"a graph shares no entity with the rest of data.graph ({example}, {other_example}); give graphs with the same ids"
        )


def _check_leakage(graph: Source, trained: set[Row]) -> None:
    """Held-out and false triples of one graph must not be training triples of another."""
    for sort, splits in zip(("", " negatives"), graph, strict=True):
        for name, triples in splits.items():
            clash = [i for i, row in enumerate(triples.rows) if (sort or name != "train") and row in trained]
            if clash:
                message = f"{len(clash):,} {name}{sort} triples of one graph are training triples of another"
                raise DataError(f"{message}, first {triples.where(clash[0])}; remove a graph, or fix the files")


def read_folder(folder: Path, layout: Layout = AUTO, bars: Bars = no_bars) -> Source:
    """Read a folder with the layout of CoDEx: ``train.txt``, ``valid.txt``, ``valid_negatives.txt`` and so on.

    Raises:
        MissingFileError: the folder has no training triples.
        DataError: a file is empty or malformed.
    """
    train = _find(folder, "train")
    if train is None:
        expected = f"train{SUFFIXES[0]}, {SUFFIXES[1]} or {SUFFIXES[2]}, each also with .gz, or facts (*{FACTS})"
        raise MissingFileError(f"{folder} has no triples to train on; expected {expected}")
    splits = {name: read_triples(file, layout, bars) for name in SPLITS if (file := _find(folder, name))}
    negatives = {name: read_triples(file, layout, bars) for name in SPLITS if (file := _find(folder, f"{name}_negatives"))}
    return splits, negatives


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()), None)


def read_triples(path: str | Path, layout: Layout = AUTO, bars: Bars = no_bars) -> Triples:
    """Read a file of triples, one per line, compressed or not; fields of ``.en`` files are separated by blanks.

    Args:
        path: the file.
        layout: what separates fields, and whether the first line is a header.
        bars: progress over the lines.

    Raises:
        MissingFileError: the file does not exist.
        DataError: the file is empty or a pickle, or a line does not have three fields.
    """
    path = require_file(path, f"name a file of triples, {LAYOUT}")
    if path.suffix in PICKLES:
        raise DataError(
            f"{path} is a pickle, which could run code when it is read; if you trust it, convert its triples to lines of "
            f"{LAYOUT}, for example: pandas.read_pickle(FILE).to_csv('train.tsv', sep='\\t', header=False, index=False)"
        )
    if path.suffix == FACTS:
        return read_facts(path)
    with bars(f"reading {path.name}", None, "line") as progress:
        fields = parse(path, _counted(_lines(path), progress), layout)
    return _not_empty(Triples(path, fields.rows, fields.lines, fields.notes))


def read_split(path: str | Path, graph: Graph, layout: Layout = AUTO) -> np.ndarray:
    """Read a file of triples of a graph's entities and relations, such as one to measure a model on. *Shape:* (n, 3), int64.

    Raises:
        MissingFileError, DataError: as of `read_triples`, or a triple has an entity or relation that the graph lacks.
    """
    triples = read_triples(path, layout)
    entities, relations = ({name: row for row, name in enumerate(ids)} for ids in (graph.entities, graph.relations))
    columns = (entities, relations, entities)
    numbers = np.array([[ids.get(name, -1) for ids, name in zip(columns, row, strict=True)] for row in triples.rows])
    unknown = np.flatnonzero((numbers < 0).any(1)).tolist()
    if unknown:
        names = {name for row in unknown for name, number in zip(triples.rows[row], numbers[row], strict=True) if number < 0}
        first = unknown[0]
        name = next(name for name, number in zip(triples.rows[first], numbers[first], strict=True) if number < 0)
        message = f"{len(unknown):,} of {len(numbers):,} triples have {len(names):,} entities or relations that the run lacks"
        raise DataError(f"{message}, first {name!r} ({triples.where(first)}); remove these lines, or train with them")
    return np.unique(numbers, axis=0)


def read_facts(path: Path) -> Triples:
    """Read the original's ``.en`` facts from a file or a folder; lines that do not have three fields are skipped.

    Raises:
        DataError: there are no facts.
    """
    rows: list[Row] = []
    lines: list[int] = []
    for file in sorted(path.glob(f"*{FACTS}")) if path.is_dir() else [path]:
        for number, line in _lines(file):
            fields = line.split()
            if len(fields) == 3:
                rows.append(cast(Row, tuple(fields)))
                lines.append(number)
    return _not_empty(Triples(path, rows, lines))


def _not_empty(triples: Triples) -> Triples:
    if not triples.rows:
        message = "is empty" if triples.path.is_file() and not triples.path.stat().st_size else "holds no triples"
        raise DataError(f"{triples.path} {message}; write a line {LAYOUT} for each, or remove the file")
    return triples


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the non-blank lines, without a byte order mark."""
    with open_stream(path) as f:
        try:
            for number, line in enumerate(lines_of(f, path), 1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield number, content.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error


def _counted(lines: Iterator[tuple[int, str]], progress: Progress) -> Iterator[tuple[int, str]]:
    """The same lines, reported by the thousand."""
    done = 0
    for number, line in lines:
        if number - done >= LINES_AT_ONCE:
            progress.advance(number - done)
            done = number
        yield number, line


def _listed(file: str, root: str) -> list[str]:
    """The first column of a file of ids; empty without a file."""
    if not file:
        return []
    path = data_path(file, root)
    ids = [line.split("\t")[0].strip() for _, line in _lines(path)]
    if not ids:
        raise DataError(f"{path} is empty; write an id on each line, or do not name the file")
    return ids


# -- PyKEEN --------------------------------------------------------------------------------------------------------------


def _read_pykeen_folder(folder: Path) -> Triples:
    """Read a triples factory saved by PyKEEN (``to_path_binary``) from its tables, without its pickle."""
    path = require_file(folder / "numeric_triples.tsv.gz", "save the dataset again by PyKEEN's to_directory_binary")
    names = [_pykeen_ids(folder / f"{kind}_to_id.tsv.gz") for kind in ("entity", "relation")]
    order = (names[0], names[1], names[0])
    rows: list[Row] = []
    lines: list[int] = []
    for number, line in _lines(path):
        if number == 1:
            continue  # head, relation, tail
        try:
            rows.append(cast(Row, tuple(ids[int(field)] for ids, field in zip(order, line.split("\t"), strict=True))))
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error} is not in the table of ids; save the dataset again") from error
        lines.append(number)
    return _not_empty(Triples(path, rows, lines))


def _pykeen_ids(path: Path) -> dict[int, str]:
    require_file(path, "save the dataset again by PyKEEN's to_directory_binary")
    try:
        return {int(row): label for number, line in _lines(path) if number > 1 for row, label in [line.split("\t")]}
    except ValueError as error:
        raise DataError(f"{path} is no table of ids and labels ({error}); save the dataset again") from error


def _read_pykeen_name(name: str) -> dict[str, Triples]:
    """Read a dataset of PyKEEN by name, which may download it.

    Raises:
        DataError: PyKEEN has no such dataset, or cannot download it.
    """
    dataset_resolver = extra("pykeen.datasets").dataset_resolver
    try:
        dataset = dataset_resolver.make(name)
        factories: Any = {PYKEEN_SPLITS[key]: factory for key, factory in dataset.factory_dict.items()}
    except KeyError as error:
        raise DataError(f"PyKEEN knows no dataset {name!r}; see its documentation for names, such as pykeen:nations") from error
    except (OSError, RuntimeError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise DataError(
            f"PyKEEN could not get the dataset {name!r} ({message}); download its files and give their folder"
        ) from error
    result = {}
    for split in (s for s in SPLITS if s in factories):
        factory = factories[split]
        names = (factory.entity_id_to_label, factory.relation_id_to_label, factory.entity_id_to_label)
        numbers = factory.mapped_triples.tolist()
        rows = [cast(Row, tuple(ids[i] for ids, i in zip(names, row, strict=True))) for row in numbers]
        result[split] = _not_empty(Triples(Path(f"{PYKEEN}{name}/{split}"), rows, range(1, len(rows) + 1)))
    return result
