"""Writes what a run of examples/kglm measured into one file for the repository: figures, bars, cost, settings, hashes.

    blink kglm train examples/kglm/complex-codex-s.yaml --out experiments/complex
    blink kglm eval experiments/complex
    python scripts/kglm_results.py examples/kglm/complex-codex-s.yaml experiments/complex

writes examples/kglm/metrics/complex-codex-s.json and says which bars are met. Paths of this machine stay out of it.
With --against DIR2, another run on the same graph, it also has by how much the reciprocal ranks differ, question by question.
With --twin DIR3, a run that was ended and gone on with, it must have come to the same bits.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.errors import MismatchError, SettingsError
from blink.evaluation.bootstrap import middle
from blink.files import require_file, sha256, write_json
from blink.kglm.config import kind_of, load_settings
from blink.kglm.graph.ranking import DEGREES
from blink.kglm.graph.readers import read_graph
from blink.kglm.run import MODEL_FILE, KglmRun
from blink.kglm.settings import GraphSections
from blink.runs.trace import read_trace
from scripts.harness import run_script

BARS: dict[str, dict[str, float]] = {
    "complex-codex-s": {
        "test.ranking.mrr": 0.453,
        "test.ranking.hits@10": 0.630,
        "test.classification.hard.accuracy": 0.822,
        "test.classification.hard.f1": 0.832,
        "test.classification.uniform.accuracy": 0.96,
    },
    "complex-codex-s-fast": {"test.ranking.mrr": 0.440},
    "transe-codex-s": {"test.ranking.mrr": 0.342},
    "distmult-codex-s": {"test.ranking.mrr": 0.440},
}
"""Run file -> figure -> its lowest value."""
CEILINGS: dict[str, dict[str, float]] = {"glove": {"train.loss_ratio": 0.5}}
"""Run file -> figure -> its highest value."""
SPLITS = ("test", "valid")
FEW = DEGREES[1] - 1
"""Training triples of an answer that has few: the first bucket of a report."""
SAMPLES = 10_000
OF_THE_HOST = ("time", "git", "python", "versions", "device", "cores", "processes")


def figure(metrics: Mapping[str, Any], name: str) -> float:
    """A figure by its full name, such as ``test.ranking.mrr``."""
    value: Any = metrics
    for key in name.split("."):
        value = value[key]
    return float(value)


def bars_of(name: str, metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets of a run file next to the results, and whether they are met."""
    results = {}
    for bars, is_floor in ((BARS, True), (CEILINGS, False)):
        for key, bar in bars.get(name, {}).items():
            value = figure(metrics, key)
            results[key] = {"bar": bar, "found": value, "met": value >= bar if is_floor else value <= bar}
    return results


def results(run_file: Path, folder: Path, against: Path | None = None) -> dict[str, Any]:
    """All that is kept of a run, and, with ``against``, how it compares with another.

    Raises:
        MismatchError: the run was made with other settings than the run file's.
        SettingsError: it was not evaluated.
    """
    run, expected = KglmRun.open(folder), load_settings(kind_of(run_file), run_file)
    free = {"data.root", "device", "seed"}
    changed = [k for k, v in expected.flat().items() if k not in free and run.settings.flat()[k] != v]
    if changed:
        raise MismatchError(f"{folder} was made with another {changed[0]} than {run_file} has; train it again")
    metrics = run.metrics()
    if not any(split in metrics for split in SPLITS):
        raise SettingsError(f"{folder} was not measured yet; run: blink kglm eval {folder}")
    first = read_trace(folder / "trace.jsonl")[0]
    return {
        "run_file": run_file.as_posix(),
        "commands": [f"blink kglm train {run_file.as_posix()} --out DIR", "blink kglm eval DIR"],
        "bars": bars_of(run_file.stem, metrics),
        "seed": run.settings.seed,
        "host": {key: first[key] for key in OF_THE_HOST if key in first},
        "data": {"/".join(Path(name).parts[-2:]): digest for name, digest in first["files"].items()},
        "settings": run.settings.flat(),
        **metrics,
        **({"against": compared(run.of(GraphSections), KglmRun.open(against).of(GraphSections))} if against else {}),
    }


def check_twins(folder: Path, twins: Sequence[Path]) -> dict[str, Any]:
    """The hash of a run's best state, which its twins have too, as they have the loss of every step that the traces tell.

    Raises:
        MismatchError: one of them differs.
    """
    best, losses = sha256(folder / "best" / MODEL_FILE), _losses(folder)
    for twin in twins:
        digest = sha256(twin / "best" / MODEL_FILE)
        if digest != best:
            raise MismatchError(f"the best state of {twin} has the hash {digest}, that of {folder} {best}; resuming is broken")
        if _losses(twin) != losses:
            raise MismatchError(f"the losses of {twin} are not those of {folder}; resuming is broken")
    return {"runs": 1 + len(twins), "best_sha256": best, "equal_losses": len(losses)}


def _losses(folder: Path) -> list[tuple[str, int, float]]:
    return [(row["kind"], row["step"], row["loss"]) for row in read_trace(folder / "trace.jsonl") if "loss" in row]


def compared(run: KglmRun[GraphSections], other: KglmRun[GraphSections]) -> dict[str, Any]:
    """How much higher the reciprocal ranks of a run are than another's: all questions, and those whose answer has few triples.

    Raises:
        MismatchError: the runs did not rank the same questions.
        MissingFileError: one of them was not evaluated.
    """
    split = next(name for name in SPLITS if name in run.metrics())
    tables = [_ranks(folder.path / f"ranks-{split}.tsv") for folder in (run, other)]
    if tables[0].keys() != tables[1].keys():
        raise MismatchError(f"{run.path} and {other.path} did not rank the same questions; evaluate them on the same split")
    graph = read_graph(run.settings.data)
    degrees = dict(zip(graph.entities, graph.degrees.tolist(), strict=True))
    gains = np.array([1 / tables[0][question] - 1 / tables[1][question] for question in tables[0]])
    few = np.array([degrees[question[0 if question[3] == "head" else 2]] <= FEW for question in tables[0]])
    differing = [k for k, v in run.settings.flat().items() if other.settings.flat()[k] != v]
    groups = {"all": gains, f"0-{FEW}": gains[few]}
    return {"split": split, "differs_by": differing, "mrr": {name: _gain(values) for name, values in groups.items()}}


def _gain(gains: np.ndarray) -> dict[str, Any]:
    """Mean of paired differences, with the middle 95 % of bootstrap samples over questions."""
    if not len(gains):
        return {"questions": 0}
    random = np.random.default_rng(0)
    means = np.array([gains[random.integers(len(gains), size=len(gains))].mean() for _ in range(SAMPLES)])
    return {"difference": float(gains.mean()), "interval": middle(means), "questions": len(gains)}


def _ranks(path: Path) -> dict[tuple[str, ...], float]:
    """Rank of each question: head, relation, tail and the side that was asked for."""
    with require_file(path, f"run: blink kglm eval {path.parent}").open(encoding="utf-8") as f:
        next(f)
        return {tuple(fields[:4]): float(fields[4]) for fields in (line.rstrip("\n").split("\t") for line in f)}


@click.command()
@click.argument("run_file", metavar="RUN.yaml")
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="FILE", help="[default: metrics/NAME.json next to the run file]")
@click.option("--against", metavar="DIR2", help="Another run on the same graph, to compare ranks with.")
@click.option("--twin", "twins", metavar="DIR3", multiple=True, help="A run that must have come to the same bits.")
def main(run_file: str, folder: str, out: str | None, against: str | None, twins: tuple[str, ...]) -> None:
    """Write the figures of the run in DIR, which RUN.yaml describes."""
    path = Path(run_file)
    content = results(path, Path(folder), Path(against) if against else None)
    if twins:
        content["twins"] = check_twins(Path(folder), [Path(twin) for twin in twins])
    target = Path(out) if out else path.parent / "metrics" / f"{path.stem}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, content)
    for name, row in content["bars"].items():
        say(f"{name} {row['found']:.4f}, bar {row['bar']}: {'met' if row['met'] else 'NOT MET'}")
    for name, row in content.get("against", {}).get("mrr", {}).items():
        if row["questions"]:
            low, high = row["interval"]
            say(f"mrr of {name}: {row['difference']:+.4f} [{low:+.4f}, {high:+.4f}], {row['questions']:,} questions")
    say(f"wrote {target}")


if __name__ == "__main__":
    run_script(main, "kglm_results")
