"""One epoch, evaluation and prediction on generated graphs of 10,000 to a million entities: seconds and peak memory.

OMP_NUM_THREADS=2 python benchmarks/graph_scale.py --out benchmarks/results/graph_scale.json

Degrees follow a power law. Each size is measured in a process of its own, whose peak memory includes reading.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.files import write_json
from blink.kglm.config import load_settings
from blink.kglm.graph.learner import GraphLearner, save_model
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.runner import known_answers, ranking
from blink.kglm.prediction import Predictor, Question
from blink.kglm.run import KglmRun
from blink.kglm.settings import GraphSettings
from blink.runs.progress import Progress

SIZES = {10_000: 10, 100_000: 10, 1_000_000: 5}
"""Entities -> triples an entity."""
RELATIONS, HELD_OUT, RANKED, QUESTIONS, SEED = 50, 2_000, 250, 20, 7
SETTINGS = {
    "model.name": "complex", "model.dim": 64, "model.sparse": True, "device": "cpu",
    "train.type": "negative", "train.batch_size": 4096, "train.optimizer": "rowwise_adagrad", "train.lr": 0.1,
    "negatives.count": 256, "negatives.shared": True, "stop.triples": 100,
}  # fmt: skip


def generate(folder: Path, entities: int, per_entity: int) -> None:
    """A graph with endpoints by a power law, as a folder with validation triples."""
    random, count = np.random.default_rng(SEED), entities * per_entity
    weights = np.arange(1, entities + 1) ** -0.75
    cumulative = np.cumsum(weights / weights.sum())
    ends = random.permutation(entities)[
        np.searchsorted(cumulative, random.random((2, int(count * 1.2)))).clip(max=entities - 1)
    ]
    ends[0, :entities] = np.arange(entities)  # every entity has a triple
    triples = np.unique(np.stack([ends[0], random.integers(RELATIONS, size=ends.shape[1]), ends[1]], 1), axis=0)
    triples = random.permutation(triples)[: count + HELD_OUT]
    folder.mkdir(parents=True)
    for name, rows in (("valid", triples[:HELD_OUT]), ("train", triples[HELD_OUT:])):
        with (folder / f"{name}.txt").open("w") as f:
            f.writelines(f"Q{h}\tP{r}\tQ{t}\n" for h, r, t in rows.tolist())


def peak_mb() -> int:
    """Highest memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(folder: Path) -> dict[str, Any]:
    """Figures of one graph, seconds by what they are for."""
    clock = Clock()
    settings = GraphSettings.of(load_settings("graph").replace({**SETTINGS, "data.graph": str(folder / "graph")}))
    graph = read_graph(settings.data)
    clock.stop("reading")
    run = KglmRun(folder / "run", settings)
    learner = GraphLearner(graph, run)
    clock.stop("start")
    for step in range(learner.epoch_steps):
        learner.step(step)
    clock.stop("epoch")
    row = learner.validate(learner.epoch_steps)
    clock.stop("validation")
    save_model(learner.model, run, graph, row)
    clock.stop("saving")
    figures = {"entities": len(graph.entities), "triples": len(graph.train), "training_mb": peak_mb()}
    model, valid = learner.model.eval(), graph.split("valid")[:RANKED]
    answers = known_answers(graph, "valid")
    clock.stop("answers")
    ranking(settings, graph, model, valid, answers, Progress())
    clock.stop("ranking")
    ranking(settings.replace({"eval.candidates": 1000}), graph, model, valid, answers, Progress())
    clock.stop("ranking_1000_candidates")
    predictor = Predictor(model, graph)
    clock.stop("opening_predictor")
    seconds = []
    for head, relation, _ in valid[:QUESTIONS].tolist():
        began = time.process_time()
        predictor.answers([Question(graph.entities[head], graph.relations[relation])])
        seconds.append(time.process_time() - began)
    latency = {"question_ms": round(1e3 * statistics.median(seconds), 1)}
    return {**figures, **clock.seconds, **latency, "cpu_seconds": round(time.process_time(), 1), "peak_mb": peak_mb()}


class Clock:
    """Seconds since the last stop, by name: of the clock on the wall, and of the processor."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self._since = (time.perf_counter(), time.process_time())

    def stop(self, name: str) -> None:
        """The seconds of what has ended."""
        now = (time.perf_counter(), time.process_time())
        self.seconds[name] = (round(now[0] - self._since[0], 2), round(now[1] - self._since[1], 2))
        self._since = now


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown, in seconds of the processor, which other work on the machine changes little."""
    names = (
        "entities",
        "triples",
        "reading",
        "one epoch",
        "triples/s",
        "250 triples ranked",
        "among 1,000",
        "a question",
        "memory",
    )
    lines = [f"| {' | '.join(names)} |", "| ---: " * len(names) + "|"]
    for row in rows:
        cpu = {name: cell[1] for name, cell in row.items() if isinstance(cell, list)}
        cells = [f"{row['entities']:,}", f"{row['triples']:,}"]
        cells += [f"{cpu['reading']:.1f} s", f"{cpu['epoch']:.1f} s", f"{row['triples'] / cpu['epoch']:,.0f}"]
        cells += [f"{cpu['ranking']:.1f} s", f"{cpu['ranking_1000_candidates']:.1f} s", f"{row['question_ms']:.0f} ms"]
        cells.append(f"{row['peak_mb']:,} MB")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure each size, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="file of JSON")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Path(options.one))))
        return
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            generate(Path(scratch) / "graph", size, SIZES.get(size, 10))
            load = os.getloadavg()[0]
            done = subprocess.run([sys.executable, __file__, "--one", scratch], check=True, capture_output=True, text=True)
        rows.append({**json.loads(done.stdout.splitlines()[-1]), "load": round(load, 1)})
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if options.out:
        machine = {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__}
        write_json(options.out, {"settings": SETTINGS, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
