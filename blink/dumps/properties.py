"""Properties of Wikidata that are read by default: relations between items, ids of other systems, years."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from blink.errors import SettingsError

RELATION, ID, YEAR = "relation", "id", "year"
TABLE = "wikidata_properties.tsv"
_PROPERTY_ID = re.compile(r"P[1-9]\d{0,9}")


@dataclass(frozen=True)
class Properties:
    """What is read of the claims of an item.

    Attributes:
        relations: properties whose values are items; they become triples.
        ids: property -> name of the system that its values are ids of.
        years: properties of dates.
        labels: property -> its label in English.
        in_text: relations and years of which descriptions are extended, in order.
    """

    relations: tuple[str, ...]
    ids: dict[str, str]
    years: tuple[str, ...]
    labels: dict[str, str]
    in_text: tuple[str, ...]

    @classmethod
    def default(cls) -> Properties:
        """The properties of the table that comes with BLINK."""
        with (resources.files("blink.dumps") / TABLE).open(encoding="utf-8") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        of_kind = {kind: tuple(row["id"] for row in rows if row["kind"] == kind) for kind in (RELATION, ID, YEAR)}
        labels = {row["id"]: row["label"] for row in rows}
        ids = {property_: labels[property_] for property_ in of_kind[ID]}
        in_text = tuple(row["id"] for row in rows if row["in_text"])
        return cls(of_kind[RELATION], ids, of_kind[YEAR], labels, in_text)

    @classmethod
    def of(cls, relations: Sequence[str]) -> Properties:
        """The default ones, with other relations.

        Raises:
            SettingsError: one is no id of a property.
        """
        default = cls.default()
        if not relations:
            return default
        wrong = next((name for name in relations if not _PROPERTY_ID.fullmatch(name)), None)
        if wrong is not None:
            raise SettingsError(f"{wrong!r} is no property of Wikidata; give ids such as P31,P106")
        in_text = tuple(name for name in default.in_text if name in relations or name in default.years)
        return cls(tuple(dict.fromkeys(relations)), default.ids, default.years, default.labels, in_text)
