"""What Tab completes: commands, and names of entities."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from blink.apps.shell.commands import Command
from blink.data.records import Entity
from blink.kb.alias_table import without_brackets

Name = tuple[str, str, str]
"""An entity for completion: folded name, name, title."""
Ending = tuple[str, str, str]
"""The replaced end of the line, the replacement, and a note."""


def names_of(entities: Iterable[Entity]) -> list[Name]:
    """Titles, without a final part in brackets, and aliases; sorted for `completions`."""
    names = set()
    for entity in entities:
        names |= {(name.casefold(), name, entity.title) for name in (without_brackets(entity.title), *entity.aliases)}
    return sorted(names)


def completions(line: str, names: list[Name], commands: Mapping[str, Command[Any]], most: int = 30) -> list[Ending]:
    """Completions of the end of ``line``: commands after a colon, else names of entities, in a text or behind a command."""
    named, _, argument = line[1:].partition(" ")
    if line.startswith(":") and not (argument and any(c.completes for name, c in commands.items() if name.startswith(named))):
        return [(line, f":{name}", command.does) for name, command in commands.items() if name.startswith(line[1:])]
    starts = [i for i, c in enumerate(line) if not c.isspace() and (i == 0 or line[i - 1].isspace())]
    matches: dict[str, Ending] = {}
    for start in starts[-4:]:  # the longest ending first
        typed = line[start:]
        folded = typed.casefold()
        if len(folded) < 2:
            continue
        for at in range(bisect_left(names, (folded,)), len(names)):
            key, name, title = names[at]
            if not key.startswith(folded) or len(matches) >= most:
                break
            matches.setdefault(name, (typed, name, title if title != name else ""))
    return list(matches.values())
