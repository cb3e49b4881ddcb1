"""Filters: conditions on the types, tags and ids of entities, as people write them.

===========================  ============================================================================================
``type=city``                entities of this type; values are compared without case
``type=city|town``           of one of these types
``type!=person``             of none of these
``tag=internal & type=city``  all conditions hold
``system=freebase``          entities with an id of this system
``id=Q60|freebase:m.02_286``  entities with one of these ids, in any form
``row=17``                   row 17
===========================  ============================================================================================

A value with ``&``, ``|`` or quotes' meaning stands in double quotes: ``type="rock & roll"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from blink.data.ids import ROW, look_up_form, look_up_forms
from blink.data.records import Entity
from blink.data.text_lines import read_lines, text_fault
from blink.errors import DataError, SettingsError
from blink.kb.attribute_table import ATTRIBUTES, attributes_of, folded

ID = "id"
NAMES = (*ATTRIBUTES, ID, ROW)
"""What a condition is about."""
_PLURALS = {f"{name}s": name for name in NAMES} | {"kb_id": ID, "kb_idx": ID}
_VALUE = r'\s*(?:"[^"]*"|[^"|&]*)\s*'
_CONDITION = re.compile(rf"\s*(?P<name>[^\s=!&|]+)\s*(?P<operator>!=|=)(?P<values>{_VALUE}(?:\|{_VALUE})*)")
_GRAMMAR = "write type=city, type!=person or type=city|town, with & between several"
_LONGEST_SHOWN = 3


@dataclass(frozen=True)
class Condition:
    """A condition on an entity.

    Attributes:
        name: what it is about, of `NAMES`.
        values: of which an entity must have one; ids in the form of `look_up_form`, others case-folded.
        negated: it must have none instead.
        file: list that the values are from; of which some may be of no entity.
    """

    name: str
    values: frozenset[str]
    negated: bool = False
    file: str = ""

    @classmethod
    def of(cls, name: str, values: Iterable[Any], *, negated: bool = False, file: str = "") -> Condition:
        """A condition on values as people write them.

        Raises:
            SettingsError: there is no such attribute, or a value is none.
        """
        name = name.casefold().strip()
        name = _PLURALS.get(name, name)
        if name not in NAMES:
            raise SettingsError(f"entities have no {name!r} to filter by; allowed are {', '.join(NAMES)}")
        normal = frozenset(_normal_value(name, value) for value in values)
        if not normal:
            raise SettingsError(f"the filter {name}{'!=' if negated else '='} has no value; {_GRAMMAR}")
        return cls(name, normal, negated, file)

    def matches(self, entity: Entity) -> bool:
        """Whether an entity fulfils it."""
        return self.has_value(entity) != self.negated

    def has_value(self, entity: Entity) -> bool:
        """Whether an entity has one of the values."""
        if self.name == ROW:
            return str(entity.row) in self.values
        if self.name == ID:
            return not self.values.isdisjoint((*look_up_forms(entity), f"{ROW}:{entity.row}"))
        return any(name == self.name and folded(value) in self.values for name, value in attributes_of(entity))

    def __str__(self) -> str:
        if self.file:
            return f"{'not ' if self.negated else ''}in {self.file}"
        shown = sorted(self.values)[:_LONGEST_SHOWN] + (["..."] if len(self.values) > _LONGEST_SHOWN else [])
        return f"{self.name}{'!=' if self.negated else '='}{'|'.join(shown)}"


@dataclass(frozen=True)
class Where:
    """Conditions that all hold; of none every entity is allowed."""

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, where: WhereLike) -> Where:
        """The conditions of an expression, of several, or of a mapping such as ``{"type": ["city", "town"], "tag!": "old"}``.

        Raises:
            SettingsError: an expression cannot be read, or names something that entities do not have.
        """
        if where is None:
            return cls()
        if isinstance(where, Where):
            return where
        if isinstance(where, str):
            return cls(tuple(_parsed(where)))
        if isinstance(where, Mapping):
            return cls(tuple(_of_pair(name, values) for name, values in where.items()))
        if isinstance(where, Iterable):
            return cls(tuple(condition for each in where for condition in cls.parse(each).conditions))
        raise SettingsError(f"a filter is {type(where).__name__}; {_GRAMMAR}, or give an object")

    @classmethod
    def of_files(cls, allow: Iterable[str | Path] = (), deny: Iterable[str | Path] = ()) -> Where:
        """Conditions from lists of ids, one a line: entities of each list of ``allow``, and of none of ``deny``.

        What stands behind a tab is left out, and so are blank lines and those that begin with ``#``. ``row:17`` is row 17.

        Raises:
            MissingFileError: there is no such file.
            DataError: it has no ids.
        """
        files = [(file, False) for file in allow] + [(file, True) for file in deny]
        return cls(tuple(Condition.of(ID, _listed(file), negated=negated, file=str(file)) for file, negated in files))

    def __and__(self, other: Where) -> Where:
        """Conditions of both."""
        return Where(tuple(dict.fromkeys((*self.conditions, *other.conditions))))

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def matches(self, entity: Entity) -> bool:
        """Whether an entity fulfils all conditions; an empty row never does."""
        return bool(entity.title) and all(condition.matches(entity) for condition in self.conditions)

    @cached_property
    def _hash(self) -> int:
        return hash(self.conditions)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return " & ".join(map(str, self.conditions))


def where_from(
    where: WhereLike = None, allow: Iterable[str | Path] | None = None, deny: Iterable[str | Path] | None = None
) -> Where:
    """The conditions of expressions and of files of ids, all together. Raises as `Where.parse` and `Where.of_files` do."""
    return Where.parse(where) & Where.of_files(allow or (), deny or ())


WhereLike: TypeAlias = "str | Mapping[str, Any] | Iterable[Any] | Where | None"
"""A filter as callers give it: see `Where.parse`."""


def _parsed(text: str) -> Iterable[Condition]:
    at, end = 0, len(text.rstrip())
    while at < end or not at:
        match = _CONDITION.match(text, at)
        if match is None or (match.end() < end and text[match.end()] != "&"):
            raise SettingsError(f"the filter {text!r} cannot be read at {text[at:].strip()[:30]!r}; {_GRAMMAR}")
        values = [value.strip() for value in re.findall(_VALUE, match["values"]) if value.strip()]
        values = [value[1:-1] if value.startswith('"') else value for value in values]
        yield Condition.of(match["name"], values, negated=match["operator"] == "!=")
        at = match.end() + 1
        if at == end:  # behind the last &
            raise SettingsError(f"the filter {text!r} ends with &; {_GRAMMAR}")


def _of_pair(name: Any, values: Any) -> Condition:
    if not isinstance(name, str):
        raise SettingsError(f"a filter has the key {name!r}; allowed are {', '.join(NAMES)}, with ! behind them for none of")
    of_name = [values] if isinstance(values, str | int) or not isinstance(values, Iterable) else values
    return Condition.of(name.rstrip("=").rstrip("!"), of_name, negated=name.rstrip("=").endswith("!"))


def _normal_value(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SettingsError(f"a value of the filter {name} is {type(value).__name__}; give text or a whole number")
    text = str(value).strip()
    if not text:
        raise SettingsError(f"a value of the filter {name} is empty; {_GRAMMAR}")
    if (fault := text_fault(text)) is not None:
        raise SettingsError(f"a value of the filter {name} has {fault}; give well-formed text")
    if name == ROW and not (text.isascii() and text.isdigit()):
        raise SettingsError(f"{text!r} is no row; rows are whole numbers from 0")
    return str(int(text)) if name == ROW else look_up_form(text) if name == ID else folded(text)


def _listed(file: str | Path) -> list[str]:
    lines = (line.partition("\t")[0].strip() for line in read_lines(str(file)))
    listed = [line for line in lines if line and not line.startswith("#")]
    if not listed:
        raise DataError(f"{file} holds no ids; give one a line, such as Q60, or row:17")
    return listed
