"""Parses and checks one line of a catalogue, and computes the sort keys of its ids."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from blink.data.ids import claims, id_in_system, own_id
from blink.data.records import Entity
from blink.json_text import loads
from blink.limits import exceeds, limit

LISTS = ("aliases", "types", "tags")
"""Keys of lists of strings; one string stands for a list of it."""
POPULARITY_RANGE = (-2, 7)
"""Of 7 - log10 of a rank, up to a billion."""
REMOVED_LINE = b'{"title":"","removed":true}'
"""The line of a row whose entity was removed; later rows keep their numbers."""


def parse_line(line: bytes) -> dict[str, Any]:
    """The object on a line of the catalogue.

    Raises:
        ValueError: the line is broken; the message names the fault.
    """
    value = parse_object(line)
    _check(value)
    if b"\\ud" in line or b"\\uD" in line:
        _check_encodable(value)
    return value


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line, whatever its keys; errors as of `parse_line`."""
    if not line.strip():
        raise ValueError("the line is blank")
    value = loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value


def _check(value: dict[str, Any]) -> None:
    title = value.get("title")
    if not isinstance(title, str):
        raise ValueError("no 'title'" if title is None else f"'title' is {type(title).__name__}, not text")
    if not title or title.isspace():
        raise ValueError("'title' is empty")
    text, kb_id = value.get("text"), value.get("kb_idx")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"'text' is {type(text).__name__}, not text")
    if kb_id is not None and type(kb_id) not in (str, int):
        raise ValueError(f"'kb_idx' is {type(kb_id).__name__}, neither text nor a whole number")


def _check_encodable(value: dict[str, Any]) -> None:
    """Reject lone surrogates in escapes, which are valid JSON but cannot be tokenized or printed."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair in an escape") from error


class LineLimits:
    """The limits of an entity's texts and lists, as they hold now; see `blink.limits`."""

    def __init__(self) -> None:
        self._title, self._alias, self._text = limit("title"), limit("alias"), limit("description")
        self._values = limit("values")
        self._least = min(self._title, self._alias, self._text, self._values)

    def require(self, value: dict[str, Any], size: int) -> None:
        """Require a checked line within the limits.

        Args:
            value: its object.
            size: its bytes; few bytes hold nothing long.

        Raises:
            ValueError: something is above a limit.
        """
        if size <= self._least:
            return
        if len(value["title"]) > self._title:
            raise ValueError(exceeds("title", len(value["title"])))
        if len(value.get("text") or "") > self._text:
            raise ValueError(exceeds("description", len(value["text"])))
        for key in (*LISTS, "ids", "alias_counts", "idx", "kb_idx"):
            self._require_each(value.get(key))

    def _require_each(self, content: Any) -> None:
        texts = content if isinstance(content, (list, dict)) else [content]
        if len(texts) > self._values:
            raise ValueError(exceeds("values", len(texts)))
        longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
        if isinstance(content, dict):
            longest = max([longest, *(len(of) for of in content.values() if isinstance(of, str))])
        if longest > self._alias:
            raise ValueError(exceeds("alias", longest))


def entity_from(row: int, value: dict[str, Any]) -> Entity:
    """The entity of a checked line, without the values that `unusable` names."""
    url = value.get("idx")
    return Entity(
        row=row,
        title=value["title"],
        text=(value.get("text") or "").strip(),
        kb_id=own_id(value.get("kb_idx")),
        url=url if isinstance(url, str) and url else None,
        aliases=_strings(value.get("aliases")),
        types=_labels(value.get("types")),
        tags=_labels(value.get("tags")),
        ids=_ids(value.get("ids")),
        popularity=_popularity(value["popularity"]) if "popularity" in value else None,
        name_counts=_counts(value["alias_counts"]) if "alias_counts" in value else (),
    )


def claims_from(value: dict[str, Any]) -> list[tuple[str, int]]:
    """`blink.data.ids.claims` of the entity of a checked line."""
    others = [other for _, other in _ids(value["ids"])] if value.get("ids") else ()
    return claims(own_id(value.get("kb_idx")), others)


def unusable(value: dict[str, Any]) -> list[str]:
    """The values of a checked line that its entity lacks since they are neither text nor a whole number, such as ``'types'
    holds a float``.
    """
    faults = []
    for key in LISTS:
        content = value.get(key)
        if isinstance(content, list):
            if not set(map(type, content)) <= {str}:
                faults += [f"{key!r} holds {_kind(item)}" for item in content if not _is_usable(item)]
        elif not _is_usable(content):
            faults.append(f"{key!r} is {_kind(content)}")
    ids, url = value.get("ids"), value.get("idx")
    if isinstance(ids, dict):
        faults += [f"{key!r} of 'ids' is {_kind(of)}" for key, of in ids.items() if not _is_usable(of)]
    elif ids is not None:
        faults.append(f"'ids' is {_kind(ids)}, not an object")
    if url is not None and not isinstance(url, str):
        faults.append(f"'idx' is {_kind(url)}")
    if value.get("popularity") is not None and _popularity(value["popularity"]) is None:
        lowest, highest = POPULARITY_RANGE
        faults.append(f"'popularity' is no number from {lowest} to {highest}, the scale of 7 - log10(rank)")
    return faults


def line_of(entity: Entity) -> dict[str, Any]:
    """The JSON object of an entity, without what it lacks; `entity_from` reads it."""
    values = {
        "title": entity.title,
        "text": entity.text,
        "kb_idx": entity.kb_id,
        "idx": entity.url,
        "aliases": list(entity.aliases),
        "types": list(entity.types),
        "tags": list(entity.tags),
        "ids": dict(entity.ids),
        "popularity": entity.popularity,
        "alias_counts": dict(entity.name_counts),
    }
    return {key: value for key, value in values.items() if value or value == 0.0}


def _popularity(value: Any) -> float | None:
    """A popularity on the scale of `blink.kb.popularity`; None for anything else."""
    is_valid = type(value) in (int, float) and POPULARITY_RANGE[0] <= value <= POPULARITY_RANGE[1]
    return float(value) if is_valid else None


def _counts(value: Any) -> tuple[tuple[str, int], ...]:
    """Counts by name, those that are positive whole numbers."""
    if not isinstance(value, dict):
        return ()
    return tuple((name, count) for name, count in value.items() if type(count) is int and count > 0)


_USABLE = frozenset((str, int))
"""Types of values from JSON, which have no subclasses: a truth value is no number."""


def _is_usable(value: Any) -> bool:
    return value is None or type(value) in _USABLE


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return (str(value),) if type(value) in _USABLE else ()
    return tuple(value if set(map(type, value)) <= {str} else (str(x) for x in value if type(x) in _USABLE))


def _labels(value: Any) -> tuple[str, ...]:
    """Distinct strings without blanks around them."""
    return () if value is None else tuple(dict.fromkeys(label for string in _strings(value) if (label := string.strip())))


def _ids(value: Any) -> tuple[tuple[str, str], ...]:
    """Ids by system, in normal form."""
    if not value or not isinstance(value, dict):
        return ()
    usable = ((key, id_in_system(key, of)) for key, of in value.items() if type(of) in _USABLE)
    return tuple(sorted((key, of) for key, of in usable if key and of))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "a truth value", float: "a fraction", int: "a number"}
    return names.get(type(value), type(value).__name__)


def id_sort_key(kb_id: str) -> int:
    """The sort key of an id: the number of ``Q<number>``, or a negative hash for any other form of id."""
    digits = kb_id[1:]
    if kb_id[0] == "Q" and len(digits) <= 18 and digits.isascii() and digits.isdigit() and digits[0] != "0":
        return int(digits)
    digest = hashlib.blake2b(kb_id.encode("utf-8"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "little") >> 1)
