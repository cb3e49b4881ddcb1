"""``blink kglm eval`` and ``blink kglm export``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("eval")
@click.argument("folder", metavar="DIR")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="What to measure on: valid or test.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def evaluate(folder: str, split: str, as_json: bool) -> None:
    """Measure the best state of a run; all figures also go into DIR/metrics.json.

    \b
    Example:
      blink kglm eval experiments/complex --split test
    """
    import json

    from blink.apps.kglm.tables import metric_lines
    from blink.apps.kglm.training import shown_progress
    from blink.kglm.kinds import runner_for
    from blink.kglm.run import KglmRun

    path = Path(folder)
    kind = KglmRun.open(path).settings.kind
    with shown_progress("evaluating", "batch") as progress:
        metrics = runner_for(kind).evaluate(path, split, progress=progress)
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
    from blink.kglm.kinds import runner_for
    from blink.kglm.run import KglmRun

    path = Path(folder)
    kind = KglmRun.open(path).settings.kind
    written = runner_for(kind).export(path, Path(out))
    say(f"wrote to {out}: " + ", ".join(f"{key} {value}" for key, value in written.items()))
