"""How help looks: options in sections, the most used first, and examples that fit the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

Sections = Mapping[str, Sequence[str]]
"""Title of a section -> names of its options, in the order of the help."""

REST = "Other options"
VERBATIM = "\b\n"
"""Start of a paragraph whose lines click keeps."""
MAX_KEY_COLUMNS = 26
"""Longer names of options have their text on the next line."""
_NUMBERS = re.compile(r"\b(INTEGER|FLOAT)( RANGE)?\b")
_ARGUMENTS = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")


class HelpFormatter(click.HelpFormatter):
    """Formats help; example commands that are wider than the terminal continue on the next line, as a shell reads them."""

    def write_text(self, text: str) -> None:
        """Write paragraphs; those of `VERBATIM` keep their lines."""
        room = self.width - self.current_indent
        paragraphs = text.split("\n\n")
        super().write_text("\n\n".join(_continued(p, room) if p.startswith(VERBATIM) else p for p in paragraphs))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = MAX_KEY_COLUMNS, col_spacing: int = 2) -> None:
        """Write terms with their texts in a second column; click's long names of numbers are N and X."""
        super().write_dl([(_NUMBERS.sub(_short_name, term), text) for term, text in rows], col_max, col_spacing)


class HelpContext(click.Context):
    """A context whose help is written by `HelpFormatter`."""

    formatter_class = HelpFormatter


class PassingCommand(click.Command):
    """A command that passes unknown options on: an existing file whose name begins with a dash is not read as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        named = [f"./{a}" if a[:1] == "-" != a[1:2] and len(a) > 2 and Path(a).exists() else a for a in args]
        return super().parse_args(ctx, named)


class SectionedCommand(click.Command):
    """A click command whose help shows its options in sections.

    Args:
        sections: the sections, in order; options of none of them follow under `REST`, together with ``--help``.
    """

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        # Several flags may set one option, such as --keep-edits and --discard-edits.
        records = [(str(p.name), record) for p in _options(self, ctx) if (record := p.get_help_record(ctx)) is not None]
        for title, names in self.sections.items():
            write_section(formatter, title, [record for name in names for of, record in records if of == name])
        listed = {name for names in self.sections.values() for name in names}
        write_section(formatter, REST, [record for name, record in records if name not in listed])


def _options(command: click.Command, context: click.Context) -> list[click.Parameter]:
    return [p for p in command.get_params(context) if isinstance(p, click.Option)]


def write_section(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Write a section of help, unless it is empty."""
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _short_name(number: re.Match[str]) -> str:
    return "N" if number[1] == "INTEGER" else "X"


def _continued(paragraph: str, room: int) -> str:
    return "\n".join(line if len(line) <= room else _continued_line(line, room) for line in paragraph.split("\n"))


def _continued_line(line: str, room: int) -> str:
    """A command in lines of at most ``room`` columns where its arguments allow it; options stay with their values."""
    indent = line[: len(line) - len(line.lstrip())]
    groups: list[str] = []
    for argument in _ARGUMENTS.findall(line):
        # An option's value, or a part after a pipe, stays on the line of what is before it.
        joined = groups and not argument.startswith(("-", "|")) and groups[-1].split()[-1].startswith(("-", "|"))
        groups[-1:] = [f"{groups[-1]} {argument}"] if joined else [*groups[-1:], argument]
    lines = [indent + groups[0]]
    for group in groups[1:]:
        if len(lines[-1]) + 1 + len(group) + len(" \\") <= room:
            lines[-1] += f" {group}"
        else:
            lines.append(f"{indent}  {group}")
    return " \\\n".join(lines)
