"""A group of commands that are imported when they are called, so that help is quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

HIDDEN = ""
"""Short help of a command that help does not list: an old name, or one that only programs call."""


class LazyGroup(click.Group):
    """A click group with its commands in a table.

    Without arguments it prints its help.

    Args:
        table: name of each command, in the order of the help, with where it is (``"module:attribute"``) and its short help.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names that help lists."""
        return [name for name, (_, text) in self.table.items() if text != HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their short help, from the table: nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the name of a command; without any argument, print the help and end well."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)
