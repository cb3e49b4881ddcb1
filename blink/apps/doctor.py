"""``blink doctor``: whether BLINK works on this machine, and what is fast on it."""

from __future__ import annotations

import json
import sys

import click

from blink.apps.common import FAILED, bar
from blink.apps.model_options import model_option


@click.command()
@click.option("--fast", is_flag=True, help="Measure each backend and precision for about ten seconds, and say which to use.")
@model_option("Model folder.  [default: the starter]")
@click.option("--kb", metavar="DIR", help="Knowledge base folder.  [default: the starter's]")
@click.option("--record", is_flag=True, help="Take the files of the model for whole, and store their checksums.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def doctor(fast: bool, model: str | None, kb: str | None, record: bool, as_json: bool) -> None:
    """Check versions, devices, memory, disk, backends, and a linker with all bytes of its files.

    It says how many entities fit, and which command comes next. The exit status is 1 if something is wrong.

    \b
    Examples:
      blink doctor
      blink doctor --kb my-kb
      blink doctor --fast --model my-model
      blink doctor --record --model my-model
    """
    from blink.evaluation.speed import backends, doctor
    from blink.linking.starter import require_kb

    if record:
        return _record(model)
    if kb is not None and fast:
        raise click.UsageError("--fast measures a model alone; leave out --kb")
    if model is not None and not fast:
        require_kb(model, kb)

    if fast:
        found = backends.examine(model, bars=bar)
        lines = backends.as_lines(found)
    else:
        found = doctor.diagnose(model, kb, bars=bar)
        lines = doctor.as_lines(found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else "".join(f"{line}\n" for line in lines))
    if found.get("problems"):
        raise SystemExit(FAILED)


def _record(model: str | None) -> None:
    from blink.model.folder import require_model
    from blink.model.stored_files import store_checksums

    if model is None:
        raise click.UsageError("--record needs --model: checksums of the starter come with it")
    store_checksums(require_model(model))
    click.echo(f"the checksums of {model} are stored")
