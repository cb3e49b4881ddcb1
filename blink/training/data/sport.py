"""Texts about teams that are named by their city or country, and about the cities and countries themselves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from blink.data.records import Entity, Sample
from blink.errors import SettingsError
from blink.kb.alias_table import normalise, without_brackets
from blink.training.data.names import Names
from blink.training.data.segments import Segment, assemble, filled

CLUB_WORDS = re.compile(
    r"(?:^|(?<= ))(?:A?\.?F\.?C\.?|C\.?F\.?|S\.?C\.?|A\.?C\.?|A\.?S\.?|S\.?V\.?|B\.?C\.?|F\.?K\.?|N\.?K\.?|R\.?C\.?|C\.?D\.?|"
    r"U\.?S\.?|S\.?S\.?|VfB|VfL|TSV|1\.|Football Club|Athletic Club|Club|\d{4})(?= |$)"
)
NATION = re.compile(
    r"^(.+?) (?:men's )?national (?:association )?(?:football|soccer|basketball|rugby union|cricket|ice hockey) team$"
)
NOT_A_TEAM = re.compile(
    r"[Cc]ollege|[Uu]niversity|[Ww]om[ae]n|[Uu]nder-\d|\bU-?\d\d|youth|reserve|program|league|[Ss]tadium|former|defunct|[Aa]cademy|"
    r"\bB team|season| (?:football|basketball|ice hockey|baseball|hockey|soccer)$"
)
LEAGUES = {
    "National Football League": "american football",
    "Major League Baseball": "baseball",
    "National Hockey League": "hockey",
}
"""League in the description -> its sport."""
LOWEST, HIGHEST = {"basketball": 84, "american football": 6}, {"basketball": 118, "american football": 38, "baseball": 11}
BARE_SHARE = 0.7
"""Share of the teams that are named by city or country, where the name tells the team."""
OTHER_SHARE = 0.3
"""Share of opponents that may lack a city in their name."""
TEAM_TEXTS, BOTH_TEXTS = 0.45, 0.12
"""Share of texts about teams, and about teams and cities; the others are about cities and countries."""


@dataclass
class Team:
    """A team and the names by which texts about its sport call it.

    Attributes:
        row: of the team.
        sport: such as ``football``.
        nation: whether it plays for a country.
        bare: names of its city or country that name no other team of the sport.
        forms: its other names.
        home: row of the city or country; -1 if it cannot be told.
        aliases: names in the catalogue.
    """

    row: int
    sport: str
    nation: bool
    bare: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    home: int = -1
    aliases: frozenset[str] = frozenset()


class SportTexts:
    """Generates texts in which the name of a city or country is a team or not.

    Args:
        names: of the catalogue.
        templates: kind of text -> templates; ``{a}``, ``{b}`` are teams or places, ``{c}`` a place, ``{p}`` a player, ``{s}``
            a score.
    """

    def __init__(self, names: Names, templates: Mapping[str, Sequence[str]]) -> None:
        self._names, self._templates = names, templates
        places: dict[str, list[int]] = defaultdict(list)
        for row in names.places:
            places[normalise(without_brackets(names.catalogue.title(row)))].append(row)
        self._places = places
        entities = [names.catalogue[row] for row in sorted(names.team_sports)]
        teams = [self._team(e) for e in entities if not (NOT_A_TEAM.search(e.title) or NOT_A_TEAM.search(names.definition(e)))]
        groups: dict[tuple[str, bool], list[Team]] = defaultdict(list)
        for team in teams:
            groups[team.sport, team.nation].append(team)
        for group in groups.values():
            _drop_shared(group)
        self._groups = [[t for t in g if t.bare or t.forms] for _, g in sorted(groups.items())]
        self._groups = [g for g in self._groups if sum(bool(t.bare) for t in g) > 1]
        self._weights = np.array([len(g) ** 0.7 - 1 for g in self._groups])
        based = [t for g in self._groups for t in g if t.home >= 0 and t.bare]
        self._homes = {nation: [t for t in based if t.nation == nation] for nation in (False, True)}

    def draw(self, random: np.random.Generator, name: str) -> Sample:
        """A text about teams, about places that have one, or about both.

        Raises:
            SettingsError: no two teams of a sport are named by a place of the catalogue.
        """
        if not self._groups:
            raise SettingsError("the source sport needs a catalogue with teams and their cities; choose other sources")
        kind = random.random()
        homes = self._homes[bool(random.random() < 0.25)] or self._homes[False] or self._homes[True]
        if homes and kind > TEAM_TEXTS + BOTH_TEXTS:
            return self._place_text(random, name, homes)
        group = self._groups[random.choice(len(self._groups), p=self._weights / self._weights.sum())]
        called = [t for t in group if t.bare]
        first, second = random.choice(len(called), 2, replace=False)
        a, b = called[first], called[second]
        if random.random() < OTHER_SHARE:
            b = next((t for t in (group[random.integers(len(group))],) if t is not a), b)
        slots: dict[str, Segment] = {"a": self._call(a, random), "b": self._call(b, random), "s": _score(a.sport, random)}
        if self._names.athletes:
            athlete = int(self._names.athletes[random.integers(len(self._names.athletes))])
            slots["p"] = (without_brackets(self._names.catalogue.title(athlete)), athlete)
        if homes and kind > TEAM_TEXTS:
            home = next(
                (t for t in (a, b) if t.home >= 0 and t.bare and random.random() < 0.5), homes[random.integers(len(homes))]
            )
            slots["c"] = (home.bare[0], home.home)
            return self._fill(random, name, "both", slots)
        return self._fill(random, name, self._kind(a, random), slots)

    def _kind(self, team: Team, random: np.random.Generator) -> str:
        own = "nation" if team.nation else team.sport
        return own if own in self._templates and random.random() < 0.3 else "any"

    def _fill(self, random: np.random.Generator, name: str, kind: str, slots: Mapping[str, Segment]) -> Sample:
        usable = [t for t in self._templates[kind] if "p" in slots or "{p}" not in t]
        return assemble(name, filled(str(usable[random.integers(len(usable))]), slots))

    def _place_text(self, random: np.random.Generator, name: str, homes: list[Team]) -> Sample:
        a = homes[random.integers(len(homes))]
        same = [t for t in homes if t.home != a.home] or homes
        b = same[random.integers(len(same))]
        kind = "country" if a.nation else "city"
        return self._fill(random, name, kind, {"a": (a.bare[0], a.home), "b": (b.bare[0], b.home)})

    @staticmethod
    def _call(team: Team, random: np.random.Generator) -> tuple[str, int]:
        forms = team.bare if team.bare and (random.random() < BARE_SHARE or not team.forms) else team.forms
        return forms[random.integers(len(forms))], team.row

    def _team(self, entity: Entity) -> Team:
        title = without_brackets(entity.title)
        nation = NATION.match(title)
        lead = entity.text[:400]
        sport = next((s for league, s in LEAGUES.items() if league in lead), self._names.team_sports[entity.row])
        aliases = frozenset(entity.aliases)
        team = Team(entity.row, "football" if sport in ("soccer", "sport", "sports") else sport, bool(nation), aliases=aliases)
        usable = self._names.forms(entity)
        if nation:
            candidates = [nation[1]]
        else:
            plain = CLUB_WORDS.sub("", title).strip()
            words = plain.split(" ")
            prefixes = [" ".join(words[:n]) for n in range(len(words), 0, -1)]
            candidates = [*(a for a in entity.aliases if a != title), *prefixes, words[-1]]
        team.bare = [f for f in dict.fromkeys(candidates) if self._is_place(f)][:1]
        team.forms = [f for f in usable if f not in team.bare and not f.isupper()]
        if team.bare:
            team.home = self._home(team.bare[0], entity)
        return team

    def _is_place(self, form: str) -> bool:
        is_sport = form.lower() in ("rugby", "cricket", "football", "hockey")
        return form[:1].isupper() and len(form) > 2 and not is_sport and normalise(form) in self._places

    def _home(self, form: str, entity: Entity) -> int:
        rows = self._places[normalise(form)]
        usual = self._names.usual_row(form)
        if usual in rows:
            return rows[rows.index(usual)]
        best = max(rows, key=lambda r: (self._names.degree(r), -r))
        return best if len(rows) == 1 or self._names.degree(best) >= 5 else -1


def _drop_shared(group: list[Team]) -> None:
    """Leave out names of a place that several teams of a sport have, unless it is an alias of one of them only."""
    teams_of: dict[str, list[Team]] = defaultdict(list)
    for team in group:
        for form in (*team.bare, *team.forms):
            teams_of[form].append(team)
    for team in group:
        team.bare, team.forms = ([f for f in forms if _usual(teams_of[f], f) is team] for forms in (team.bare, team.forms))


def _usual(teams: list[Team], form: str) -> Team | None:
    """The team that a name shared by teams of a sport calls: the only one, or the best-known one of those with the alias."""
    if len(teams) == 1:
        return teams[0]
    ranked = sorted((t for t in teams if form in t.aliases), key=lambda t: len(t.aliases), reverse=True)
    if len(ranked) == 1 or (ranked and len(ranked[0].aliases) >= 2 * len(ranked[1].aliases)):
        return ranked[0]
    return None


def _score(sport: str, random: np.random.Generator) -> str:
    low, high = LOWEST.get(sport, 0), HIGHEST.get(sport, 5)
    first, second = sorted((int(n) for n in random.integers(low, high + 1, 2)), reverse=True)
    return f"{first + (first == second)}-{second}"
