"""Negative sampling: corrupted triples. The kind of corruption determines how hard the classification task is.

- ``easy``: the tail is replaced by a tail of another relation, so the type of the tail is enough to detect it. This is the
  original's method, which gives accuracies above 90 %. Known true triples are not filtered. For relations of ``same_relation``,
  which have few distinct tails (``gender``), the new tail is another tail of the relation.
- ``same_type``: the tail (or, with ``both``, the head) is replaced by an entity that occurs in that position of the relation.
- ``uniform``: the tail (or head) is replaced by any entity.

Published negatives of a dataset are read from files instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blink.errors import DataError, SettingsError
from blink.kglm.lm.triples import Facts

TRIES = 20
"""Maximum number of attempts for a negative that is not a known true triple."""
CHUNK = 1 << 14


@dataclass(frozen=True)
class NegativeSampling:
    """Settings of negative sampling.

    Attributes:
        kind: one of `KINDS`.
        fewest: minimum number of rows per true triple, that triple included.
        most: maximum number of rows per true triple.
        both: replace the head or the tail at random; otherwise the tail.
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
    """Samples negatives.

    Args:
        pool: training triples whose heads and tails replace others.
        true_facts: true triples of all splits, which are never negatives (except for ``easy``).
        name_keys: an integer per entity, the same for entities of the same name. *Shape:* (entities,)
        same_relation: relations for which ``easy`` samples tails of the same relation.
    """

    def __init__(self, pool: Facts, true_facts: Facts, name_keys: np.ndarray, same_relation: np.ndarray) -> None:
        self._name_keys = name_keys
        self._entities, relations = len(name_keys), int(max(true_facts.relation.max(), pool.relation.max())) + 1
        self._tails = _ByRelation(pool.relation, pool.tail, relations)
        self._entities_by_side = {
            "tail": _ByRelation.of_unique_pairs(pool.relation, pool.tail, relations),
            "head": _ByRelation.of_unique_pairs(pool.relation, pool.head, relations),
        }
        self._same = np.isin(np.arange(relations), same_relation)
        self._true_keys = np.unique(self._keys(true_facts.head, true_facts.relation, true_facts.tail))

    def with_true(self, facts: Facts, sampling: NegativeSampling, random: np.random.Generator) -> Facts:
        """True triples, each followed by its negatives.

        A negative of ``easy`` with the same names as the true triple is labelled true, as in the original. Other kinds sample
        again if the result is a known true triple or has the names of the true triple, and drop it after `TRIES` attempts.
        """
        extra = random.integers(sampling.fewest, sampling.most + 1, len(facts)) - 1
        negatives, rows = KINDS[sampling.kind](self, facts, extra, sampling, random)
        order = np.argsort(np.concatenate([np.arange(len(facts)), rows]), kind="stable")
        return Facts.join([facts, negatives]).select(order)

    def _easy(
        self, facts: Facts, extra: np.ndarray, sampling: NegativeSampling, random: np.random.Generator
    ) -> tuple[Facts, np.ndarray]:
        """Tails of other relations; the tails of one triple come from different relations."""
        relations_with_tails = np.flatnonzero(self._tails.sizes)
        if len(relations_with_tails) < 2:
            raise DataError(
                "easy negatives need tails of other relations, and the graph has one relation; set negatives.kind to same_type"
            )
        most = len(relations_with_tails) - 1
        extra = np.where(self._same[facts.relation], np.minimum(extra, 1), np.minimum(extra, most))
        rows = np.repeat(np.arange(len(facts)), extra)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(extra) - extra, extra)
        count = int(extra.max(initial=0))
        others = np.concatenate(
            [self._other_relations(chunk, relations_with_tails, count, random) for chunk in _chunks(facts.relation)]
        )
        relation = np.where(self._same[facts.relation[rows]], facts.relation[rows], others[rows, nth])
        tail = self._tails.draw(relation, random)
        label = self._name_keys[tail] == self._name_keys[facts.tail[rows]]
        return Facts(facts.head[rows], facts.relation[rows], tail, label), rows

    @staticmethod
    def _other_relations(relation: np.ndarray, pool: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """Sample ``count`` distinct relations of ``pool`` for each row, without the row's relation. *Shape:* (n, count)"""
        ranks = random.random((len(relation), len(pool)))
        ranks[relation[:, None] == pool] = 2.0
        return pool[np.argsort(ranks, axis=1)[:, :count]]

    def _filtered(
        self, facts: Facts, extra: np.ndarray, sampling: NegativeSampling, random: np.random.Generator
    ) -> tuple[Facts, np.ndarray]:
        """Heads or tails of the same type, or any; never a triple that is known as true."""
        rows = np.repeat(np.arange(len(facts)), extra)
        head, tail, relation = facts.head[rows].copy(), facts.tail[rows].copy(), facts.relation[rows]
        corrupt_head = random.random(len(rows)) < 0.5 if sampling.both else np.zeros(len(rows), dtype=bool)
        open_rows = np.arange(len(rows))
        for _ in range(TRIES):
            for side, ends, rows_of_side in (
                ("head", head, open_rows[corrupt_head[open_rows]]),
                ("tail", tail, open_rows[~corrupt_head[open_rows]]),
            ):
                if sampling.kind == "same_type":
                    ends[rows_of_side] = self._entities_by_side[side].draw(relation[rows_of_side], random)
                else:
                    ends[rows_of_side] = random.integers(0, self._entities, len(rows_of_side))
            rejected = self._is_true(head[open_rows], relation[open_rows], tail[open_rows])
            rejected |= (self._name_keys[head[open_rows]] == self._name_keys[facts.head[rows[open_rows]]]) & (
                self._name_keys[tail[open_rows]] == self._name_keys[facts.tail[rows[open_rows]]]
            )
            open_rows = open_rows[rejected]
            if len(open_rows) == 0:
                break
        accepted = np.setdiff1d(np.arange(len(rows)), open_rows)
        return Facts(head[accepted], relation[accepted], tail[accepted], np.zeros(len(accepted), dtype=bool)), rows[accepted]

    def _is_true(self, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> np.ndarray:
        keys = self._keys(head, relation, tail)
        position = np.minimum(np.searchsorted(self._true_keys, keys), len(self._true_keys) - 1)
        return self._true_keys[position] == keys

    def _keys(self, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> np.ndarray:
        return (relation * self._entities + head) * self._entities + tail


class _ByRelation:
    """Heads or tails of each relation, sampled in proportion to their frequency.

    Args:
        relation, entity: pairs. *Shape:* (n,)
        relations: number of relations.
    """

    def __init__(self, relation: np.ndarray, entity: np.ndarray, relations: int) -> None:
        self._entities = entity[np.argsort(relation, kind="stable")]
        self.sizes = np.bincount(relation, minlength=relations)
        self._starts = np.cumsum(self.sizes) - self.sizes

    @classmethod
    def of_unique_pairs(cls, relation: np.ndarray, entity: np.ndarray, relations: int) -> _ByRelation:
        """Sample the entities of a relation uniformly."""
        pairs = np.unique(np.stack([relation, entity]), axis=1)
        return cls(pairs[0], pairs[1], relations)

    def draw(self, relation: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Sample an entity for each relation; any entity if the relation has none. *Shape:* (n,)"""
        sizes = self.sizes[relation]
        size, start = np.where(sizes, sizes, len(self._entities)), np.where(sizes, self._starts[relation], 0)
        return self._entities[start + (random.random(len(relation)) * size).astype(np.int64)]


def _chunks(values: np.ndarray) -> list[np.ndarray]:
    return [values[i : i + CHUNK] for i in range(0, max(len(values), 1), CHUNK)]


Sampler = Callable[[Negatives, Facts, np.ndarray, NegativeSampling, np.random.Generator], tuple[Facts, np.ndarray]]

KINDS: dict[str, Sampler] = {
    "easy": Negatives._easy,
    "same_type": Negatives._filtered,
    "uniform": Negatives._filtered,
}
