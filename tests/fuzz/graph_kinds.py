"""Kinds of `blink kglm`: triples, labels, texts, run files, runs, vectors, priors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.fuzz.kinds import Kind, variation
from tests.fuzz.text_kinds import write

GRAPH_RUN = """kind: graph
device: cpu
seed: 3
data: {graph: graph}
model: {dim: 8, name: complex}
train: {epochs: 2, lr: 0.05, batch_size: 8}
stop: {every: 1}
"""
PEOPLE = ("ada", "ben", "cleo", "dan", "eve")
TRAIN = (
    ("ada", "parent", "ben"),
    ("ada", "parent", "cleo"),
    ("ben", "parent", "dan"),
    ("cleo", "parent", "eve"),
    ("ada", "knows", "dan"),
    ("dan", "knows", "eve"),
    ("ben", "likes", "eve"),
    ("eve", "likes", "ada"),
)


def _triples(rows: tuple[tuple[str, ...], ...]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def graph(folder: Path) -> None:
    """Triples in three files, with negatives, lists and a run file."""
    for split in ("train", "valid", "test"):
        write(folder / "graph" / f"{split}.txt", _triples(TRAIN))
    write(folder / "graph" / "test_negatives.txt", _triples(tuple((t, r, h) for h, r, t in TRAIN)))
    write(folder / "run.yaml", GRAPH_RUN.replace("seed: 3", f"seed: {3 + variation()}"))
    write(folder / "one.tsv", _triples(TRAIN * 2))


def _without_curves() -> None:
    from blink.kglm.run import KglmRun

    KglmRun.draw = lambda folder, losses, scores: None  # type: ignore[method-assign,assignment]


def train_graph(folder: Path, file: Path) -> int:
    """Train what ``run.yaml`` says."""
    return _blink(folder, f"kglm train {folder}/run.yaml --data {folder} --out {folder}/run")


def _blink(folder: Path, line: str) -> int:
    from tests.fuzz.kinds import COMMANDS

    _without_curves()
    return COMMANDS["blink"](line.split())


def language(folder: Path) -> None:
    """Texts, triples, names and run files of the language side."""
    from tests.kglm.lm_toys import write_world

    write_world(folder)
    common = f"device: cpu\nseed: {1 + variation()}\nwords: {{width: 8}}\ncells: {{layers: [6]}}\n"
    train = "train: {epochs: 1, steps_per_epoch_lm: 2, lines: 4, learning_rate_lm: 0.01%s}\n"
    data = "data: {root: %s, text: lm/train.txt, text_test: lm/test.txt, held_out: 0.2%s}\n"
    write(folder / "lm.yaml", "kind: lm\n" + common + train % "" + data % (folder, ""))
    more = ", graph: kg, entity_names: names.tsv, relation_names: relations.json, apart: true"
    write(
        folder / "joint.yaml",
        "kind: joint\n"
        + common
        + train % ", steps_per_epoch_kge: 2, triples: 8"
        + data % (folder, more)
        + "classifier: {hidden: [8, 6]}\nvocabulary: {count: both}\n",
    )


def train_lm(folder: Path, file: Path) -> int:
    """Train the language model."""
    return _blink(folder, f"kglm train {folder}/lm.yaml --out {folder}/run")


def train_joint(folder: Path, file: Path) -> int:
    """Train text and triples."""
    return _blink(folder, f"kglm train {folder}/joint.yaml --out {folder}/run")


def glove(folder: Path) -> None:
    """Texts, triples and names of a run of words."""
    from tests.kglm.glove_toys import data

    data(folder / "places")
    write(
        folder / "run.yaml",
        f"""kind: glove
device: cpu
seed: 1
data: {{graph: {folder}/places, text: {folder}/places/text.txt, entity_names: {folder}/places/names.tsv}}
model: {{dim: 8, entity_dropout: 0.2}}
train: {{epochs: 1, batch_size: 16, lr: 0.05}}
stop: {{every: 1, patience: 0}}
joint: {{alpha: 0.5, mu: 0.1, batch_size: 4}}
words: {{dim: 8, batch_size: 32}}
vocabulary: {{least_count: 1}}
counts: {{window: 4, held_out: 0.05}}
""",
    )


def runs(folder: Path) -> None:
    """A run on a graph, its exported vectors, and a prior."""
    graph(folder)
    for line in (
        f"kglm train {folder}/run.yaml --data {folder} --out {folder}/run",
        f"kglm export {folder}/run --out {folder}/vectors",
    ):
        if _blink(folder, line):
            raise RuntimeError(line)


def resume_run(folder: Path, file: Path) -> int:
    """Train the run further, and measure it."""
    return _blink(folder, f"kglm resume {folder}/run --train.epochs 3") or _blink(folder, f"kglm eval {folder}/run --json")


def measure_run(folder: Path, file: Path) -> int:
    """Measure the run, and export it."""
    status = _blink(folder, f"kglm eval {folder}/run --json") or _blink(
        folder, f"kglm export {folder}/run --out {folder}/again"
    )
    if not status:
        print(np.load(folder / "again" / "entity_vectors.npy").tolist())
    return status


def language_run(folder: Path) -> None:
    """A run of the language model."""
    language(folder)
    if train_lm(folder, folder):
        raise RuntimeError("kglm train")


def generate(folder: Path, file: Path) -> int:
    """Continue a prompt, and measure."""
    return _blink(folder, f"kglm generate {folder}/run --prompt ada --words 3 --json") or _blink(
        folder, f"kglm eval {folder}/run --json"
    )


def use_vectors(folder: Path, file: Path) -> int:
    """Make a prior of vectors, and fewer dimensions."""
    line = f"kglm prior --graph {folder}/graph --vectors {folder}/vectors --out {folder}/prior.safetensors"
    status = _blink(folder, line)
    if not status:
        import hashlib

        print(hashlib.sha256((folder / "prior.safetensors").read_bytes()[-200:]).hexdigest())
    return status


def reduce_vectors(folder: Path, file: Path) -> int:
    """Make fewer dimensions of vectors."""
    status = _blink(folder, f"kglm reduce -e {folder}/vectors -m pca -d 2 -o {folder}/small.tsv")
    if not status:
        print((folder / "small.tsv").read_text())
    return status


def embedded(folder: Path) -> None:
    """A TSV of vectors, and files of entities."""
    rows = ["embedding_id\tentity_id\tentity_name\tentity_type\tembedding"]
    for i in range(6):
        vector = "|".join(map(str, np.random.default_rng(i).normal(size=4).round(3).tolist()))
        rows.append(f"{i}\tQ{i}\tname {i}\tkind {i % 2}\t{vector}")
    write(folder / "vectors.tsv", "\n".join(rows) + "\n")
    write(folder / "types.tsv", "".join(f"Q{i}\tkind {i % 2}\tname {i}\n" for i in range(6)))
    write(
        folder / "entities.tsv",
        "entity\tname\ttype\tdescription\n" + "".join(f"Q{i}\tname {i}\tkind\ttext {i}\n" for i in range(4)),
    )
    write(
        folder / "catalogue.jsonl",
        "".join(json.dumps({"title": f"name {i}", "kb_idx": f"Q{i}", "types": ["a"]}) + "\n" for i in range(6)),
    )


def reduce_table(folder: Path, file: Path) -> int:
    """Make fewer dimensions of a TSV."""
    return _blink(folder, f"kglm reduce -e {folder}/vectors.tsv -m pca -d 2 -o {folder}/small.tsv")


KINDS = (
    Kind("triples", graph, (train_graph,), ("graph/*",), needs="graph", weight=2),
    Kind("graph-settings", graph, (train_graph,), ("run.yaml",), needs="graph", weight=1.5),
    Kind(
        "one-file-graph",
        graph,
        ("blink kglm prior --graph {}/one.tsv --vectors signature --out {}/p.safetensors",),
        ("one.tsv",),
        needs="graph",
    ),
    Kind("lm-texts", language, (train_lm,), ("lm/*", "lm.yaml"), needs="graph", weight=2),
    Kind("joint-texts", language, (train_joint,), ("lm/*", "kg/*", "*.tsv", "*.json", "joint.yaml"), needs="graph", weight=2),
    Kind("glove-texts", glove, (train_graph,), ("places/*", "run.yaml"), needs="graph", weight=1.5),
    Kind(
        "graph-run",
        runs,
        (resume_run, measure_run),
        ("run/*", "run/*/*", "run/*/*/*"),
        ("run/best/*", "run/checkpoints/*", "run/checkpoints/*/*"),
        needs="graph",
        weight=3,
    ),
    Kind("lm-run", language_run, (generate,), ("run/*", "run/*/*", "run/*/*/*"), ("run/best/*",), needs="graph", weight=2),
    Kind(
        "vectors",
        runs,
        (use_vectors, reduce_vectors),
        ("vectors/*",),
        ("vectors/*.npy", "vectors/*.txt"),
        needs="graph",
        weight=2,
    ),
    Kind("vector-table", embedded, (reduce_table,), ("vectors.tsv",), needs="graph"),
)
