"""Targets: what a record may be resolved to, an entity of the knowledge base or one that this run makes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from blink.data.records import Entity
from blink.kb.alias_table import normalise
from blink.resolve.names import parse_name
from blink.resolve.profiles import Profile
from blink.resolve.records import Record
from blink.resolve.scorer import Match, PairScorer, is_mergeable

MAX_ALIASES = 64
MAX_TYPES = 4
MAX_COMPARED = 16
"""Most records of a target that others are compared with."""


@dataclass
class Target:
    """An entity, and the records that were resolved to it in this run.

    Attributes:
        entity: as it is; its row is -1 until it is written.
        profiles: of the entity and of records that say more.
        is_new: whether it is of this run, so that its title and aliases follow its records.
        names: how often each name came.
        is_changed: whether it differs from what is written.
    """

    entity: Entity
    profiles: list[Profile]
    is_new: bool = False
    names: Counter[str] = field(default_factory=Counter)
    is_changed: bool = False

    def score(self, profile: Profile, scorer: PairScorer) -> Match:
        """The best match with one of the profiles; none if one of them forbids it."""
        matches = [scorer.score(profile, known) for known in self.profiles]
        forbidden = next((match for match in matches if match.forbidden), None)
        return forbidden or max(matches, key=lambda match: (is_mergeable(match), match.probability))

    def take(self, record: Record, profile: Profile) -> None:
        """Add a record."""
        if not self.is_new:
            return
        self.names.update([record.name, *record.aliases])
        if len(self.profiles) < MAX_COMPARED and not any(_says_no_more(profile, known) for known in self.profiles):
            self.profiles.append(profile)
        entity = self.entity
        title = representative(self.names)
        changed = replace(
            entity,
            title=title,
            text=entity.text or record.description,
            aliases=_others(title, self.names),
            types=tuple(dict.fromkeys((*entity.types, *record.types)))[:MAX_TYPES],
            ids=entity.ids if record.id is None else tuple(sorted((dict(entity.ids) | {record.id_system: record.id}).items())),
        )
        if changed != entity:
            self.entity, self.is_changed = changed, True


def new_target(record: Record, profile: Profile, kb_id: str) -> Target:
    """A target of one record."""
    names = Counter([record.name, *record.aliases])
    ids = () if record.id is None else ((record.id_system, record.id),)
    entity = replace(record.entity(kb_id=kb_id), aliases=_others(record.name, names), types=record.types[:MAX_TYPES], ids=ids)
    return Target(entity, [profile], is_new=True, names=names, is_changed=True)


def representative(names: Counter[str]) -> str:
    """The name that stands for all: full rather than short or inverted, then the most frequent, then the longest."""

    def rank(name: str) -> tuple[bool, bool, int, int, str]:
        parsed = parse_name(name)
        is_short = parsed.is_acronym or any(len(word) == 1 for word in parsed.words)
        return (is_short, parsed.is_inverted, -names[name], -len(name), name)

    return min(names, key=rank)


def _others(title: str, names: Counter[str]) -> tuple[str, ...]:
    """Names other than the title, one of each form."""
    forms = {normalise(title): title}
    for name in sorted(names, key=lambda name: (-names[name], name)):
        forms.setdefault(normalise(name) or name, name)
    return tuple(list(forms.values())[1 : MAX_ALIASES + 1])


def _says_no_more(profile: Profile, other: Profile) -> bool:
    return profile.names == other.names and profile.text in ("", other.text) and set(profile.types) <= set(other.types)


def rank_key(record: Record) -> tuple[bool, bool, int, int, str, str, str]:
    """Order in which records of a round are resolved, whatever their order in the stream: what says most comes first."""
    parsed = parse_name(record.name)
    is_short = parsed.is_acronym or any(len(word) == 1 for word in parsed.words)
    text = record.text
    return (not text, is_short, -len(parsed.words), -len(text), record.name, text, record.fingerprint())
