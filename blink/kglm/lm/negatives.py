"""False triples, made from true ones; how they are made decides how hard a classifier's task is.

- ``easy``: the tail is replaced by one of another relation, so that knowing what a relation is about suffices. As in the
  original, where 90 % and more are reached by that; known true triples are not avoided. Of relations that all have the same
  few tails (``gender``), one of the relation's own tails is taken.
- ``same_type``: the tail (or, with ``both``, the head) is replaced by any entity that stands in that place of the relation.
- ``uniform``: by any entity.

Beside these there are published ones, read from files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blink.errors import DataError, SettingsError
from blink.kglm.lm.triples import Facts

TRIES = 20
"""How often a false triple that turns out true is drawn again before it is given up."""
CHUNK = 1 << 14


@dataclass(frozen=True)
class Making:
    """How false triples are made.

    Attributes:
        kind: one of `KINDS`.
        fewest: rows per true triple at least, that triple included.
        most: rows per true triple at most.
        both: replace heads as well as tails, as chance has it.
    """

    kind: str = "easy"
    fewest: int = 2
    most: int = 4
    both: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"negatives.kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not 1 <= self.fewest <= self.most:
            raise SettingsError(f"negatives from {self.fewest} to {self.most} rows per triple; take 1 <= fewest <= most")


class Negatives:
    """Makes false triples.

    Args:
        pool: true triples whose heads and tails replace others; those of training.
        known: true triples that are never offered as false (but for ``easy``); with those of all splits.
        spelling: a number per entity, the same for those of the same name. *Shape:* (entities,)
        same_relation: relations for which ``easy`` draws from their own tails.
    """

    def __init__(self, pool: Facts, known: Facts, spelling: np.ndarray, same_relation: np.ndarray) -> None:
        self._spelling = spelling
        self._entities, relations = len(spelling), int(max(known.relation.max(), pool.relation.max())) + 1
        self._tails = _ByRelation(pool.relation, pool.tail, relations)
        self._kinds_of = {
            "tail": _ByRelation.each_once(pool.relation, pool.tail, relations),
            "head": _ByRelation.each_once(pool.relation, pool.head, relations),
        }
        self._same = np.isin(np.arange(relations), same_relation)
        self._known = np.unique(self._keys(known.head, known.relation, known.tail))

    def with_true(self, facts: Facts, making: Making, random: np.random.Generator) -> Facts:
        """True triples, each followed by the false ones made from it.

        A false one of ``easy`` that spells like the true one is labelled true, as in the original; of the other kinds, one
        that is known as true, or spells like the one it was made from, is drawn anew, and left out after `TRIES` times.
        """
        extra = random.integers(making.fewest, making.most + 1, len(facts)) - 1
        made, rows = KINDS[making.kind](self, facts, extra, making, random)
        order = np.argsort(np.concatenate([np.arange(len(facts)), rows]), kind="stable")
        return Facts.join([facts, made]).select(order)

    def _easy(self, facts: Facts, extra: np.ndarray, making: Making, random: np.random.Generator) -> tuple[Facts, np.ndarray]:
        """Tails of other relations, each of another one."""
        filled = np.flatnonzero(self._tails.sizes)
        if len(filled) < 2:
            raise DataError("easy false triples take tails of other relations, and there is one relation; take same_type")
        extra = np.where(self._same[facts.relation], np.minimum(extra, 1), np.minimum(extra, len(filled) - 1))
        rows = np.repeat(np.arange(len(facts)), extra)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(extra) - extra, extra)
        others = np.concatenate(
            [self._other_relations(part, filled, int(extra.max(initial=0)), random) for part in _chunks(facts.relation)]
        )
        relation = np.where(self._same[facts.relation[rows]], facts.relation[rows], others[rows, nth])
        tail = self._tails.draw(relation, random)
        label = self._spelling[tail] == self._spelling[facts.tail[rows]]
        return Facts(facts.head[rows], facts.relation[rows], tail, label), rows

    @staticmethod
    def _other_relations(relation: np.ndarray, filled: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """``count`` different relations for each row, none its own. *Shape:* (n, count)"""
        ranks = random.random((len(relation), len(filled)))
        ranks[relation[:, None] == filled] = 2.0
        return filled[np.argsort(ranks, axis=1)[:, :count]]

    def _filtered(
        self, facts: Facts, extra: np.ndarray, making: Making, random: np.random.Generator
    ) -> tuple[Facts, np.ndarray]:
        """Heads or tails of the same type, or any; never a triple that is known as true."""
        rows = np.repeat(np.arange(len(facts)), extra)
        head, tail, relation = facts.head[rows].copy(), facts.tail[rows].copy(), facts.relation[rows]
        of_head = random.random(len(rows)) < 0.5 if making.both else np.zeros(len(rows), dtype=bool)
        left = np.arange(len(rows))
        for _ in range(TRIES):
            for place, ends, those in (("head", head, left[of_head[left]]), ("tail", tail, left[~of_head[left]])):
                typed = making.kind == "same_type"
                any_of = self._kinds_of[place].draw(relation[those], random) if typed else None
                ends[those] = random.integers(0, self._entities, len(those)) if any_of is None else any_of
            again = self._is_known(head[left], relation[left], tail[left])
            again |= (self._spelling[head[left]] == self._spelling[facts.head[rows[left]]]) & (
                self._spelling[tail[left]] == self._spelling[facts.tail[rows[left]]]
            )
            left = left[again]
            if len(left) == 0:
                break
        kept = np.setdiff1d(np.arange(len(rows)), left)
        return Facts(head[kept], relation[kept], tail[kept], np.zeros(len(kept), dtype=bool)), rows[kept]

    def _is_known(self, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> np.ndarray:
        keys = self._keys(head, relation, tail)
        place = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        return self._known[place] == keys

    def _keys(self, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> np.ndarray:
        return (relation * self._entities + head) * self._entities + tail


class _ByRelation:
    """Entities that stand beside each relation; one that stands there often is drawn as often.

    Args:
        relation, entity: pairs. *Shape:* (n,)
        relations: number of relations.
    """

    def __init__(self, relation: np.ndarray, entity: np.ndarray, relations: int) -> None:
        self._entities = entity[np.argsort(relation, kind="stable")]
        self.sizes = np.bincount(relation, minlength=relations)
        self._starts = np.cumsum(self.sizes) - self.sizes

    @classmethod
    def each_once(cls, relation: np.ndarray, entity: np.ndarray, relations: int) -> _ByRelation:
        """Each entity of a relation is drawn as often as any other."""
        pairs = np.unique(np.stack([relation, entity]), axis=1)
        return cls(pairs[0], pairs[1], relations)

    def draw(self, relation: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """An entity for each relation; where a relation has none, any of all. *Shape:* (n,)"""
        sizes = self.sizes[relation]
        size, start = np.where(sizes, sizes, len(self._entities)), np.where(sizes, self._starts[relation], 0)
        return self._entities[start + (random.random(len(relation)) * size).astype(np.int64)]


def _chunks(values: np.ndarray) -> list[np.ndarray]:
    return [values[i : i + CHUNK] for i in range(0, max(len(values), 1), CHUNK)]


Maker = Callable[[Negatives, Facts, np.ndarray, Making, np.random.Generator], tuple[Facts, np.ndarray]]

KINDS: dict[str, Maker] = {
    "easy": Negatives._easy,
    "same_type": Negatives._filtered,
    "uniform": Negatives._filtered,
}
