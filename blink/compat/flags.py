"""Tables of flags: a command line of an original, or the attributes by which its callers from Python give the same."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from blink.errors import SettingsError


def number(text: str) -> float:
    """A number, infinities included."""
    value = float(text)
    if math.isnan(value):
        raise ValueError(text)
    return value


def probability(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability; give a number from 0 to 1")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; give at least 1")
    return value


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        names: its spellings; the first long one names the value.
        releases: which releases have it.
        help: its description.
        kind: type of its value; None for a switch.
        default: value where it is not given; None also says "not given".
        choices: allowed values, any if empty.
    """

    names: tuple[str, ...]
    releases: str
    help: str
    kind: Callable[[str], Any] | None = str
    default: Any = None
    choices: tuple[str, ...] = ()

    def attribute(self, arguments: object) -> tuple[str, Any]:
        """The value of an object's attribute of that name, or of one of its other names; the default where it has none.

        Returns:
            the name that the parsed command line has, and the value.

        Raises:
            SettingsError: the value is not allowed.
        """
        names = [name.removeprefix("--") for name in self.names if name.startswith("--")]
        attribute = next((name for name in reversed(names) if getattr(arguments, name, None) is not None), None)
        if attribute is None:
            return names[0], False if self.kind is None else self.default
        value = getattr(arguments, attribute)
        if self.kind is None:
            return names[0], bool(value)
        try:
            value = self.kind(str(value))
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise SettingsError(f"args.{attribute} is {value!r}; {error}") from error
        if self.choices and value not in self.choices:
            raise SettingsError(f"args.{attribute} is {value!r}; allowed are {', '.join(self.choices)}")
        return names[0], value


@dataclass(frozen=True)
class FlagTable:
    """All flags of a program.

    Attributes:
        program: its name.
        description: of the program.
        flags: the flags.
    """

    program: str
    description: str
    flags: tuple[Flag, ...]

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line.

        Raises:
            click.UsageError: a flag is unknown or its value not allowed.
        """
        parser = _Parser(prog=self.program, description=self.description, allow_abbrev=False)
        for flag in self.flags:
            text = f"{flag.help} ({flag.releases})".replace("%", "%%")
            if flag.kind is None:
                parser.add_argument(*flag.names, action="store_true", help=text)
            else:
                choices = flag.choices or None
                parser.add_argument(*flag.names, type=flag.kind, default=flag.default, choices=choices, help=text)
        return parser.parse_args(self.join_numbers(arguments))

    def join_numbers(self, arguments: Sequence[str]) -> list[str]:
        """Join ``--flag -inf`` to ``--flag=-inf``: argparse takes a value that begins with a dash for flags."""
        long_flags = {name for flag in self.flags if flag.kind is not None for name in flag.names}
        joined: list[str] = []
        for argument in arguments:
            if argument.startswith("-") and _is_number(argument) and joined and joined[-1] in long_flags:
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        return joined

    def from_attributes(self, arguments: object) -> argparse.Namespace:
        """The values of all flags from the attributes of an object.

        Raises:
            SettingsError: a value is not allowed.
        """
        return argparse.Namespace(**dict(flag.attribute(arguments) for flag in self.flags))


def require(options: object, *names: str) -> None:
    """Check that the paths of files are set.

    Raises:
        SettingsError: one is not.
    """
    missing = next((name for name in names if getattr(options, name, None) is None), None)
    if missing is not None:
        raise SettingsError(f"args.{missing} is not set; give the path of that file, as in the original's README")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise click.UsageError(f"{message} (see: {self.prog} --help)")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
