"""``blink kglm train`` and ``blink kglm resume``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.sections import PassingCommand

if TYPE_CHECKING:
    from blink.runs.progress import Progress

OVERRIDES = {"ignore_unknown_options": True}


@click.command(cls=PassingCommand, context_settings=OVERRIDES)
@click.argument("run", metavar="RUN.yaml")
@click.option("--out", required=True, metavar="DIR", help="Folder of the run; it must not hold one yet.")
@click.option(
    "--data", metavar="DIR", help="Folder of data that is not in the working folder, as --data.root.  [default: $BLINK_DATA]"
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--SECTION.NAME VALUE]...")
def train(run: str, out: str, data: str | None, overrides: tuple[str, ...]) -> None:
    """Train what a run file describes; settings on the command line override those of the file.

    Ctrl-C saves and ends; `blink kglm resume DIR` continues an interrupted run.

    \b
    Example:
      blink kglm train examples/kglm/complex-codex-s.yaml --out experiments/complex --seed 1 --train.lr 5e-4
    """
    from blink.kglm.config import kind_of, load_settings
    from blink.runs.folder import locked_run

    words = (*overrides, *(("--data.root", data) if data else ()))
    settings = load_settings(kind_of(run), run, words)
    with locked_run(Path(out)) as folder:
        _run(settings.kind, settings, folder, resume=False)


@click.command(cls=PassingCommand, context_settings=OVERRIDES)
@click.argument("folder", metavar="DIR")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--train.epochs N]")
def resume(folder: str, overrides: tuple[str, ...]) -> None:
    """Continue a run, to the results of one without interruption; a longer one with --train.epochs N.

    \b
    Example:
      blink kglm resume experiments/complex
    """
    from blink.files import locked
    from blink.kglm.run import KglmRun

    path = Path(folder)
    settings = KglmRun.open(path, overrides).settings
    with locked(path):
        _run(settings.kind, settings, path, resume=True)


def _run(kind: str, settings: Any, folder: Path, *, resume: bool) -> None:
    """Train with progress on standard error.

    Raises:
        SystemExit: a signal stopped the run; its state is saved.
    """
    from blink.apps.common import say
    from blink.kglm.kinds import runner_for
    from blink.runs.signals import Interrupted
    from blink.runs.trackers import require_tracker

    require_tracker(settings.tracker)
    runner = runner_for(kind)
    try:
        with shown_progress("training", "step") as progress:
            metrics = runner.train(settings, folder, resume=resume, progress=progress)
    except Interrupted as stop:
        say(f"{stop}; continue with: blink kglm resume {folder}")
        raise SystemExit(128 + stop.signal) from stop
    say(f"the best state is in {folder / 'best'}: {brief(metrics)}")
    say(f"next: blink kglm eval {folder} --split SPLIT, or blink kglm export {folder} --out DIR")


@contextlib.contextmanager
def shown_progress(name: str, unit: str) -> Iterator[Progress]:
    """Hooks that draw a bar on standard error and write lines there."""
    from blink.apps.common import Bar, bar, say
    from blink.progress import StageBars
    from blink.runs.progress import Progress

    bars = StageBars(Bar, unit)

    def start(total: int, done: int) -> None:
        bars.stage(name, total)
        bars.reuse(done)

    def step(values: Mapping[str, float]) -> None:
        bars.advance()
        bars.note(" ".join(f"{key} {value:.4g}" for key, value in values.items()))

    with contextlib.closing(bars):
        yield Progress(start=start, step=step, say=say, bars=bar)


def brief(metrics: Mapping[str, Any]) -> str:
    """The plain numbers of metrics on one line."""
    return ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if isinstance(value, int | float))
