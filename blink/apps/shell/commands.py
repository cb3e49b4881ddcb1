"""Colon commands: lookup, arguments, and the list that ``:help`` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from blink.errors import SettingsError
from blink.explaining.render import Fragments, wrapped
from blink.linking.scales import Scale

Owner = TypeVar("Owner")
"""What commands act on."""


@dataclass(frozen=True)
class Command(Generic[Owner]):
    """A colon command: its argument, its description, its function, and whether Tab completes names of entities in it."""

    takes: str
    does: str
    run: Callable[[Owner, str], Fragments]
    completes: bool = False


def command_named(name: str, commands: Mapping[str, Command[Owner]]) -> Command[Owner]:
    """Look a command up by its name or the beginning of it.

    Raises:
        SettingsError: none, or several, are called so.
    """
    fitting = [name] if name in commands else [command for command in commands if command.startswith(name)]
    if len(fitting) == 1:
        return commands[fitting[0]]
    raise SettingsError(f"there is no command {':' + name!r}; there are {', '.join(':' + command for command in commands)}")


def number_from(typed: str, scale: Scale) -> float:
    """A threshold of a scale as typed; ``-inf`` is one on any.

    Raises:
        SettingsError: it is no number.
    """
    with suppress(ValueError):
        number = float(typed.strip().replace("−", "-"))
        if not math.isnan(number):
            return number
    raise SettingsError(
        f"{typed.strip()!r} is not a number; give one such as {scale.example}, or {scale.everything} to see everything"
    )


def count_from(typed: str, most: int, name: str) -> int:
    """A whole number from 1 to ``most``.

    Raises:
        SettingsError: it is none.
    """
    with suppress(ValueError):
        number = int(typed)
        if 1 <= number <= most:
            return number
    fault = f"{name} is {typed!r}" if typed else f"the number of {name} is missing"
    raise SettingsError(f"{fault}; give a whole number from 1 to {most}" if most > 1 else f"{fault}; there is only 1")


def help_text(commands: Mapping[str, Command[Any]], most_candidates: int, room: int, scale: Scale) -> Fragments:
    """The inputs of the shell and the meaning of scores, in lines of at most ``room`` columns."""
    rows = [
        ("a text", "its mentions are linked (put a blank before a text that begins with a colon)"),
        ("n", "after an answer: forget it, and ask for the next text (typing a text does the same)"),
        ("c", "change the threshold; the answer is filtered again, the model does not run again"),
    ]
    rows += [(f":{name} {command.takes}".rstrip(), command.does) for name, command in commands.items()]
    rows += [
        ("Tab", "complete a command or the name of an entity"),
        ("Up, Right", "earlier texts; take the grey suggestion"),
        ("Ctrl-R", "search earlier texts, in any case"),
        ("Ctrl-C, Ctrl-D", "cancel the line, or stop the model; leave (as q, quit and exit)"),
    ]
    notes = (
        f"{scale.about.format(most_candidates)} k says only how many candidates are listed; it changes no score. "
        ":explain 2 shows what the score of link 2 is made of, and why it won; :explain Paris why those words are not linked."
    )
    lines: Fragments = []
    for key, does in rows:
        # The key fills the indent of the first line of its wrapped explanation.
        lines += [("class:key", f"  {key:<18}"), ("", wrapped(does, room, 20)[20:])]
    return [*lines, ("class:faint", "\n" + wrapped(notes, room, 2) + "\n")]
