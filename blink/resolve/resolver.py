"""The `Resolver`: records in, existing or new entities out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.kb.catalogue_line import line_of
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.changes import Edit, Transaction
from blink.kb.vectors import Encoder
from blink.resolve import merges
from blink.resolve.base_search import NEAREST, BaseSearch
from blink.resolve.blocks import NameBlocks
from blink.resolve.encoder import RememberingEncoder
from blink.resolve.features import MORE_WORDS, OTHER_THINGS
from blink.resolve.fitting import profiles_of
from blink.resolve.ledger import Ledger
from blink.resolve.mentions import linked_mentions
from blink.resolve.merges import MergePlan
from blink.resolve.profiles import Profile
from blink.resolve.records import Record, RecordLike, records_from
from blink.resolve.scorer import Match, PairScorer, is_mergeable, is_worth_review
from blink.resolve.targets import Target, new_target, rank_key

if TYPE_CHECKING:
    from blink.linking.linker import Linker

LINKED, NEW, UNCERTAIN = "linked", "new", "uncertain"
"""What a record is: an entity that was there, a new one, or a new one that may be another, for a person to decide."""
RESOLVED_BEFORE, EQUAL_IDS = "resolved before", "equal ids"
"""Reasons of links that follow from no comparison."""
ROUND = 1000
"""Records that are resolved together, and written in one transaction."""
LISTED = 5
_RETRIES = 5


@dataclass(frozen=True)
class ScoredCandidate:
    """An entity that was considered for a record.

    Attributes:
        id: of the entity.
        row: of the knowledge base; -1 while it is not written.
        title: its name.
        probability: that the record is it.
        reasons: in words.
    """

    id: str | None
    row: int
    title: str
    probability: float
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        return {"id": self.id, "row": self.row, "title": self.title, "probability": round(self.probability, 4),
                "reasons": list(self.reasons)}  # fmt: skip


@dataclass(frozen=True)
class Resolution:
    """What a record was resolved to.

    Attributes:
        record: the record.
        entity: that it is; new ones have the row that they were written to, or -1 in a dry run.
        status: ``linked``, ``new`` or ``uncertain``.
        probability: of a link that it is right; of a new entity that it is none of the candidates; of an uncertain record
            that it is the best candidate.
        reasons: in words.
        candidates: best first.
    """

    record: Record
    entity: Entity
    status: str
    probability: float
    reasons: tuple[str, ...]
    candidates: tuple[ScoredCandidate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A line of `blink resolve run`."""
        return {
            "record": self.record.to_json(),
            "status": self.status,
            "entity": {"id": self.entity.kb_id, "row": self.entity.row, "title": self.entity.title},
            "probability": round(self.probability, 4),
            "reasons": list(self.reasons),
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }


@dataclass
class _Decision:
    """The decision on a record, before its target is written."""

    record: Record
    target: Target
    status: str
    probability: float
    reasons: tuple[str, ...]
    candidates: list[tuple[Target, Match]] = field(default_factory=list)


class Resolver:
    """Resolves records to entities of a knowledge base, which may be empty, and adds those that are missing.

    The records of a round are resolved in an order of their own, those that say most first: their order in the stream changes
    nothing. A record that was resolved before gets the same entity again, as long as it exists.

    Args:
        kb: the knowledge base.
        linker: links mentions of records with ``span`` in their context too; its knowledge base is ``kb``.
        encode: candidate encoder; by default that of the knowledge base. Without one, names and words are compared alone.
        scorer: of pairs, with its thresholds.
        threshold: probability from which a record is linked; by default the scorer's.
        review: probability from which a record that is not linked is uncertain; by default the scorer's.
        round_size: records that are resolved and written together.
        nearest: candidates by vector; 0 for none.
        id_prefix: of the ids of new entities.

    Raises:
        SettingsError: a threshold is out of range.

    Examples:
        >>> resolver = Resolver(kb)  # doctest: +SKIP
        >>> [r.status for r in resolver.resolve([{"name": "A. Merkel", "description": "German chancellor"}])]  # doctest: +SKIP
        ['linked']
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        linker: Linker | None = None,
        *,
        encode: Encoder | None = None,
        scorer: PairScorer | None = None,
        threshold: float | None = None,
        review: float | None = None,
        round_size: int = ROUND,
        nearest: int = NEAREST,
        id_prefix: str = "E-",
    ) -> None:
        self.kb, self._linker = kb, linker
        scorer = scorer or PairScorer.load()
        same = scorer.same if threshold is None else threshold
        new = min(scorer.new, same) if review is None else review
        if not 0 < same <= 1 or not 0 <= new <= same:
            raise SettingsError(f"the thresholds are {same:g} and {new:g}; give 0 <= review <= threshold <= 1, threshold > 0")
        if round_size < 1:
            raise SettingsError(f"a round of {round_size} records is not possible; give 1 or more")
        self.scorer = replace(scorer, same=same, new=new)
        source = encode or kb.encode or (None if linker is None else linker.kb.encode)
        self._encoder = None if source is None else RememberingEncoder.of(source)
        if self._encoder is not None:
            kb.encode = self._encoder  # new entities have the texts of records, whose vectors are known
        self._search = BaseSearch(kb, self._encoder, nearest)
        self._round_size, self._prefix = round_size, id_prefix
        self._targets: list[Target] = []
        self._number_of_id: dict[str, int] = {}
        self._blocks = NameBlocks()
        self._ledger = Ledger(kb.folder)

    def resolve(self, records: Iterable[RecordLike], *, dry_run: bool = False) -> Iterator[Resolution]:
        """Resolve records; results come in their order, round by round, after they are on the disk.

        Args:
            records: names, mappings, or records; see `blink.resolve.records`.
            dry_run: write nothing.

        Raises:
            DataError: a record is malformed, or the knowledge base is damaged.
            SettingsError: another process writes, or the disk is full.
        """
        stream = records_from(records)
        while chunk := list(islice(stream, self._round_size)):
            decisions = self._decide(chunk)
            if not dry_run:
                self._write(decisions)
            for decision in decisions:
                yield self._resolution(decision)

    def match(
        self, records: Sequence[RecordLike], selectors: Sequence[RowSelector | None] | None = None, *, listed: int = LISTED
    ) -> list[Resolution]:
        """Resolve records each for itself, against the knowledge base alone: nothing is added, written or remembered.

        Each has the result that a dry run of it alone has.

        Args:
            records: as of `resolve`, without ``spans``.
            selectors: for each record the rows that it may be; None for all.
            listed: most candidates of a result.

        Raises:
            DataError: a record is malformed, or the knowledge base is damaged.
        """
        parsed = list(records_from(records))
        selectors = selectors or [None] * len(parsed)
        profiles, rows, known = self._considered(parsed, selectors)
        linked = linked_mentions(self._linker, parsed)
        results = []
        for i, record in enumerate(parsed):
            decision = self._identified_in(record, selectors[i])
            if decision is None:
                targets = [target for row in rows[i] if (target := self._base_target(row, known.get(row))) is not None]
                decision = self._compared(record, profiles[i], targets, linked.get(i))
            results.append(self._resolution(decision, listed))
        return results

    def _identified_in(self, record: Record, selector: RowSelector | None) -> _Decision | None:
        identified = self._identified(record)
        if identified is None:
            return None
        target, reason = identified
        if selector is not None and not selector.mask[target.entity.row]:
            return None
        return _Decision(record, target, LINKED, 1.0, (reason,))

    def propose_merges(self, advance: Callable[[int], None] = lambda count: None) -> MergePlan:
        """Merges of entities of the knowledge base that look like one; see `blink.resolve.merges`."""
        self.kb.refresh()
        return merges.plan(merges.propose(self._search, self.scorer, advance=advance), self.scorer.same)

    def apply(self, plan: MergePlan, advance: Callable[[int], None] = lambda count: None) -> list[Transaction]:
        """Make the approved merges of a plan, each as one edit; raises as `blink.resolve.merges.apply` does."""
        return merges.apply(self.kb, plan, advance)

    # -- decisions -----------------------------------------------------------------------------------------------

    def _decide(self, records: Sequence[Record]) -> list[_Decision]:
        profiles, rows, known = self._considered(records, [None] * len(records))
        linked = linked_mentions(self._linker, records)
        decisions: dict[int, _Decision] = {}
        for i in sorted(range(len(records)), key=lambda i: rank_key(records[i])):
            decisions[i] = self._decided(records[i], profiles[i], rows[i], known, linked.get(i))
        return [decisions[i] for i in range(len(records))]

    def _considered(
        self, records: Sequence[Record], selectors: Sequence[RowSelector | None]
    ) -> tuple[list[Profile], list[list[int]], dict[int, Profile]]:
        """Profiles of records, rows of entities that each may be, and the profiles of these rows."""
        self.kb.refresh()
        profiles = profiles_of(records, self._encoder)
        of_records = self._search.rows(records, [profile.vector for profile in profiles], selectors)
        rows = [
            [row for row in of_record if (other := self._search.bare_profile(row)) is not None and profile.may_match(other)]
            for profile, of_record in zip(profiles, of_records, strict=True)
        ]
        return profiles, rows, self._search.profiles([row for of_record in rows for row in of_record])

    def _decided(
        self, record: Record, profile: Profile, rows: Sequence[int], known: dict[int, Profile], link: tuple[int, float] | None
    ) -> _Decision:
        identified = self._identified(record)
        if identified is not None:
            target, reason = identified
            if reason == EQUAL_IDS:
                target.take(record, profile)
            return _Decision(record, target, LINKED, 1.0, (reason,))
        decision = self._compared(record, profile, self._candidates(record, rows, known), link)
        if decision.status == LINKED:
            decision.target.take(record, profile)
            self._index(decision.target, record)
        else:
            self._register(decision.target, record)
        return decision

    def _compared(
        self, record: Record, profile: Profile, targets: Sequence[Target], link: tuple[int, float] | None
    ) -> _Decision:
        """The decision by what the record and the targets say; it changes nothing."""
        candidates = [
            (target, target.score(profile, self.scorer)) for target in targets if profile.may_match(target.profiles[0])
        ]
        candidates = [(t, _with_link(m, t, link)) for t, m in candidates]
        candidates.sort(key=lambda pair: (-pair[1].probability, not is_mergeable(pair[1]), pair[0].entity.kb_id or ""))
        status, best = self._status(record, candidates)
        if status == LINKED:
            assert best is not None
            target, match = best
            return _Decision(record, target, status, match.probability, match.reasons, candidates)
        target = new_target(record, profile, self._prefix + record.fingerprint())
        top = candidates[0][1].probability if candidates else 0.0
        if status == UNCERTAIN:
            return _Decision(record, target, status, top, candidates[0][1].reasons, candidates)
        return _Decision(
            record, target, NEW, 1 - top, ("nothing like it",) if not candidates else ("no candidate is it",), candidates
        )

    def _status(self, record: Record, candidates: Sequence[tuple[Target, Match]]) -> tuple[str, tuple[Target, Match] | None]:
        if not any(is_worth_review(match, self.scorer) for _, match in candidates):
            return NEW, None
        likely = [pair for pair in candidates if pair[1].probability >= self.scorer.same and is_mergeable(pair[1])]
        if not likely:
            return UNCERTAIN, None
        # Two entities that a record may be are namesakes or duplicates: a person decides, unless it is one word for word.
        if len(likely) > 1:
            likely = [pair for pair in likely if _is_identical(record, pair[0])]
        return (LINKED, likely[0]) if len(likely) == 1 else (UNCERTAIN, None)

    def _identified(self, record: Record) -> tuple[Target, str] | None:
        """The target of a record that was resolved before, or whose id is known, and why it is that; else None."""
        before = self._resolved_before(record)
        if before is not None:
            return before, RESOLVED_BEFORE
        of_id = self._of_id(record)
        return None if of_id is None else (of_id, EQUAL_IDS)

    def _resolved_before(self, record: Record) -> Target | None:
        kb_id = self._ledger.entity_of(record.fingerprint()) or self._prefix + record.fingerprint()
        return self._target_of_id(kb_id)

    def _of_id(self, record: Record) -> Target | None:
        return None if record.id is None else self._target_of_id(record.id, record)

    def _target_of_id(self, kb_id: str, record: Record | None = None) -> Target | None:
        number = self._number_of_id.get(kb_id if record is None else f"{record.id_system}\0{kb_id}")
        if number is not None:
            return self._targets[number]
        row = self._search.row_of(kb_id)
        if row is None:
            return None
        entity = self._search.entity(row)
        if entity is None:
            return None
        if record is not None and entity.kb_id != kb_id and dict(entity.ids).get(record.id_system) != kb_id:
            return None  # the id of another system
        return self._base_target(row, self._search.profiles([row]).get(row))

    def _candidates(self, record: Record, rows: Sequence[int], known: dict[int, Profile]) -> list[Target]:
        numbers = self._blocks.candidates((record.name, *record.aliases))
        targets = [self._targets[number] for number in numbers]
        of_base = [self._base_target(row, known.get(row)) for row in rows]
        unique = {id(target): target for target in (*of_base, *targets) if target is not None}
        return list(unique.values())

    def _base_target(self, row: int, profile: Profile | None) -> Target | None:
        """The target of a row; one of this run if it was written by it."""
        entity = self._search.entity(row)
        if profile is None or entity is None:
            return None
        number = None if entity.kb_id is None else self._number_of_id.get(entity.kb_id)
        return Target(entity, [profile]) if number is None else self._targets[number]

    def _register(self, target: Target, record: Record) -> None:
        number = len(self._targets)
        self._targets.append(target)
        assert target.entity.kb_id is not None
        self._number_of_id[target.entity.kb_id] = number
        if record.id is not None:
            self._number_of_id[f"{record.id_system}\0{record.id}"] = number
        self._blocks.add(number, (record.name, *record.aliases))

    def _index(self, target: Target, record: Record) -> None:
        number = self._number_of_id.get(target.entity.kb_id or "")
        if number is not None:
            self._blocks.add(number, (record.name, *record.aliases))
            if record.id is not None:
                self._number_of_id[f"{record.id_system}\0{record.id}"] = number

    # -- writing -------------------------------------------------------------------------------------------------

    def _write(self, decisions: Sequence[_Decision]) -> None:
        """Write the entities of a round in one transaction, and what each record was resolved to."""
        ids = {d.record.fingerprint(): d.target.entity.kb_id for d in decisions if d.target.entity.kb_id is not None}
        self._ledger.add({fingerprint: kb_id for fingerprint, kb_id in ids.items() if kb_id is not None})
        changed = list({id(d.target): d.target for d in decisions if d.target.is_new and d.target.is_changed}.values())
        if not changed:
            return
        new = sum(target.entity.row < 0 for target in changed)
        note = f"resolved {len(decisions)} records: {new} new entities"
        for attempt in range(_RETRIES):
            rows, edits = self._edits(changed)
            try:
                self.kb.apply("resolve", edits, note)
                break
            except DataError:
                if attempt == _RETRIES - 1 or not self.kb.refresh():
                    raise
        for target, row in zip(changed, rows, strict=True):
            target.entity, target.is_changed = replace(target.entity, row=row), False

    def _edits(self, changed: Sequence[Target]) -> tuple[list[int], list[Edit]]:
        rows, edits, next_row = list[int](), list[Edit](), self.kb.changes.rows
        for target in changed:
            row, before = target.entity.row, None
            if row < 0:
                row, next_row = next_row, next_row + 1
            else:
                before = self.kb.state.line(row)
            rows.append(row)
            edits.append(Edit(row, before, line_of(target.entity)))
        return rows, edits

    def _resolution(self, decision: _Decision, listed: int = LISTED) -> Resolution:
        candidates = tuple(
            ScoredCandidate(t.entity.kb_id, t.entity.row, t.entity.title, m.probability, m.reasons)
            for t, m in decision.candidates[:listed]
        )
        return Resolution(
            decision.record, decision.target.entity, decision.status, decision.probability, decision.reasons, candidates
        )


def _is_identical(record: Record, target: Target) -> bool:
    """Whether a target says word for word what the record says."""
    return any(record.name in profile.names and record.text == profile.text for profile in target.profiles)


def _with_link(match: Match, target: Target, link: tuple[int, float] | None) -> Match:
    """The match with the probability of the linker, where that is higher and the pair is not forbidden."""
    if link is None or link[0] != target.entity.row or match.forbidden or link[1] <= match.probability:
        return match
    # What a name stands for in its context is what the linker knows.
    is_settled = match.comparison.doubt in (MORE_WORDS, OTHER_THINGS)
    comparison = replace(match.comparison, doubt="") if is_settled else match.comparison
    return replace(match, probability=link[1], comparison=comparison, reasons=("linked in its context", *match.reasons))
