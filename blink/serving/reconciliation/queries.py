"""Queries of the reconciliation protocol, parsed and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from blink.data.text_lines import text_fault
from blink.errors import DataError
from blink.serving.errors import TooLargeError

Strictness: TypeAlias = Literal["any", "should", "all"]
STRICTNESS: tuple[Strictness, ...] = ("any", "should", "all")
BATCH_SIZE = 100
"""Most queries of a batch, as the manifest says."""
DEFAULT_LIMIT, MAX_LIMIT = 10, 100
"""Candidates of a query, where it does not say how many, and at most."""
MAX_CHARACTERS = 10_000
"""Most characters of a name or of a value of a property."""
MAX_VALUES = 100
"""Most types, properties and values of a property of a query."""


@dataclass(frozen=True)
class PropertyValue:
    """A value that an entity is expected to have.

    Attributes:
        text: as the client writes it; of an entity its name.
        id: of an entity, where the value is one.
    """

    text: str
    id: str | None = None


@dataclass(frozen=True)
class ReconciliationQuery:
    """What a client knows of a thing.

    Attributes:
        query: its name, or an id; "" where properties alone are given.
        types: what it should be.
        strictness: ``any``: it has one of the types; ``all``: it has all of them; ``should``: they are evidence.
        limit: most candidates.
        properties: values by property, in the client's order.
    """

    query: str
    types: tuple[str, ...] = ()
    strictness: Strictness = "should"
    limit: int = DEFAULT_LIMIT
    properties: Mapping[str, tuple[PropertyValue, ...]] = field(default_factory=dict)

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a property as text."""
        return tuple(value.text for value in self.properties.get(name, ()))


@dataclass(frozen=True)
class ExtensionQuery:
    """Properties that a client asks for, of entities by id.

    Attributes:
        ids: of the entities.
        properties: ids of properties, with the most values of each; 0 for all.
    """

    ids: tuple[str, ...]
    properties: tuple[tuple[str, int], ...]


def parsed_json(text: str, what: str) -> Any:
    """JSON of a request.

    Raises:
        DataError: it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise DataError(f"{what} is not JSON ({error.msg} at character {error.pos})") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{what} is not JSON that can be read (nested too deep, or a number that is none)") from error


def query_batch(value: Any, most: int = BATCH_SIZE) -> dict[str, ReconciliationQuery]:
    """The queries of a batch by the client's keys.

    Args:
        value: an object of query objects.
        most: queries at most.

    Raises:
        DataError: it is no batch, or a query is malformed; the message names it.
        TooLargeError: there are too many.
    """
    if not isinstance(value, dict):
        raise DataError(f"queries is {_kind(value)}; give an object with a query for each key")
    if len(value) > most:
        raise TooLargeError(f"the batch has {len(value):,} queries; send at most {most}, the batchSize of the manifest")
    return {_checked(key, "a key"): reconciliation_query(query, f"query {key[:60]!r}") for key, query in value.items()}


def single_query(text: str) -> ReconciliationQuery:
    """The query of a client of the time before batches: a name, or a query object as JSON; raises as `query_batch` does."""
    if text.lstrip()[:1] != "{":
        return reconciliation_query({"query": text}, "the query")
    return reconciliation_query(parsed_json(text, "the query"), "the query")


def reconciliation_query(value: Any, where: str) -> ReconciliationQuery:
    """A query object; ``where`` is what messages call it. Keys of other versions of the protocol are ignored.

    Raises:
        DataError: it is malformed.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_kind(value)}; give an object with query, or properties")
    name = value.get("query")
    if name is not None and not isinstance(name, str):
        raise DataError(f"{where}: query is {_kind(name)}; give text")
    name = " ".join(_checked(name or "", f"{where}: query").split())
    properties = _properties(value.get("properties"), where)
    if not name and not properties:
        raise DataError(f"{where} has neither a query nor properties; give one of them")
    strictness = value.get("type_strict", "should")
    if strictness not in STRICTNESS:
        raise DataError(f"{where}: type_strict is {str(strictness)[:60]!r}; allowed are {', '.join(STRICTNESS)}")
    types = _types(value.get("type"), where)
    return ReconciliationQuery(name, types, cast(Strictness, strictness), _limit(value.get("limit"), where), properties)


def extension_query(value: Any, most: int) -> ExtensionQuery:
    """A request for values of properties.

    Args:
        value: an object with ``ids`` and ``properties``.
        most: ids at most.

    Raises:
        DataError: it is malformed.
        TooLargeError: it asks for too many.
    """
    if not isinstance(value, dict) or not isinstance(value.get("ids"), list) or not isinstance(value.get("properties"), list):
        raise DataError("extend is no object with lists of ids and properties; give both")
    if len(value["ids"]) > most or len(value["properties"]) > MAX_VALUES:
        raise TooLargeError(f"extend asks for too much; give at most {most} ids and {MAX_VALUES} properties")
    ids = [_text(item, "extend: an id") for item in value["ids"]]
    properties = []
    for item in value["properties"]:
        if not isinstance(item, dict):
            raise DataError(f"extend: a property is {_kind(item)}; give an object with its id")
        settings = item.get("settings")
        limit = settings.get("limit", 0) if isinstance(settings, dict) else 0
        properties.append((_text(item.get("id"), "extend: the id of a property"), _whole(limit, "extend: the limit", 0)))
    return ExtensionQuery(tuple(dict.fromkeys(ids)), tuple(dict(properties).items()))


# -- the fields of a query -------------------------------------------------------------------------------------------


def _properties(value: Any, where: str) -> dict[str, tuple[PropertyValue, ...]]:
    if value is None:
        return {}
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise DataError(f"{where}: properties is {_kind(value)}; give a list of at most {MAX_VALUES} objects with pid and v")
    properties: dict[str, tuple[PropertyValue, ...]] = {}
    for item in value:
        if not isinstance(item, dict) or "pid" not in item or "v" not in item:
            raise DataError(f"{where}: a property is {_kind(item)} without pid or v; give both")
        pid, values = _text(item["pid"], f"{where}: pid"), item["v"]
        values = values if isinstance(values, list) else [values]
        if len(values) > MAX_VALUES:
            raise DataError(f"{where}: {pid[:60]!r} has {len(values):,} values; give at most {MAX_VALUES}")
        new = [_property_value(each, f"{where}: {pid[:60]!r}") for each in values]
        properties[pid] = (*properties.get(pid, ()), *(each for each in new if each.text or each.id))
    return {pid: values for pid, values in properties.items() if values}


def _property_value(value: Any, where: str) -> PropertyValue:
    if isinstance(value, dict):
        kb_id, name = value.get("id"), value.get("name")
        if not isinstance(kb_id, str) or not isinstance(name, str | None):
            raise DataError(f"{where} has an object without id; give an id, and a name if there is one")
        return PropertyValue(_checked(name or kb_id, where).strip(), _checked(kb_id, where))
    if value is None:
        return PropertyValue("")
    if isinstance(value, bool):
        return PropertyValue("true" if value else "false")
    if not isinstance(value, str | int | float):
        raise DataError(f"{where} is {_kind(value)}; give text, a number, a truth value, or an object with id")
    try:
        return PropertyValue(_checked(str(value), where).strip())
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where} is a number too long to be read") from error


def _types(value: Any, where: str) -> tuple[str, ...]:
    items = [] if value is None or value == "" else value if isinstance(value, list) else [value]
    if len(items) > MAX_VALUES:
        raise DataError(f"{where} has {len(items):,} types; give at most {MAX_VALUES}")
    ids = [item.get("id") if isinstance(item, dict) else item for item in items]
    return tuple(dict.fromkeys(_text(item, f"{where}: a type") for item in ids))


def _limit(value: Any, where: str) -> int:
    return DEFAULT_LIMIT if value is None else min(_whole(value, f"{where}: limit", 1), MAX_LIMIT)


def _whole(value: Any, where: str, least: int) -> int:
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= least and value == value // 1
    if not is_whole or value == float("inf"):
        raise DataError(f"{where} is {_kind(value)}; give a whole number from {least}")
    return int(min(value, 1 << 31))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} is {_kind(value)}; give text")
    return _checked(value, where).strip()


def _checked(text: str, where: str) -> str:
    if (fault := text_fault(text)) is not None:
        raise DataError(f"{where} has {fault}; give well-formed text")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"{where} has {len(text):,} characters; give at most {MAX_CHARACTERS:,}")
    return text


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "a truth value", str: "text", type(None): "missing"}
    if type(value) in (int, float):
        return f"a number ({value:.6g})" if abs(value) < 1e300 else "a number out of range"
    return "empty text" if value == "" else names.get(type(value), type(value).__name__)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
