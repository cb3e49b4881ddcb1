"""Items of Wikidata's JSON dump: a line of the dump to what a knowledge base keeps of it.

Most items of the real dump have few pages or none, and are left out. Their lines are not parsed: an upper bound of the number
of pages is that of a key, and the label, which other items may need for a type, is read from the head of the line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from blink.dumps.mapping import BROKEN, RECORDS, Mapped
from blink.dumps.properties import Properties
from blink.extras import require_extra

ITEMS, NEEDED, LABEL_IDS, LABELS, SUBCLASSES, PROPERTY_LABELS = (
    "items.jsonl", "needed.u64", "label_ids.u64", "labels.txt", "subclasses.u64", "property_labels.tsv",
)  # fmt: skip
"""Streams: items that may be kept; items whose labels these need; labels; subclass and class; labels of properties."""
INSTANCE_OF, SUBCLASS_OF = "P31", "P279"
SITELINKS = "sitelinks:"
"""Prefix of the counts of items by their number of pages."""
FEW_SITELINKS, NO_LABEL, NOT_ITEMS, EXAMINED = "too few sitelinks", "no label", "not items", "items"
YEAR_PRECISION = 9
"""Of dates that are known to the year, or better."""
_HEAD = re.compile(rb'\{"type":"item","id":"Q(\d{1,15})","labels":(?=\{|\[\])')
_SITE, _SUBCLASS_OF = b'"site"', b'"P279"'
_MAX_DIGITS = 15
_YEAR = re.compile(r"([+-])0*(\d+)-")


def require_orjson() -> Any:
    """The library orjson.

    Raises:
        SettingsError: it is not installed.
    """
    return require_extra("orjson", "dumps", "dumps")


@dataclass(frozen=True)
class ItemMapper:
    """Maps lines of the dump.

    Attributes:
        languages: of labels, best first; aliases are of all, descriptions of the first that has one.
        min_sitelinks: fewest pages, in all projects, of an item that is kept.
        properties: what is read of claims.
    """

    languages: tuple[str, ...]
    min_sitelinks: int
    properties: Properties
    separator: bytes = b"\n"
    record: str = "line"
    streams: tuple[str, ...] = (ITEMS, NEEDED, LABEL_IDS, LABELS, SUBCLASSES, PROPERTY_LABELS)

    def __call__(self, text: bytes) -> Mapped:
        """Map whole lines."""
        lines = text.split(b"\n")
        mapped = _MappedItems(self)
        for line in lines if lines[-1] else lines[:-1]:
            mapped.add(line)
        return mapped.mapped()


class _MappedItems:
    """What came of some lines so far."""

    def __init__(self, mapper: ItemMapper) -> None:
        orjson = require_orjson()
        self._loads, self._dumps = orjson.loads, orjson.dumps
        self._mapper, self._counts = mapper, Counter[str]()
        self._problems: list[tuple[int, str]] = []
        self._items: list[bytes] = []
        self._needed: set[int] = set()
        self._label_ids: list[int] = []
        self._labels: list[str] = []
        self._subclasses: list[int] = []
        self._property_labels: list[str] = []
        self._label_starts = [f'"{code}":{{"language":"{code}","value":"'.encode() for code in mapper.languages]

    def add(self, line: bytes) -> None:
        """Map a line."""
        self._counts[RECORDS] += 1
        line = line.strip(b" \t\r,")
        if line in (b"", b"[", b"]"):
            return
        if line.count(_SITE) < self._mapper.min_sitelinks and _SUBCLASS_OF not in line and self._skip(line):
            return
        try:
            value = self._loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"expected a JSON object, found {type(value).__name__}")
            self._add_value(value)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self._counts[BROKEN] += 1
            what = str(error) if isinstance(error, ValueError) else f"no item of Wikidata ({type(error).__name__}: {error})"
            self._problems.append((self._counts[RECORDS] - 1, f"{what}, in {line[:40].decode(errors='replace')!r}"))

    def mapped(self) -> Mapped:
        """All of it."""
        contents = {
            ITEMS: b"".join(self._items),
            NEEDED: _packed(sorted(self._needed)),
            LABEL_IDS: _packed(self._label_ids),
            LABELS: "".join(f"{label}\n" for label in self._labels).encode(),
            SUBCLASSES: _packed(self._subclasses),
            PROPERTY_LABELS: "".join(self._property_labels).encode(),
        }
        return Mapped(contents, self._counts, self._problems)

    def _skip(self, line: bytes) -> bool:
        """Note the label of an item that is not kept, without parsing its line; False where that is not possible."""
        head = _HEAD.match(line)
        end = line.find(b',"descriptions":', head.end()) if head is not None else -1
        if head is None or end == -1 or not line.endswith(b"}"):
            return False
        for start in self._label_starts:
            begin = line.find(start, head.end(), end)
            if begin != -1:
                label = _STRING.match(line, begin + len(start) - 1)
                if label is None:
                    return False
                try:
                    self._add_label(int(head[1]), self._loads(label[0]))
                except ValueError:
                    return False
                break
        self._counts[f"{SITELINKS}{line.count(_SITE)}"] += 1
        self._counts[EXAMINED] += 1
        self._counts[FEW_SITELINKS] += 1
        return True

    def _add_value(self, value: dict[str, Any]) -> None:
        labels = self._in_language(value["labels"] or {})
        if value["type"] != "item":
            if value["type"] == "property" and labels:
                self._property_labels.append(f"{value['id']}\t{' '.join(labels.split())}\n")
            self._counts[NOT_ITEMS] += 1
            return
        number, title, sitelinks, claims = _number(value["id"]), labels, value.get("sitelinks") or {}, value.get("claims") or {}
        is_popular = len(sitelinks) >= self._mapper.min_sitelinks
        record = self._item(number, title, value, claims, sitelinks) if title and is_popular else None
        parents = _items_of(claims.get(SUBCLASS_OF))
        # Nothing below fails, so that a broken item leaves nothing behind.
        for parent in parents:
            self._subclasses += (number, parent)
        if title:
            self._add_label(number, title)
        self._counts[EXAMINED] += 1
        self._counts[f"{SITELINKS}{len(sitelinks)}"] += 1
        if record is not None:
            self._items.append(self._dumps(record) + b"\n")
            self._needed.update(record["types"], (target for _, target in record["facts"]))
        else:
            self._counts[NO_LABEL if is_popular else FEW_SITELINKS] += 1

    def _item(
        self, number: int, title: str, value: dict[str, Any], claims: Mapping[str, Any], sitelinks: Mapping[str, Any]
    ) -> dict[str, Any]:
        mapper, properties = self._mapper, self._mapper.properties
        page = (sitelinks.get(f"{mapper.languages[0].replace('-', '_')}wiki") or {}).get("title") or ""
        aliases = value.get("aliases") or {}
        of_ids = {system: _strings_of(claims[name]) for name, system in properties.ids.items() if name in claims}
        of_years = {name: _year_of(claims[name]) for name in properties.years if name in claims}
        return {
            "q": number,
            "title": title,
            "text": self._in_language(value.get("descriptions") or {}),
            "aliases": [alias["value"] for code in mapper.languages for alias in aliases.get(code) or ()],
            "types": _items_of(claims.get(INSTANCE_OF)),
            "facts": [(name, target) for name in properties.relations if name in claims for target in _items_of(claims[name])],
            "years": {name: year for name, year in of_years.items() if year},
            "ids": {system: values[0] for system, values in of_ids.items() if values},
            "sitelinks": len(sitelinks),
            "page": page,
        }

    def _in_language(self, values: Mapping[str, Any]) -> str:
        for code in self._mapper.languages:
            if code in values and (text := values[code]["value"].strip()):
                return cast(str, text)
        return ""

    def _add_label(self, number: int, label: str) -> None:
        self._label_ids.append(number)
        self._labels.append(" ".join(label.split()))


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _statements(claims: list[dict[str, Any]] | None) -> Iterator[Any]:
    """The values of the preferred claims, else of the normal ones."""
    ranks = {claim.get("rank") for claim in claims or ()}
    best = "preferred" if "preferred" in ranks else "normal"
    for claim in claims or ():
        snak = claim["mainsnak"]
        if claim.get("rank", "normal") == best and snak["snaktype"] == "value":
            yield snak["datavalue"]["value"]


def _items_of(claims: list[dict[str, Any]] | None) -> list[int]:
    """Numbers of the items that claims name, each once."""
    values = (value for value in _statements(claims) if isinstance(value, dict) and value.get("entity-type") == "item")
    return list(dict.fromkeys(_number(v["id"]) if "id" in v else int(v["numeric-id"]) for v in values))


def _strings_of(claims: list[dict[str, Any]]) -> list[str]:
    return [value for value in _statements(claims) if isinstance(value, str) and value.strip()]


def _year_of(claims: list[dict[str, Any]]) -> str:
    """The year of the first date that is known to the year, or "". Years before the common era end with BC."""
    for value in _statements(claims):
        is_date = isinstance(value, dict) and value.get("precision", 0) >= YEAR_PRECISION
        if is_date and (match := _YEAR.match(value.get("time", ""))):
            return match[2] if match[1] == "+" else f"{match[2]} BC"
    return ""


def _number(identifier: str) -> int:
    digits = identifier[1:]
    if identifier[:1] != "Q" or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        raise ValueError(f"{identifier!r} is no id of an item")
    return int(digits)


def _packed(numbers: list[int]) -> bytes:
    return np.array(numbers, dtype="<u8").tobytes()
