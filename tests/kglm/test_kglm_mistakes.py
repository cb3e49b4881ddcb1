"""What is wrong with graphs, texts and vectors is said by ``blink kglm train`` in one line, and leaves no folder behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graph_toys import PEOPLE, TRAIN, family, write_triples

pytest.importorskip("pykeen", reason="needs the extra kglm")

from blink.kglm.text_init.vectors import Space, write_folder

Blink = Callable[..., tuple[int, str, str]]


def dangling_id(folder: Path) -> str:
    write_triples(folder / "valid.txt", [("ada", "likes", "Q404")])
    (folder / "entities.txt").write_text("".join(f"{name}\n" for name in PEOPLE))
    return f"kind: graph\ndata: {{graph: {folder}, entities: {folder}/entities.txt}}\n"


def unseen_relation(folder: Path) -> str:
    write_triples(folder / "test.txt", [("ada", "owns", "ben")])
    return f"kind: graph\ndata: {{graph: {folder}}}\n"


def empty_triples(folder: Path) -> str:
    (folder / "train.txt").write_bytes(b"")
    return f"kind: graph\ndata: {{graph: {folder}}}\n"


def empty_text(folder: Path) -> str:
    (folder / "text.txt").write_bytes(b"")
    return f"kind: glove\ndata: {{graph: {folder}, text: {folder}/text.txt}}\n"


def vectors_of_another_width(folder: Path) -> str:
    write_folder(Space("entity", PEOPLE, np.ones((5, 6), np.float32), PEOPLE, [""] * 5, [1, 2, 3, 4, 5]), folder / "v.vectors")
    return f"kind: graph\ndata: {{graph: {folder}}}\nmodel: {{dim: 4, vectors: {folder}/v.vectors}}\n"


def vectors_of_other_ids(folder: Path) -> str:
    write_folder(Space("entity", ["Q1"], np.ones((1, 4), np.float32), ["one"], [""], [1]), folder / "v.vectors")
    return f"kind: graph\ndata: {{graph: {folder}}}\nmodel: {{dim: 4, vectors: {folder}/v.vectors}}\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (dangling_id, ("valid.txt, line 1: entity 'Q404' is not in the list", "add it to the file of data.entities")),
        (unseen_relation, ("relation 'owns'", "test.txt, line 1", "--data.unseen_relations drop")),
        (empty_triples, ("train.txt is empty", "write a line head<TAB>relation<TAB>tail")),
        (empty_text, ("text.txt is empty (0 bytes)",)),
        (vectors_of_another_width, ("v.vectors are 6-dimensional, the graph's 4-dimensional", "blink kglm reduce", "-d 4")),
        (vectors_of_other_ids, ("none of the graph's 5 ids has a vector", "'Q1' in the folder, 'ada' in the graph")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data_is_one_line(tmp_path: Path, blink: Blink, spoil: Callable[[Path], str], message: tuple[str, ...]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(spoil(family(tmp_path / "graph")))
    status, _, printed = blink("kglm", "train", file, "--out", tmp_path / "run")
    assert status == 1
    assert [word for word in message if word not in printed] == []
    assert printed.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_duplicate_triples_are_dropped_and_said_in_one_line(tmp_path: Path, blink: Blink) -> None:
    write_triples(family(tmp_path / "graph") / "train.txt", [*TRAIN, TRAIN[0], TRAIN[1]])
    file = tmp_path / "run.yaml"
    file.write_text(f"kind: graph\ndata: {{graph: {tmp_path}/graph}}\nmodel: {{dim: 4}}\ntrain: {{epochs: 1}}\n")
    status, _, printed = blink("kglm", "train", file, "--out", tmp_path / "run")
    assert status == 0
    assert [line for line in printed.splitlines() if "duplicates" in line] == [
        "train: 2 of 10 triples are duplicates and were dropped"
    ]
