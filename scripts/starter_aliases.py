"""Aliases of the starter's generated entities: which names of the sources are aliases, and the short names that texts use."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blink.kb.alias_table import normalise, without_brackets
from scripts.starter_facts import Item, prominence, rows_of

MOST_ALIASES = 3
LEAST_FOR_FAMILY_NAME = 0.0
"""Prominence from which a person is called by the family name alone."""
LEAST_FOR_RARE_WORDS = 35.0
"""Prominence from which a family name may be a rare word."""
PROMINENCE_BY_HAND = 75.0
"""What entities written by hand count for."""
MUCH_BETTER_KNOWN = {"person": 30.0, "team": 30.0}
BETTER_KNOWN = 10.0
"""Difference of prominence from which a name belongs to the better known entity alone, by kind and for all other kinds."""
COMMON_NOUNS_BELOW = 300_000
"""Wikidata number below which a title in lower case is a word that everybody knows. Family names may be rarer words."""
_INVERTED = re.compile(r"^[^,]+, [^,]+$")
_LATIN = re.compile(r"^[\x20-\x7eÀ-ɏḀ-ỿ’–]+$")


def common_words(facts: Path, by_hand: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Names of common nouns, which are titles in lower case, with their Wikidata number; and words of texts, with 0."""
    nouns = ((normalise(row["title"]), int(row["kb_idx"][1:])) for row in rows_of(facts) if row["title"][:1].islower())
    words = dict(sorted(nouns, key=lambda noun: -noun[1]))
    for row in by_hand:
        words.update(dict.fromkeys(re.findall(r"(?<![\w-])[a-z]+(?![\w-])", row["text"]), 0))
    return words


def nicknames(items: Iterable[Item]) -> frozenset[str]:
    """Names of teams of North American sports, which are plurals but for a few, such as ``Chicago Bulls``."""
    teams = (
        item
        for item in items
        if item.kind == "team" and not re.search(r"association football|football club|national", item.noun)
    )
    return frozenset(i.title for i in teams if re.search(r"[^s]s$|Sox$|Heat$|Magic$|Jazz$|Thunder$|Wild$|Avalanche$", i.title))


def cleaned_aliases(
    items: Sequence[Item],
    titles: Mapping[str, str],
    by_hand: Sequence[Mapping[str, Any]],
    words: Mapping[str, int],
    team_names: frozenset[str],
    dropped: Counter[str],
) -> dict[str, list[str]]:
    """At most three aliases by id, with the title without brackets; no codes, common words or names of better known ones."""
    owners: dict[str, float] = {}
    for row in by_hand:
        long = (alias for alias in row.get("aliases", ()) if " " in alias)
        owners.update((normalise(name), PROMINENCE_BY_HAND) for name in (without_brackets(row["title"]), *long))
    titles_by_hand = frozenset(normalise(without_brackets(row["title"])) for row in by_hand)
    for item in items:
        owners.setdefault(normalise(without_brackets(item.title)), prominence(item))
    aliases: dict[str, list[str]] = {}
    first_names = Counter(item.title.split()[0] for item in items if item.kind == "person")
    given_names = frozenset(name for name, count in first_names.items() if count > 9)
    for item in items:
        names = {normalise(titles[item.id]), normalise(without_brackets(item.title))}
        aliases[item.id] = []
        is_acronym = {
            alias: bool(re.fullmatch(r"[A-Z][A-Z&.-]{1,6}", alias)) and item.kind != "person" for alias in item.aliases
        }
        by_use = sorted(item.aliases, key=lambda alias: not is_acronym[alias])
        bare = without_brackets(titles[item.id])
        if bare != titles[item.id]:
            aliases[item.id].append(bare)
        for alias in (*short_names(item, given_names, team_names), *by_use):
            alias = re.sub(r"\s+", " ", alias.replace("''", "")).strip()
            key = normalise(alias)
            is_of_hand = item.kind == "place" and key.removeprefix("the ") in titles_by_hand
            fault = _fault_of_alias(alias, key, item, words) or (
                "better known entity"
                if is_of_hand or owners.get(key, 0.0) > prominence(item) + MUCH_BETTER_KNOWN.get(item.kind, BETTER_KNOWN)
                else ""
            )
            if fault:
                dropped[f"alias: {fault}"] += 1
            elif key not in names and len(aliases[item.id]) < MOST_ALIASES:
                aliases[item.id].append(alias)
                names.add(key)
    return aliases


_CLUB = re.compile(
    r"^(?:(?:FC|F\.C\.|AFC|CF|AC|SC|SK|FK|NK|SV|VfL|VfB|TSV|RC|CD|UD|SD|IF|IFK|BK) )?"
    r"(.+?)(?: (?:F\.C\.|A\.F\.C\.|FC|AFC|CF|SC|BC|SK|FK|IF|BK))?$"
)
_CLUB_OF_CITY = re.compile(r" (?:United|City|Town|Rovers|Wanderers|County|Athletic|Albion|Hotspur|Stars|Dynamo|Rangers)$")


def short_names(item: Item, given_names: frozenset[str], nicknames: frozenset[str]) -> list[str]:
    """Names by which texts call it for short: the family name of a well-known person, a team without the letters of its club.

    Teams are also called by their city alone, as in ``Boston won``.
    """
    title = without_brackets(item.title)
    words = title.split()
    if item.kind == "person" and 2 <= len(words) <= 4 and prominence(item) >= LEAST_FOR_FAMILY_NAME:
        family = (
            " ".join(words[-2:])
            if words[-2] in {"de", "De", "van", "von", "da", "Di", "di", "del", "la", "La", "St."}
            else words[-1]
        )
        is_name = len(family) > 3 and family[0].isupper() and family not in given_names and not family.endswith(("Jr.", "Sr."))
        return [family] if is_name and "." not in family else []
    if item.kind in {"band", "tv", "film"} and title.startswith("The ") and len(words) < 4:
        return [title[4:]]
    if item.kind in {"film", "tv"} and ": " in title:
        return [title.split(": ")[0]]
    if item.kind != "team" or not (match := _CLUB.match(title)):
        return []
    if title in nicknames and len(words) > 1:
        return [words[-1], " ".join(words[:-1])]
    city = _CLUB_OF_CITY.sub("", match[1])
    return [name for name in dict.fromkeys((match[1], city)) if name != title]


def _fault_of_alias(alias: str, key: str, item: Item, words: Mapping[str, int]) -> str:
    title = without_brackets(item.title)
    if not key or not _LATIN.match(alias) or '"' in alias or "(" in alias:
        return "not in Latin letters, or quoted"
    if len(alias) > 40:
        return "long"
    if not any(c.isupper() for c in alias) or re.search(r"[a-z]\d+$", alias):
        return "in lower case"
    if _INVERTED.match(alias) and item.kind == "person":
        return "inverted name"
    if len(alias) < 2 or (
        len(alias) <= 3 and item.kind in {"place", "person", "film", "award", "event"} and alias not in title
    ):
        return "code"
    if re.fullmatch(r"[A-Z]{2}-[A-Z0-9]{1,3}|[a-z]{2,3}", alias):
        return "code"
    is_famous = item.kind == "person" and prominence(item) >= LEAST_FOR_RARE_WORDS
    if key in words and (words[key] < COMMON_NOUNS_BELOW or not is_famous):
        return "common word"
    if item.kind == "person" and key == normalise(title.split()[0]) and " " in title:
        return "first name"
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    if normalise(plain) == key:
        return "title without accents"
    return ""
