"""Limits of what is read from files: far above what real data has, so that a damaged or hostile file ends in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from blink.errors import DataError, SettingsError

VARIABLE = "BLINK_LIMITS"
"""Variable of the environment with limits, such as ``title=20000,line=1G``; processes that are started inherit it."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NONE, NO_LIMIT = "none", 1 << 60


@dataclass(frozen=True)
class Limit:
    """The most of something.

    Attributes:
        default: the largest value that is allowed.
        unit: what is counted.
        of: what has it, as the subject of a sentence.
    """

    default: int
    unit: str
    of: str


LIMITS: Mapping[str, Limit] = {
    "title": Limit(5_000, "characters", "the title of an entity"),
    "alias": Limit(5_000, "characters", "an alias, a type, a tag, an id or an address of an entity"),
    "description": Limit(2_000_000, "characters", "the description of an entity"),
    "values": Limit(20_000, "values", "the aliases, types, tags, ids or counts of an entity"),
    "line": Limit(32 << 20, "bytes", "a line of a text file, or a field of a table"),
    "document": Limit(1 << 30, "bytes", "a file that is read as a whole, such as JSON"),
    "json_depth": Limit(200, "levels", "brackets of JSON inside each other"),
    "settings": Limit(4 << 20, "bytes", "a file of settings in YAML"),
    "yaml_depth": Limit(50, "levels", "lists and mappings of YAML inside each other"),
    "yaml_values": Limit(100_000, "values", "a file of YAML, with what its aliases repeat"),
    "decompressed": Limit(8 << 40, "bytes", "the content of a compressed file"),
    "ratio": Limit(500, "times its size", "the content of a compressed file, behind the first 256 MiB"),
}
"""Name -> limit. ``blink --limits NAME=VALUE`` and the variable ``BLINK_LIMITS`` set others."""
RATIO_FROM = 256 << 20
"""Decompressed bytes from which the limit ``ratio`` counts: little text may be much alike."""


def limit(name: str) -> int:
    """The limit of a name in `LIMITS` that holds now.

    Raises:
        SettingsError: the variable of the environment has no limits.
    """
    return parse_limits(os.environ.get(VARIABLE, "")).get(name, LIMITS[name].default)


@lru_cache(16)
def parse_limits(text: str) -> Mapping[str, int]:
    """Limits by name, of a text such as ``title=20000,line=1G,ratio=none``.

    Raises:
        SettingsError: a name is unknown, or a value is none.
    """
    limits = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name.strip() not in LIMITS:
            raise SettingsError(f"there is no limit {name.strip()!r}; limits are {', '.join(LIMITS)}: NAME=VALUE,...")
        try:
            limits[name.strip()] = NO_LIMIT if value.strip().lower() == _NONE else parse_size(value)
        except SettingsError as error:
            raise SettingsError(
                f"the limit {part!r} has no number; give one such as {name.strip()}=20000, 64M or none"
            ) from error
    return limits


def set_limits(text: str) -> None:
    """Set limits for this process, and for those that it starts.

    Raises:
        SettingsError: a name is unknown, or a value is none.
    """
    parse_limits(text)
    os.environ[VARIABLE] = ",".join(filter(None, (os.environ.get(VARIABLE, ""), text)))


def exceeds(name: str, found: int) -> str | None:
    """What is wrong with a number above the limit of a name, and how it is lifted; None within the limit."""
    allowed = limit(name)
    if found <= allowed:
        return None
    of = LIMITS[name]
    return f"{of.of} has {found:,} {of.unit}, allowed are {allowed:,} ({lifted(name, found)})"


def exceeded(name: str) -> str:
    """The same where reading stopped at the limit, so that nobody knows the number."""
    of, allowed = LIMITS[name], limit(name)
    return f"{of.of} has more than {allowed:,} {of.unit} ({lifted(name, allowed * 4)})"


def lifted(name: str, value: int) -> str:
    """How a limit is lifted so that a value is allowed."""
    return f"if that is right, allow it with blink --limits {name}={value}, or with {VARIABLE}"


def require(name: str, found: int, where: object) -> None:
    """Require a number within the limit of a name.

    Args:
        name: of the limit.
        found: the number.
        where: the file, and perhaps its line, for the message.

    Raises:
        DataError: it is above the limit.
    """
    fault = exceeds(name, found)
    if fault is not None:
        raise DataError(f"{where}: {fault}")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``512M``, ``4G``, ``4GB`` or ``4 GiB``; units are powers of 1024.

    Raises:
        SettingsError: it is no size, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not size:
        raise SettingsError(f"{text!r} is no size of memory; give one such as 512M, 4G or 4GiB")
    return size


def format_size(size: int) -> str:
    """A size as `parse_size` reads it, rounded up, so that it is enough."""
    for unit in ("T", "G", "M", "K"):
        if size >= _UNITS[unit]:
            steps = 1 if size >= 100 * _UNITS[unit] else 10
            rounded = -(-size * steps // _UNITS[unit])
            return f"{rounded / steps:g}{unit}"
    return f"{size}B"
