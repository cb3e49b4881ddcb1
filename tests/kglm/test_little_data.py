"""Data without any input, or with too little of it, ends in one line, before a run begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from graph_toys import write_triples
from outcomes import done, refused

pytest.importorskip("pykeen", reason="needs the extra kglm")

Blink = Callable[..., tuple[int, str, str]]
FIVE = [("a", "r", "b"), ("b", "r", "c"), ("c", "r", "a"), ("a", "s", "c"), ("b", "s", "a")]
ONE, OTHER = FIVE[:1], [("a", "x", "b")]
GRAPH = "kind: graph\nmodel: {dim: 4}\ntrain: {epochs: 1, batch_size: 4}\ndata: {graph: DIR/g"
WORDS = "kind: glove\njoint: {alpha: 0}\nwords: {dim: 4, batch_size: 4}\nvocabulary: {least_count: 1}\ntrain: {epochs: 1}\n"
LANGUAGE = "words: {width: 4}\ncells: {layers: [4]}\ntrain: {epochs: 1, steps_per_epoch_lm: 2, lines: 2}\n"
JOINT = "kind: joint\ndata: {text: DIR/t.txt, graph: DIR/g}\nclassifier: {hidden: [4, 4]}\n" + LANGUAGE
TEXT = "".join(f"word{i % 3} is a thing number {i}\n" for i in range(40))
Splits = Mapping[str, list[tuple[str, str, str]]]


@pytest.mark.parametrize(
    ("run", "splits", "text", "words"),
    [
        (f"{GRAPH}}}", {"train": [], "valid": FIVE}, "", ("train.txt is empty",)),
        (f"{GRAPH}}}", {"train": [("head", "relation", "tail")], "valid": FIVE}, "", ("train.txt holds no triples",)),
        (f"{GRAPH}}}", {"train": FIVE}, "", ("no valid triples",)),
        (f"{GRAPH}, valid_share: 0.5}}", {"train": ONE}, "", ("only 0 of 1 training triples",)),
        (f"{GRAPH}}}", {"train": FIVE, "valid": OTHER}, "", ("a relation without training triples",)),
        (f"{GRAPH}, unseen_relations: drop}}", {"train": FIVE, "valid": OTHER}, "", ("no valid triples",)),
        (f"{GRAPH}}}", {"valid": FIVE}, "", ("has no triples to train on",)),
        (f"{WORDS}data: {{text: DIR/t.txt}}", {}, "", ("t.txt is empty",)),
        (f"{WORDS}data: {{text: DIR/t.txt}}", {}, "word\nother\n", ("no two words",)),
        (f"{WORDS}data: {{text: DIR/t.txt}}\ncounts: {{held_out: 0.5}}", {}, "word other\n", ("leaves no pair to train on",)),
        (f"kind: lm\n{LANGUAGE}", {}, "", ("data.text is not set",)),
        (f"kind: lm\n{LANGUAGE}data: {{text: DIR/t.txt}}", {}, " \n...\n", ("holds no words",)),
        (f"kind: lm\n{LANGUAGE}data: {{text: DIR/t.txt}}", {}, "one line\n", ("data.held_out 0.05 leaves no text",)),
        (JOINT, {"train": ONE, "valid": ONE}, TEXT, ("the graph has one relation",)),
        (f"{JOINT}negatives: {{measured: []}}", {"train": FIVE, "valid": ONE}, TEXT, ("negatives.measured names no kind",)),
    ],
)
def test_too_little_is_one_line(
    blink: Blink, tmp_path: Path, run: str, splits: Splits, text: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "g").mkdir()
    for name, rows in splits.items():
        write_triples(tmp_path / "g" / f"{name}.txt", rows)
    (tmp_path / "t.txt").write_text(text)
    (tmp_path / "run.yaml").write_text(run.replace("DIR", str(tmp_path)))
    refused(blink("kglm", "train", tmp_path / "run.yaml", "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["1vsAll", "KvsAll", "negative"])
@pytest.mark.parametrize("triple", [("a", "r", "b"), ("a", "r", "a")])
def test_one_triple_is_a_graph(blink: Blink, tmp_path: Path, kind: str, triple: tuple[str, str, str]) -> None:
    for name in ("train", "valid", "test"):
        write_triples(tmp_path / "g" / f"{name}.txt", [triple])
    (tmp_path / "run.yaml").write_text(f"{GRAPH}}}".replace("DIR", str(tmp_path)))
    done(blink("kglm", "train", tmp_path / "run.yaml", "--out", tmp_path / "run", "--train.type", kind))
    out, _ = done(blink("kglm", "eval", tmp_path / "run"))
    assert "questions 2" in out
    done(blink("kglm", "export", tmp_path / "run", "--out", tmp_path / "vectors"))
