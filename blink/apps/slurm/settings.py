"""``blink slurm settings``: settings and their sources."""

from __future__ import annotations

import shlex
import sys

import click

from blink.apps.common import one_line
from blink.cluster.script import sbatch_variables
from blink.cluster.settings import FLAG_KINDS, ClusterSettings, load_settings


@click.command()
@click.option("--settings", "settings_file", metavar="FILE", help="Settings of the cluster.  [default: see blink slurm --help]")
@click.option("--export", is_flag=True, help="Print lines for a shell that make any sbatch follow the settings.")
def settings(settings_file: str | None, export: bool) -> None:
    """Print each setting of the cluster, its value, and its source.

    \b
    Example:
      eval "$(blink slurm settings --export)"; sbatch examples/train_biencoder.sh ...
    """
    _print(load_settings(file=settings_file), export)


def _print(settings: ClusterSettings, export: bool) -> None:
    if export:
        sys.stdout.writelines(f"export {name}={shlex.quote(text)}\n" for name, text in sbatch_variables(settings.slurm).items())
        return
    rows = [(section, *row) for section in ("slurm", "paths") for row in getattr(settings, section).to_dict().items()]
    rows += [(section, name, text) for section in ("data", "sizes") for name, text in getattr(settings, section).items()]
    rows += [("flags", kind, settings.flags.get(kind, "")) for kind in FLAG_KINDS]
    for section, name, value in rows:
        text = "-" if value in (None, "") else one_line(str(value))
        sys.stdout.write(f"{section}.{name:<14} {text:<28} {settings.origin(f'{section}.{name}')}\n")
