"""Siblings: entities that one relation joins to the same entity, as it joins the clubs of a city to the city.

In "Everton lost to Liverpool" the club Everton speaks for the city Liverpool, its seat. But the city is the seat of another
candidate of the mention too: Liverpool F.C. A triple that a mentioned entity and a candidate have in common does not tell that
candidate from the tail of the triple: coherence gives both the same message, and the scores of the text decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from blink.data.prior_file import PriorTable
from blink.data.ranges import expand

MANY_TRIPLES = 1024
"""Heads of more are searched by tail, rather than all of their triples copied."""


class Siblings:
    """Looks up which of some entities are heads of triples with one relation and one tail among them.

    Args:
        triples: head, relation and tail, by index in the table. *Shape:* (n, 3), int32.
        entities: of the table.
    """

    def __init__(self, triples: np.ndarray, entities: int) -> None:
        by_head = triples[np.lexsort((triples[:, 2], triples[:, 0]))]
        self._relations, self._tails = by_head[:, 1].astype(np.int32), by_head[:, 2].astype(np.int32)
        self._first = np.searchsorted(by_head[:, 0], np.arange(entities + 1))

    @classmethod
    def from_table(cls, table: PriorTable) -> Siblings | None:
        """Those of a table; None if its file is of a version without triples."""
        return None if table.triples is None else cls(table.triples, len(table))

    def __call__(self, entities: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a tail and its heads by one relation, at least two, for each tail and relation.

        Args:
            entities: indices in the table, ascending, without repetition; -1 is in no triple. *Shape:* (n,).

        Yields:
            the tail and the heads as positions in ``entities``. *Shape of the heads:* (h,), h > 1.
        """
        triples, heads = self._among(entities)
        positions = np.searchsorted(entities, self._tails[triples])
        other = positions != heads
        heads, positions, relations = heads[other], positions[other], self._relations[triples[other]]
        keys = np.stack([positions, relations], axis=1)
        groups, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        for group in np.flatnonzero(counts > 1).tolist():
            yield int(groups[group, 0]), np.unique(heads[inverse.reshape(-1) == group])

    def _among(self, entities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The triples whose head and tail are among some entities, and the position of the head. *Shape:* (n,), int64, each."""
        # By heads, since few entities are heads of many triples, and a country is the tail of millions.
        begin, end = (self._first[np.maximum(entities, 0) + i] * (entities >= 0) for i in (0, 1))
        of_many = end - begin > MANY_TRIPLES
        triples, heads = expand(begin, np.where(of_many, begin, end))
        tails = self._tails[triples]
        inside = entities[np.searchsorted(entities, tails).clip(max=len(entities) - 1)] == tails
        rows, of_head = [triples[inside]], [heads[inside]]
        for head in np.flatnonzero(of_many).tolist():  # each entity is looked up in its tails, which ascend
            tails = self._tails[begin[head] : end[head]]
            first, past = np.searchsorted(tails, entities), np.searchsorted(tails, entities, "right")
            rows.append(begin[head] + expand(first, past)[0])
            of_head.append(np.full(len(rows[-1]), head))
        return np.concatenate(rows), np.concatenate(of_head)


@dataclass(frozen=True)
class SharedMessages:
    """How much more related candidates are to mentioned entities, for one mention each.

    Attributes:
        mentions: index of the mention. *Shape:* (n,).
        senders, receivers: positions of the mentioned entity and of the candidate. *Shape:* (n,).
        changes: added to how related the two are. *Shape:* (n,), float32.
    """

    mentions: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    changes: np.ndarray

    def add(self, messages: np.ndarray, beliefs: np.ndarray) -> None:
        """Add to the messages that candidates receive.

        Args:
            messages: to each entity, for each mention; changed in place. *Shape:* (m, entities).
            beliefs: sums over the mentions that send messages to each. *Shape:* (m, entities).
        """
        np.add.at(messages, (self.mentions, self.receivers), beliefs[self.mentions, self.senders] * self.changes)


def shared_messages(
    phi: np.ndarray, probabilities: np.ndarray, groups: Iterable[tuple[int, np.ndarray]]
) -> SharedMessages | None:
    """How the messages of siblings change for each mention; None where there are none.

    Let a mention have candidates t and r of probabilities p(t) and p(r) by the scores alone, and let s and r be heads of
    triples with one relation and the tail t. Then phi(s, t) is multiplied by min(p(t) / p(r), 1), with the likeliest r of them
    all, and phi(s, r) is at least the product: an edge to a tail that is unlikely says little of either.

    Args:
        phi: how related entities are. *Shape:* (entities, entities).
        probabilities: of the candidates of each mention, 0 for other entities. *Shape:* (m, entities).
        groups: tails and their heads, of `Siblings`, as positions in ``phi``.
    """
    lowered: dict[tuple[int, int, int], float] = {}
    raised: dict[tuple[int, int, int], float] = {}
    for tail, heads in groups:
        for mention in np.flatnonzero(probabilities[:, tail]).tolist():
            likely, receivers = probabilities[mention], heads[probabilities[mention, heads] > 0]
            for sender in heads.tolist() if len(receivers) else ():
                others = receivers[receivers != sender]
                if not len(others):
                    continue
                both = float(phi[sender, tail]) * min(likely[tail] / likely[others].max(), 1.0)
                key = (mention, sender, tail)
                lowered[key] = min(lowered.get(key, 0.0), both - float(phi[sender, tail]))
                for receiver in others.tolist():
                    key = (mention, sender, receiver)
                    raised[key] = max(raised.get(key, 0.0), both - float(phi[sender, receiver]))
    changes = {key: lowered.get(key, 0.0) + raised.get(key, 0.0) for key in {**lowered, **raised}}
    changes = {key: change for key, change in changes.items() if change}
    if not changes:
        return None
    mentions, senders, receivers = np.array(list(changes), dtype=np.int64).T
    return SharedMessages(mentions, senders, receivers, np.array(list(changes.values()), dtype=np.float32))
