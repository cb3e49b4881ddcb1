"""Kinds of files that options name: questions, names, indexes, scorers, sweeps, parsed dumps. They are of ``--wide`` alone."""

from __future__ import annotations

import bz2
import shutil
from pathlib import Path

import numpy as np

from tests.fuzz.graph_kinds import GRAPH_RUN, PEOPLE, graph, runs
from tests.fuzz.kinds import COMMANDS, Kind
from tests.fuzz.text_kinds import write


def questions(folder: Path) -> None:
    """A run on a graph, with questions, names and triples to measure it on."""
    runs(folder)
    shutil.rmtree(folder / "vectors")
    write(folder / "questions.tsv", "ada\tparent\t?\n?\tknows\teve\nben\t?\teve\n")
    write(folder / "names.tsv", "".join(f"{name}\t{name.title()} {i}\n" for i, name in enumerate(PEOPLE)))
    write(folder / "more.txt", "ada\tparent\tben\ndan\tknows\teve\n")


def parsed_dump(folder: Path) -> None:
    """A dump of Wikipedia as LUKE's pretraining parses it, and a list of titles."""
    tiny = Path(__file__).resolve().parents[2] / "examples" / "pretraining" / "tiny"
    if COMMANDS["examples"](["pretraining", "build-dump-db", str(tiny / "dump.xml"), str(folder / "db")]):
        raise RuntimeError("build-dump-db")
    write(folder / "titles.txt", "Paris\nFrance\n")


def multistream(folder: Path) -> None:
    """A dump of Wikipedia in streams, with its index."""
    from tests.dump_toys import page, wikipedia

    texts = [
        wikipedia([page(10 + i, title, f"'''{title}''' is near [[Paris]].")]).decode()
        for i, title in enumerate(("Paris", "Rome"))
    ]
    head, end = texts[0].split("<page>")[0], "</mediawiki>\n"
    pages = ["<page>" + text.split("<page>", 1)[1].rpartition("</mediawiki>")[0] for text in texts]
    streams, index, at = [bz2.compress(head.encode())], "", 0
    for i, text in enumerate(pages):
        at += len(streams[-1])
        index += f"{at}:{10 + i}:Title {i}\n"
        streams.append(bz2.compress(text.encode()))
    write(folder / "x-multistream.xml.bz2", b"".join([*streams, bz2.compress(end.encode())]))
    write(folder / "x-multistream-index.txt.bz2", bz2.compress(index.encode()))


def scorer(folder: Path) -> None:
    """A scorer of pairs of records."""
    from blink.resolve.scorer import WEIGHTS_FILE

    shutil.copy(WEIGHTS_FILE, folder / "scorer.json")


def _read_scorer(folder: Path, file: Path) -> None:
    from blink.resolve.scorer import PairScorer

    print(PairScorer.load(folder / "scorer.json"))


def sweep(folder: Path) -> None:
    """A sweep of which one trial is done."""
    graph(folder)
    ranges = "sweep:\n  train.lr: {low: 1.0e-3, high: 0.1, log: true}\n  model.dim: {choices: [4, 8]}\n"
    write(folder / "sweep.yaml", GRAPH_RUN.replace("data: {", f"data: {{root: {folder}, ") + ranges)
    if _sweep(folder, 1):
        raise RuntimeError("kglm sweep")


def _sweep(folder: Path, trials: int) -> int:
    from blink.kglm.run import KglmRun

    KglmRun.draw = lambda folder, losses, scores: None  # type: ignore[method-assign,assignment]
    line = f"kglm sweep {folder}/sweep.yaml --out {folder}/sweep --trials {trials}"
    return COMMANDS["blink"](line.split())


def resume_sweep(folder: Path, file: Path) -> int:
    np.random.seed(0)
    return _sweep(folder, 2)


KINDS = (
    Kind(
        "questions",
        questions,
        (
            "blink kglm predict {}/run --file {}/questions.tsv --names {}/names.tsv --json",
            "blink kglm eval {}/run --data {}/more.txt --json",
        ),
        ("*.tsv", "more.txt"),
        needs="graph",
        weight=2,
    ),
    Kind("sweep", sweep, (resume_sweep,), ("sweep.yaml", "sweep/*"), needs="graph"),
    Kind(
        "luke-pages",
        parsed_dump,
        ("examples pretraining build-entity-vocab {}/db {}/out.jsonl -w {}/titles.txt",),
        ("db/*", "titles.txt"),
        needs="luke",
    ),
    Kind(
        "multistream-index",
        multistream,
        ("blink kb from-wikipedia {}/x-multistream.xml.bz2 --out {}/out --workers 1",),
        ("*.bz2",),
    ),
    Kind("scorer", scorer, (_read_scorer,), ("scorer.json",)),
)
