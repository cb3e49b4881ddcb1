"""``blink kglm eval`` and ``blink kglm export``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("eval")
@click.argument("folder", metavar="DIR")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="What to measure on: valid or test.")
@click.option("--data", metavar="FILE", help="Measure on this file instead: triples of a graph, or text of a language model.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def evaluate(folder: str, split: str, data: str | None, as_json: bool) -> None:
    """Measure the best state of a run; all figures also go into DIR/metrics.json, except those of --data.

    \b
    Example:
      blink kglm eval experiments/complex --split test
      blink kglm eval experiments/complex --data other-facts.tsv
    """
    import json

    from blink.apps.kglm.training import shown_progress
    from blink.kglm.kinds import runner_for
    from blink.kglm.metric_lines import metric_lines
    from blink.kglm.run import KglmRun

    path = Path(folder)
    kind = KglmRun.open(path).settings.kind
    with shown_progress("evaluating", "batch") as progress:
        if data is None:
            metrics = runner_for(kind).evaluate(path, split, progress=progress)
        else:
            metrics = runner_for(kind).evaluate_file(path, Path(data), progress=progress)
    click.echo(json.dumps(metrics, indent=2) if as_json else "\n".join(metric_lines(metrics)))


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--out", required=True, metavar="DIR2", help="Folder to write; files of an earlier export there are replaced.")
def export(folder: str, out: str) -> None:
    """Write the vectors of a run for the linker: .npy tables, a file of ids for each, and meta.json.

    \b
    Example:
      blink kglm export experiments/complex --out vectors
      python -c "import numpy; print(numpy.load('vectors/entity_vectors.npy').shape)"
    """
    from blink.apps.common import say
    from blink.apps.kglm.training import shown_progress
    from blink.kglm.kinds import runner_for
    from blink.kglm.run import KglmRun

    path = Path(folder)
    kind = KglmRun.open(path).settings.kind
    with shown_progress("exporting", "row") as progress:
        written = runner_for(kind).export(path, Path(out), progress=progress)
    say(f"wrote to {out}: " + ", ".join(f"{key} {value}" for key, value in written.items()))
