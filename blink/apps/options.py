"""Command-line options made from a settings dataclass: names, types and defaults from its fields, help from its docstring."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

TYPES: dict[str, Any] = {"int": int, "float": float, "float | None": float, "str": str, "bool": bool}
"""Annotation -> type of the option. A bool becomes a pair of flags, ``--name/--no-name``."""

_ATTRIBUTE = re.compile(r"^        (\w+): (.*(?:\n {12}.*)*)", re.MULTILINE)


def settings_options(settings: type) -> Callable[[Command], Command]:
    """A decorator that gives a command one option for each field of the dataclass ``settings``."""

    def decorate(command: Command) -> Command:
        texts = attribute_help(settings)
        for field in reversed(dataclasses.fields(settings)):
            flag = field.name.replace("_", "-")
            names = f"--{flag}/--no-{flag}" if field.type == "bool" else f"--{flag}"
            command = click.option(
                names, type=TYPES[str(field.type)], default=field.default, show_default=True, help=texts.get(field.name)
            )(command)
        return command

    return decorate


def labelled_sets(what: str) -> Callable[[Command], Command]:
    """A decorator that gives a command ``--on KB FILE``, as its argument ``sets``; ``what`` the files decide, for its help."""
    return click.option(
        "--on", "sets", nargs=2, multiple=True, required=True, metavar="KB FILE",
        help=f"A knowledge base and a labelled mention file, which {what}; may be repeated.",
    )  # fmt: skip


def take_settings(settings: type, options: MutableMapping[str, Any]) -> Any:
    """Build the dataclass from a command's options, and take its fields out of them."""
    return settings(**{f.name: options.pop(f.name) for f in dataclasses.fields(settings) if f.name in options})


def attribute_help(settings: type) -> dict[str, str]:
    """The texts of the ``Attributes:`` section of a docstring, by attribute."""
    matches = _ATTRIBUTE.finditer(settings.__doc__ or "")
    texts = {m[1]: " ".join(m[2].replace("``", "").split()) for m in matches}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}
