"""``blink doctor``: whether BLINK works on this machine, and what is fast on it."""

from __future__ import annotations

import json
import sys

import click

from blink.apps.common import FAILED, bar
from blink.apps.model_options import model_option


@click.command()
@click.option("--fast", is_flag=True, help="Measure each backend and precision for about ten seconds, and say which to use.")
@model_option("Model folder, with --fast.  [default: the starter]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def doctor(fast: bool, model: str | None, as_json: bool) -> None:
    """Check versions, processor, memory, backends and the starter; the exit status is 1 if something is wrong.

    \b
    Examples:
      blink doctor
      blink doctor --fast --model my-model
    """
    if model is not None and not fast:
        raise click.UsageError("--model is measured with --fast; give both")
    from blink.evaluation.speed import backends, doctor

    if fast:
        found = backends.examine(model, bars=bar)
        lines = backends.as_lines(found)
    else:
        found = doctor.diagnose(bars=bar)
        lines = doctor.as_lines(found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else "".join(f"{line}\n" for line in lines))
    if found.get("problems"):
        raise SystemExit(FAILED)
