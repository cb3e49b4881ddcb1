"""The command ``blink shell``; imports the shell when it is called."""

from __future__ import annotations

import sys
from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import FILTER_SECTION, MODEL_SECTION, RUN_SECTION, SCORE_SECTION, model_options, where_options
from blink.apps.sections import SectionedCommand

LOADING = "BLINK: opening the model; what you type is linked as soon as it is there"


@click.command(cls=SectionedCommand, sections=MODEL_SECTION | SCORE_SECTION | FILTER_SECTION | RUN_SECTION)
@where_options
@model_options
def shell(**options: Any) -> None:
    """Type texts and see their links; through a pipe, read a text per line and print a JSON object per line.

    In the shell, :help lists what can be typed.

    \b
    Examples:
      blink shell
      blink shell --kb my-kb --threshold 0.8
      echo "Did Mozart ever meet Beethoven?" | blink shell
    """
    if sys.stdin.isatty():  # at once: what follows is imported in half a second, and opened in another
        say(LOADING)
    from blink.apps.shell.run import run_shell

    run_shell(**options)
