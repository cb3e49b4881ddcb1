"""How related entities are by the triples of a graph: joined by one, or with the same neighbours.

    phi(a, b) = min(1, [a triple joins a and b] + sum over neighbours x of both of 1 / log(1 + degree(x)))

(Adamic and Adar 2003). Some entities of a large graph are hubs: a country, or "human", has millions of neighbours. Their lists
are searched for the neighbours of the others and never copied, and two hubs are compared once, up to the neighbour where phi
is 1; of very long lists a sample is read.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from blink.data.prior_file import PriorTable

HUB_DEGREE = 1024
"""Entities with more neighbours are hubs."""
SAMPLE = 1 << 16
"""Neighbours of the smaller of two hubs that are looked up in the other's, evenly spread; their sum stands for all of them."""
_STEP = 1 << 12
_BLOCK = 1 << 13
_MOST_PAIRS = 1 << 20


class SharedNeighbours:
    """Looks up how related entities of a table are.

    Args:
        table: of the graph.
    """

    def __init__(self, table: PriorTable) -> None:
        n = self._n = max(len(table), 1)
        one, other = table.edges.astype(np.int64).T
        keys = np.concatenate([one * n + other, other * n + one])
        keys.sort()
        self._keys, self._first = keys, np.searchsorted(keys, np.arange(len(table) + 1) * n)
        self._neighbours = (keys % n).astype(np.int32)
        self._rarity = (1 / np.log1p(np.maximum(np.diff(self._first), 2))).astype(np.float32)
        self._of_hubs: dict[tuple[int, int], float] = {}

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """How related each pair is.

        Args:
            indices: of entities in the table, without repetition. *Shape:* (n,).

        Returns:
            *Shape:* (n, n), float32, with zeros on the diagonal.
        """
        phi = np.zeros((len(indices), len(indices)), dtype=np.float32)
        if not len(self._keys):
            return phi
        phi += self._joined(indices)
        is_hub = np.diff(self._first)[indices] > HUB_DEGREE
        self._add_shared(phi, indices, is_hub)
        hubs = np.flatnonzero(is_hub).tolist()
        for a, i in enumerate(hubs):
            for j in hubs[:a]:
                phi[i, j] = phi[j, i] = phi[i, j] + self._of_two_hubs(int(indices[i]), int(indices[j]))
        np.fill_diagonal(phi, 0)
        return np.minimum(phi, 1, out=phi)

    def _joined(self, indices: np.ndarray) -> np.ndarray:
        pairs = indices[:, None] * np.int64(self._n) + indices
        joined: np.ndarray = self._keys[np.searchsorted(self._keys, pairs).clip(max=len(self._keys) - 1)] == pairs
        return joined

    def _around(self, entity: int) -> np.ndarray:
        """The neighbours of an entity, ascending."""
        return self._neighbours[self._first[entity] : self._first[entity + 1]]

    def _add_shared(self, phi: np.ndarray, indices: np.ndarray, is_hub: np.ndarray) -> None:
        """Add what pairs share of which at least one is no hub: columns are the neighbours of those that are none."""
        few = np.flatnonzero(~is_hub)
        around = [self._around(i) for i in indices[few].tolist()]
        columns, column = np.unique(np.concatenate([*around, np.empty(0, np.int32)]), return_inverse=True)
        if not len(columns):
            return
        rows = np.repeat(few, [len(a) for a in around])
        of_hubs = [(hub, np.flatnonzero(_are_in(columns, self._around(int(indices[hub]))))) for hub in np.flatnonzero(is_hub)]
        rows = np.concatenate([rows, *(np.full(len(members), hub) for hub, members in of_hubs)])
        column = np.concatenate([column.reshape(-1), *(members for _, members in of_hubs)])
        # A neighbour of one entity is shared by none: what remains is few columns, in blocks of a bounded size.
        shared = np.flatnonzero(np.bincount(column, minlength=len(columns)) > 1)
        new_column = np.full(len(columns), -1)
        new_column[shared] = np.arange(len(shared))
        column = new_column[column]
        rows, column = rows[column >= 0], column[column >= 0]
        order = np.argsort(column, kind="stable")
        rows, column = rows[order], column[order]
        bounds = np.searchsorted(column, np.arange(0, len(shared) + _BLOCK, _BLOCK))
        for block, (start, end) in enumerate(pairwise(bounds.tolist())):
            incidence = np.zeros((len(indices), min(_BLOCK, len(shared) - block * _BLOCK)), dtype=np.float32)
            incidence[rows[start:end], column[start:end] - block * _BLOCK] = 1
            rarity = self._rarity[columns[shared[block * _BLOCK : (block + 1) * _BLOCK]]]
            added = (incidence * rarity) @ incidence.T
            added[np.ix_(is_hub, is_hub)] = 0  # these columns are not all that two hubs share
            phi += added

    def _of_two_hubs(self, one: int, other: int) -> float:
        """What two hubs share, at most 1."""
        key = (one, other) if one < other else (other, one)
        if key not in self._of_hubs:
            if len(self._of_hubs) >= _MOST_PAIRS:
                self._of_hubs.clear()
            small, large = sorted(map(self._around, key), key=len)
            sample = small if len(small) <= SAMPLE else small[np.linspace(0, len(small) - 1, SAMPLE).astype(np.int64)]
            total, scale = 0.0, len(small) / len(sample)
            for start in range(0, len(sample), _STEP):
                step = sample[start : start + _STEP]
                total += scale * float(self._rarity[step[_are_in(step, large)]].sum())
                if total >= 1:
                    break
            self._of_hubs[key] = min(total, 1.0)
        return self._of_hubs[key]


def _are_in(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Which of some values are among others, which are sorted. *Shape:* that of ``values``, bool."""
    positions = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    are_equal: np.ndarray = ascending[positions] == values
    return are_equal
