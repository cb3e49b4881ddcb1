"""Command-line options made from a class of settings: name, type, default and help of each field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, TypeVar

import click

from blink.runs.fields import Section, Shape, shapes
from blink.runs.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)

MAX_CHOICES_COLUMNS = 60
"""Longer lists of choices are named by the help text of the option."""


def settings_options(
    settings: type[Section],
    *,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    bounds: bool = False,
    earlier: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """A decorator that gives a command one option for each field of ``settings``.

    A bool is ``--name/--no-name``, or where its name begins with ``no_`` a flag alone.

    Args:
        settings: the class.
        without: fields that get no option.
        defaults: other defaults than those of the fields.
        bounds: let the command line refuse whole numbers out of range, rather than the class.
        earlier: flags of earlier versions, which are taken too, by field.
    """
    fields = {name: field for name, field in settings.model_fields.items() if name not in without}

    def decorate(command: Command) -> Command:
        for name, field in reversed(fields.items()):
            shape, default, flag = shapes(settings)[name], (defaults or {}).get(name, field.default), name.replace("_", "-")
            text = (field.description or "").replace("``", "")
            command = click.option(
                f"--{flag}/--no-{flag}" if shape.kind is bool and not flag.startswith("no-") else f"--{flag}",
                *([earlier[name]] if earlier and name in earlier else []),
                name,
                type=_click_type(shape, bounds),
                is_flag=shape.kind is bool,
                default=default,
                show_default=default != "",
                metavar=_metavar(shape, flag, default),
                help=f"{text[:1].upper()}{text[1:]}",
            )(command)
        return command

    return decorate


def _click_type(shape: Shape, bounds: bool) -> Any:
    if shape.choices:
        return click.Choice(shape.choices)
    limited = bounds and shape.kind is int and shape.bounds
    return click.IntRange(shape.bounds.get("ge"), shape.bounds.get("le")) if limited else shape.kind


def _metavar(shape: Shape, flag: str, default: Any) -> str | None:
    """The name of the value in help; None for what click writes, the choices."""
    if shape.choices:
        return "NAME" if len("|".join(map(str, shape.choices))) > MAX_CHOICES_COLUMNS else None
    of_text = "FILE" if flag.endswith("-file") else "NAME" if default is None else "TEXT"
    return of_text if shape.kind is str else None


def labelled_sets(what: str) -> Callable[[Command], Command]:
    """A decorator that gives a command ``--on KB FILE``, as its argument ``sets``; ``what`` the files decide, for its help."""
    return click.option(
        "--on", "sets", nargs=2, multiple=True, required=True, metavar="KB FILE",
        help=f"A knowledge base and a labelled mention file, which {what}; may be repeated.",
    )  # fmt: skip


def take_settings(settings: type[S], options: MutableMapping[str, Any]) -> S:
    """Build the settings from a command's options, and take their fields out of them."""
    return settings(**{name: options.pop(name) for name in settings.model_fields if name in options})
