"""Merges of entities that look like one: proposed, written as a plan that a person may edit, and applied, each as one edit that
can be undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from blink.data.ids import wikidata_id
from blink.data.records import Entity
from blink.errors import MALFORMED, DataError
from blink.files import read_json, write_json
from blink.kb.alias_table import normalise
from blink.kb.catalogue_line import entity_from, line_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.changes import Edit, Transaction
from blink.resolve.base_search import BaseSearch
from blink.resolve.records import Record
from blink.resolve.scorer import PairScorer, is_mergeable, is_worth_review

FORMAT = 1
_BLOCK = 512
_LONGEST_TEXT = 2000
_MERGED = "merged"


@dataclass(frozen=True)
class Side:
    """An entity of a merge: its row, id and name, and a hash of its line that tells whether it changed since."""

    row: int
    id: str | None
    title: str
    text: str
    line: str

    @classmethod
    def of(cls, entity: Entity) -> Side:
        """Of an entity with its row."""
        return cls(entity.row, entity.kb_id, entity.title, entity.text[:200], line_hash(line_of(entity)))


@dataclass(frozen=True)
class Merge:
    """A proposal to merge two entities.

    Attributes:
        keep: the entity that stays, with its row and id.
        remove: the entity that goes; its names and ids become those of the other.
        probability: that they are one thing.
        reasons: in words.
        approved: whether `apply` merges them.
    """

    keep: Side
    remove: Side
    probability: float
    reasons: tuple[str, ...] = ()
    approved: bool = False


@dataclass(frozen=True)
class MergePlan:
    """Merges of a knowledge base.

    Attributes:
        merges: the most probable first.
        threshold: probability from which they were approved.
        format: version of the file.
    """

    merges: tuple[Merge, ...]
    threshold: float
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The object of the file."""
        how = "set 'approved' to true or false, then: blink resolve apply KB PLAN.json"
        return {"format": self.format, "threshold": self.threshold, "how": how, "merges": [asdict(m) for m in self.merges]}

    def save(self, path: str | Path) -> None:
        """Write it as a file."""
        write_json(path, self.to_json())

    @classmethod
    def from_json(cls, value: Any, where: str = "the plan") -> MergePlan:
        """Read the object of a file.

        Raises:
            DataError: it is no plan of this version; the message names the merge.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("merges"), list):
            raise DataError(f"{where} is no plan of merges; make one: blink resolve merges KB --out PLAN.json")
        merges = []
        for number, merge in enumerate(value["merges"], 1):
            try:
                sides = [Side(**merge[name]) for name in ("keep", "remove")]
                if not isinstance(merge["approved"], bool) or not all(isinstance(side.row, int) for side in sides):
                    raise TypeError("'approved' must be true or false, and 'row' a number")
                merges.append(
                    Merge(sides[0], sides[1], float(merge["probability"]), tuple(merge["reasons"]), merge["approved"])
                )
            except MALFORMED as error:
                fault = f"{where}, merge {number}: {error.args[0] if error.args else error}"
                raise DataError(f"{fault}; change nothing but 'approved', or remove the merge") from error
        return cls(tuple(merges), float(value.get("threshold", 1.0)))

    @classmethod
    def load(cls, path: str | Path) -> MergePlan:
        """Read a file. Raises as `from_json` does."""
        return cls.from_json(read_json(path, "make one: blink resolve merges KB --out PLAN.json"), str(path))


def line_hash(line: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of an entity's line."""
    return hashlib.blake2b(json.dumps(dict(line), sort_keys=True, ensure_ascii=False).encode(), digest_size=8).hexdigest()


def propose(
    search: BaseSearch,
    scorer: PairScorer,
    rows: Iterable[int] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Merge]:
    """Merges of entities with like names whose probability is at least ``scorer.new``, in the order of rows.

    Args:
        search: of the knowledge base.
        scorer: with its thresholds: those at least as probable as ``same`` are approved, if no person must agree.
        rows: entities to look for others of; all by default.
        advance: called with the number of entities that are done.
    """
    kb = search.kb
    pending, compared = iter(range(kb.changes.rows) if rows is None else rows), set[tuple[int, int]]()
    while block := list(islice(pending, _BLOCK)):
        records = [_named(search.entity(row)) for row in block]
        candidates = search.rows(records, [None] * len(records))
        pairs = {
            (min(row, other), max(row, other))
            for row, others in zip(block, candidates, strict=True)
            for other in others
            if other != row
        }
        pairs -= compared
        compared |= pairs
        rows_of_pairs = sorted({row for pair in pairs for row in pair})
        named = {row: profile for row in rows_of_pairs if (profile := search.bare_profile(row)) is not None}
        pairs = {(a, b) for a, b in pairs if a in named and b in named and named[a].may_match(named[b])}
        likely = [p for p in sorted(pairs) if scorer.score(named[p[0]], named[p[1]]).probability > _LEAST_UNREAD]
        profiles = search.profiles(sorted({row for pair in likely for row in pair}))
        for a, b in likely:
            match = scorer.score(profiles[a], profiles[b])
            if is_worth_review(match, scorer):
                keep, remove = in_order(*(entity for row in (a, b) if (entity := search.entity(row)) is not None))
                doubt = match.comparison.doubt
                reasons = (*match.reasons, *([f"a person must agree: {doubt}"] if doubt else []))
                approved = match.probability >= scorer.same and is_mergeable(match)
                yield Merge(Side.of(keep), Side.of(remove), round(match.probability, 4), reasons, approved)
        advance(len(block))


_LEAST_UNREAD = 0.02
"""Probability by names and words alone below which texts are not encoded."""


def plan(merges: Iterable[Merge], threshold: float) -> MergePlan:
    """A plan of merges, the most probable first. Of merges that share an entity one alone is approved: others are looked at
    again after it.
    """
    used, ordered = set[int](), []
    for merge in sorted(merges, key=lambda m: (-m.probability, m.keep.row, m.remove.row)):
        rows = {merge.keep.row, merge.remove.row}
        approved = merge.approved and not rows & used
        used |= rows if approved else set()
        ordered.append(Merge(merge.keep, merge.remove, merge.probability, merge.reasons, approved))
    return MergePlan(tuple(ordered), threshold)


def in_order(a: Entity, b: Entity) -> tuple[Entity, Entity]:
    """The entity that stays, and the one that goes: with an id of Wikidata, a longer description, the lower row stays."""

    def rank(entity: Entity) -> tuple[bool, bool, int, int]:
        return (not wikidata_id(entity.kb_id or ""), entity.kb_id is None, -len(entity.text), entity.row)

    first, second = sorted((a, b), key=rank)
    return first, second


def merged(keep: Entity, remove: Entity) -> Entity:
    """The entity that stays, with names, types, tags, ids and text of both."""
    names: dict[str, str] = {}
    for name in (keep.title, *keep.aliases, remove.title, *remove.aliases):
        names.setdefault(normalise(name) or name, name)
    ids = dict(remove.ids) | dict(keep.ids)
    lost = [id_ for system, id_ in remove.ids if ids[system] != id_] + ([remove.kb_id] if remove.kb_id else [])
    for id_ in lost:
        number = next(n for n in range(1, len(ids) + 2) if f"{_MERGED}-{n}" not in ids)
        ids[f"{_MERGED}-{number}"] = id_
    text = keep.text
    if remove.text and remove.text not in text and len(text) + len(remove.text) < _LONGEST_TEXT:
        text = f"{text.rstrip('. ')}. {remove.text}" if text else remove.text
    return Entity(
        keep.row,
        keep.title,
        text,
        keep.kb_id,
        keep.url or remove.url,
        tuple(list(names.values())[1:]),
        tuple(dict.fromkeys((*keep.types, *remove.types))),
        tuple(dict.fromkeys((*keep.tags, *remove.tags))),
        tuple(sorted(ids.items())),
    )


def apply(kb: KnowledgeBase, merge_plan: MergePlan, advance: Callable[[int], None] = lambda count: None) -> list[Transaction]:
    """Make the approved merges, each in one transaction that ``blink kb undo`` takes back.

    Args:
        kb: the knowledge base, with an encoder.
        merge_plan: of it.
        advance: called with 1 after each merge.

    Raises:
        DataError: an entity changed since the plan was made, or is in two approved merges; nothing is merged then.
        SettingsError: another process writes, or there is no encoder.
    """
    kb.refresh()
    approved = [merge for merge in merge_plan.merges if merge.approved]
    _check(kb, approved)
    done = []
    for merge in approved:
        lines = [dict(kb.state.line(side.row) or {}) for side in (merge.keep, merge.remove)]
        keep, remove = (entity_from(side.row, line) for side, line in zip((merge.keep, merge.remove), lines, strict=True))
        after = {**lines[0], **line_of(merged(keep, remove))}
        edits = (Edit(keep.row, lines[0], after), Edit(remove.row, lines[1], None))
        note = f"{remove.title} ({remove.kb_id or remove.row}) is {keep.title} ({keep.kb_id or keep.row})"
        done.append(kb.apply("merge", edits, note))
        advance(1)
    return done


def _check(kb: KnowledgeBase, merges: Sequence[Merge]) -> None:
    rows = set[int]()
    for merge in merges:
        for side in (merge.keep, merge.remove):
            where = f"{side.title!r} (row {side.row})"
            line = kb.state.line(side.row) if 0 <= side.row < kb.changes.rows else None
            if line is None or line_hash(line_of(entity_from(side.row, dict(line)))) != side.line:
                raise DataError(f"{where} changed since the plan was made; nothing is merged: make the plan again")
            if side.row in rows:
                raise DataError(f"{where} is in two approved merges; approve one, apply it, and make the plan again")
            rows.add(side.row)
        if merge.keep.row == merge.remove.row:
            raise DataError(f"{merge.keep.title!r} (row {merge.keep.row}) would be merged with itself; remove that merge")


def _named(entity: Entity | None) -> Record:
    return Record("") if entity is None else Record(entity.title, aliases=entity.aliases[:4])
