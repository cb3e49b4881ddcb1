"""Groups of commands: help without arguments, suggestions for typing errors, and commands that are imported when called."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from blink.apps.sections import HelpContext, write_section
from blink.completion import completing

HIDDEN = ""
"""Short help of a command that help does not list: an old name, or one that only programs call."""


class HelpfulGroup(click.Group):
    """A click group that prints its help without arguments, and suggests commands for names that there are not."""

    context_class = HelpContext

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, whose help is written as the group's is."""
        cmd.context_class = HelpContext
        super().add_command(cmd, name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names.

        Raises:
            click.UsageError: there is none; the message names those that are written alike.
        """
        name = str(args[0])
        if name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"there is no command {name!r}{self._suggestion(ctx, name)}", ctx)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        names = self.list_commands(ctx)
        close = [n for n in names if name and n.startswith(name)] or difflib.get_close_matches(name.lower(), names)
        groups = {} if close else {n: c for n in names if isinstance(c := self.get_command(ctx, n), click.Group)}
        close = close or [f"{group} {name}" for group, command in groups.items() if name in command.list_commands(ctx)]
        return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(names)}"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the name of a command; without any argument, print the help and end well."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


class LazyGroup(HelpfulGroup):
    """A group with its commands in a table; a command is imported when it is called, so that help is quick.

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
        command.context_class = HelpContext
        return completing(command) if ctx.resilient_parsing else command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands with their short help, from the table, and options."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self.table[name][1]) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their short help, from the table: nothing is imported."""
        write_section(formatter, "Commands", [(name, self.table[name][1]) for name in self.list_commands(ctx)])
