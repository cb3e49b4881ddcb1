"""The command ``blink shell``; imports the shell when it is called."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.model_options import model_options


@click.command()
@model_options
def shell(**options: Any) -> None:
    """Type texts and see their links; through a pipe, read a text per line and print a JSON object per line."""
    from blink.apps.shell.run import run_shell

    run_shell(**options)
