"""``blink kglm sweep``."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", metavar="SWEEP.yaml")
@click.option("--out", required=True, metavar="DIR", help="Folder of the sweep; an unfinished one there continues.")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Trials, with those already there.")
@click.option("--metric", metavar="NAME", help="Metric of validations.  [default: mrr; of language models, perplexity]")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--SECTION.NAME VALUE]...")
def sweep(file: str, out: str, trials: int, metric: str | None, overrides: tuple[str, ...]) -> None:
    """Search for the best settings of a run with Optuna: a run file with a section of ranges.

    Each trial is a run below DIR; trials.tsv has the results, best.yaml is a run file for `blink kglm train`.

    \b
    Example:
      sweep: {train.lr: {low: 1.0e-4, high: 0.1, log: true}, model.dim: {choices: [64, 128]}}   (in SWEEP.yaml)
      blink kglm sweep SWEEP.yaml --out sweeps/complex --trials 30
    """
    from pathlib import Path

    from blink.apps.common import bar, say
    from blink.kglm.sweep import BEST, Sweep, run_sweep
    from blink.runs.signals import Interrupted

    try:
        best = run_sweep(Sweep.read(file, overrides, metric), Path(out), trials, say, bar)
    except Interrupted as stop:
        say(f"{stop}; continue with the same command")
        raise SystemExit(128 + stop.signal) from stop
    say("no trial succeeded" if not best else "best: " + ", ".join(f"{name} {value}" for name, value in best.items()))
    say(f"next: blink kglm train {Path(out) / BEST} --out DIR")
