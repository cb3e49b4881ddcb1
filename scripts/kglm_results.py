"""Writes what a run of examples/kglm measured into one file for the repository: figures, bars, cost, settings, hashes.

    blink kglm train examples/kglm/k01_complex_codex_s.yaml --out experiments/k01
    blink kglm eval experiments/k01
    python scripts/kglm_results.py examples/kglm/k01_complex_codex_s.yaml experiments/k01

writes examples/kglm/metrics/k01_complex_codex_s.json and says which bars are met. Paths of this machine stay out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blink.apps.common import guarded, say
from blink.errors import MismatchError, SettingsError
from blink.files import write_json
from blink.kglm.config import kind_of, load_settings
from blink.kglm.run import RunFolder
from blink.training.trace import read_trace

BARS: dict[str, dict[str, float]] = {
    "k01_complex_codex_s": {
        "test.ranking.mrr": 0.453,
        "test.ranking.hits@10": 0.630,
        "test.classification.hard.accuracy": 0.822,
        "test.classification.hard.f1": 0.832,
        "test.classification.uniform.accuracy": 0.96,
    },
    "k01_complex_codex_s_fast": {"test.ranking.mrr": 0.440},
    "k02_transe_codex_s": {"test.ranking.mrr": 0.342},
    "k03_distmult_codex_s": {"test.ranking.mrr": 0.440},
}
"""Run file -> figure -> its lowest value."""
OF_THE_HOST = ("time", "git", "python", "versions", "device", "cores", "processes")


def figure(metrics: Mapping[str, Any], name: str) -> float:
    """A figure by its full name, such as ``test.ranking.mrr``."""
    found: Any = metrics
    for part in name.split("."):
        found = found[part]
    return float(found)


def results(run_file: Path, folder: Path) -> dict[str, Any]:
    """All that is kept of a run.

    Raises:
        MismatchError: the run was made with other settings than the run file's.
        SettingsError: it was not evaluated.
    """
    run, wanted = RunFolder.open(folder), load_settings(kind_of(run_file), run_file)
    free = {"data.root", "device", "seed"}
    changed = [k for k, v in wanted.flat().items() if k not in free and run.settings.flat()[k] != v]
    if changed:
        raise MismatchError(f"{folder} was made with another {changed[0]} than {run_file} has; train it again")
    metrics = run.metrics()
    if "test" not in metrics:
        raise SettingsError(f"{folder} was not measured yet; run: blink kglm eval {folder}")
    first = read_trace(folder / "trace.jsonl")[0]
    bars = {k: {"bar": low, "found": figure(metrics, k)} for k, low in BARS.get(run_file.stem, {}).items()}
    return {
        "run_file": run_file.as_posix(),
        "commands": [f"blink kglm train {run_file.as_posix()} --out DIR", "blink kglm eval DIR"],
        "bars": {k: {**v, "met": v["found"] >= v["bar"]} for k, v in bars.items()},
        "seed": run.settings.seed,
        "host": {key: first[key] for key in OF_THE_HOST if key in first},
        "data": {Path(name).name: digest for name, digest in first["files"].items()},
        "settings": run.settings.flat(),
        **metrics,
    }


@click.command()
@click.argument("run_file", metavar="RUN.yaml")
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="FILE", help="[default: metrics/NAME.json beside the run file]")
def main(run_file: str, folder: str, out: str | None) -> None:
    """Write the figures of the run in DIR, which RUN.yaml describes."""
    path = Path(run_file)
    found = results(path, Path(folder))
    target = Path(out) if out else path.parent / "metrics" / f"{path.stem}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, found)
    for name, row in found["bars"].items():
        say(f"{name} {row['found']:.4f}, bar {row['bar']}: {'met' if row['met'] else 'NOT MET'}")
    say(f"wrote {target}")


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: main(standalone_mode=False), "kglm_results"))
