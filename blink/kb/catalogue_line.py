"""Parses and checks one line of a catalogue, and computes the sort key of its id."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from blink.data.records import Entity


def parse_line(line: bytes) -> dict[str, Any]:
    """The object on a line of the catalogue.

    Raises:
        ValueError: the line is broken; the message names the fault.
    """
    if not line.strip():
        raise ValueError("the line is blank")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    except (RecursionError, ValueError) as error:  # brackets too deep, or a number of thousands of digits
        raise ValueError("not JSON that can be read (nested too deep, or a number too long)") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    _check(value)
    if b"\\ud" in line or b"\\uD" in line:
        _check_encodable(value)
    return value


def _check(value: dict[str, Any]) -> None:
    title = value.get("title")
    if not isinstance(title, str):
        raise ValueError("no 'title'" if title is None else f"'title' is {type(title).__name__}, not text")
    if not title or title.isspace():
        raise ValueError("'title' is empty")
    for key in ("text", "kb_idx"):
        content = value.get(key)
        if content is not None and not isinstance(content, str):
            raise ValueError(f"{key!r} is {type(content).__name__}, not text")


def _check_encodable(value: dict[str, Any]) -> None:
    """Reject lone surrogates in escapes, which are valid JSON but cannot be tokenized or printed."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair in an escape") from error


def entity_from(row: int, value: dict[str, Any]) -> Entity:
    """The entity of a checked line; an address or aliases of another type are dropped."""
    url, aliases = value.get("idx"), value.get("aliases")
    valid = isinstance(aliases, list) and set(map(type, aliases)) <= {str}  # a value from JSON has no subclass of str
    return Entity(
        row=row,
        title=value["title"],
        text=(value.get("text") or "").strip(),
        kb_id=value.get("kb_idx") or None,
        url=url if isinstance(url, str) and url else None,
        aliases=tuple(aliases) if isinstance(aliases, list) and valid else (),
    )


def id_sort_key(kb_id: str) -> int:
    """The sort key of an id: the number of ``Q<number>``, or a negative hash for any other form of id."""
    digits = kb_id[1:]
    if kb_id[0] == "Q" and len(digits) <= 18 and digits.isascii() and digits.isdigit() and digits[0] != "0":
        return int(digits)
    digest = hashlib.blake2b(kb_id.encode("utf-8"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "little") >> 1)
