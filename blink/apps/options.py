"""Command-line options made from a class of settings: name, type, default and help of each field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo

from blink.runs.settings import Section, Settings, field_bounds, field_choices, field_type

Command = TypeVar("Command", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)


def settings_options(
    settings: type[Section],
    *,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    bounds: bool = False,
) -> Callable[[Command], Command]:
    """A decorator that gives a command one option for each field of ``settings``.

    A bool is ``--name/--no-name``, or where its name begins with ``no_`` a flag alone.

    Args:
        settings: the class.
        without: fields that get no option.
        defaults: other defaults than those of the fields.
        bounds: let the command line refuse whole numbers out of range, rather than the class.
    """
    fields = {name: field for name, field in settings.model_fields.items() if name not in without}

    def decorate(command: Command) -> Command:
        for name, field in reversed(fields.items()):
            default, kind, flag = (defaults or {}).get(name, field.default), _click_type(field, bounds), name.replace("_", "-")
            text = field.description or ""
            command = click.option(
                f"--{flag}/--no-{flag}" if kind is bool and not flag.startswith("no-") else f"--{flag}",
                type=kind,
                is_flag=kind is bool,
                default=default,
                show_default=True,
                metavar={int: "N", str: "FILE" if flag.endswith("-file") else "NAME"}.get(kind) if default is None else None,
                help=f"{text[:1].upper()}{text[1:]}",
            )(command)
        return command

    return decorate


def _click_type(field: FieldInfo, bounds: bool) -> Any:
    choices, kind = field_choices(field), field_type(field)
    limits = field_bounds(field) if bounds and kind is int else {}
    return click.Choice(choices) if choices else click.IntRange(limits.get("ge"), limits.get("le")) if limits else kind


def labelled_sets(what: str) -> Callable[[Command], Command]:
    """A decorator that gives a command ``--on KB FILE``, as its argument ``sets``; ``what`` the files decide, for its help."""
    return click.option(
        "--on", "sets", nargs=2, multiple=True, required=True, metavar="KB FILE",
        help=f"A knowledge base and a labelled mention file, which {what}; may be repeated.",
    )  # fmt: skip


def take_settings(settings: type[S], options: MutableMapping[str, Any]) -> S:
    """Build the settings from a command's options, and take their fields out of them."""
    return settings(**{name: options.pop(name) for name in settings.model_fields if name in options})
