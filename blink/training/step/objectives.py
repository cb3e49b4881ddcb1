"""Entity losses by name, with the negatives that each uses.

| name | negatives of a mention |
| --- | --- |
| ``catalogue`` | all other entities: an exact softmax, for frozen entity vectors |
| ``in_batch`` | the other entities of the batch, of all processes |
| ``hard_negatives`` | entities mined for the mention, see `blink.training.step.negatives` |
| ``hard_negatives_bce`` | the same, with binary cross-entropy per pair, as the original's ``--adversarial_training`` |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blink.data.records import NOT_IN_CATALOGUE
from blink.training.data.examples import Batch
from blink.training.settings import parse_objective
from blink.training.step.losses import catalogue_loss, choice_loss, in_batch_loss, pair_loss


@dataclass(frozen=True)
class Entities:
    """Entity vectors that a step compares its mentions with.

    Attributes:
        rows: catalogue rows, ascending. *Shape:* (n,), int64.
        vectors: of these rows. *Shape:* (n, d), float32.
        batch: indices into ``rows`` of the gold entities of the batch. *Shape:* (named,), int64.
        catalogue: vectors of all entities, if an objective needs them. *Shape:* (entities, d).
    """

    rows: Tensor
    vectors: Tensor
    batch: Tensor
    catalogue: Tensor | None = None

    def vectors_of(self, rows: Tensor) -> Tensor:
        """Vectors of catalogue rows, all of which must be in ``self.rows``. *Shape:* that of ``rows`` with (d,) appended."""
        return self.vectors[torch.searchsorted(self.rows, rows)]


@dataclass(frozen=True)
class Objective:
    """An entity loss.

    Attributes:
        loss: of a micro-batch, from its mention vectors (m, d), the micro-batch, the entities and the total of the batch.
        count: contribution of a micro-batch to that total.
        whole_catalogue: whether it needs the vectors of all entities.
        mined: how its negatives are mined: ``full`` (the requested number, and entities of the same name) or ``nearest`` (the
            nearest entities, with a gap at the gold entity); None if it needs none.
    """

    loss: Callable[[Tensor, Batch, Entities, int], Tensor]
    count: Callable[[Batch], int]
    needs_catalogue: bool = False
    mined: str | None = None


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of a sum such as ``in_batch+hard_negatives``.

    Raises:
        SettingsError: one is unknown.
    """
    return tuple(OBJECTIVES[name] for name in parse_objective(text))


def needed_rows(batches: Sequence[Batch]) -> Tensor:
    """Catalogue rows of the entities and negatives of batches, ascending. *Shape:* (n,), int64."""
    rows = [b.rows for b in batches] + [b.negatives.flatten() for b in batches if b.negatives is not None]
    rows_needed = torch.cat(rows).unique() if rows else torch.empty(0, dtype=torch.long)
    return rows_needed[rows_needed != NOT_IN_CATALOGUE]


def _known(batch: Batch) -> Tensor:
    return batch.rows != NOT_IN_CATALOGUE


def _count_known(batch: Batch) -> int:
    return int(_known(batch).sum())


def _catalogue(mentions: Tensor, batch: Batch, entities: Entities, total: int) -> Tensor:
    assert entities.catalogue is not None
    return catalogue_loss(mentions, batch.rows, entities.catalogue, total)


def _in_batch(mentions: Tensor, batch: Batch, entities: Entities, total: int) -> Tensor:
    known = _known(batch)
    columns = entities.vectors[entities.batch]
    gold = torch.searchsorted(entities.rows[entities.batch], batch.rows[known])
    return in_batch_loss(mentions[known] @ columns.T, gold, total)


def _scored(mentions: Tensor, batch: Batch, entities: Entities) -> tuple[Tensor, Tensor]:
    """Scores of known mentions with their entities (m,) and with their negatives (m, k)."""
    known = _known(batch)
    assert batch.negatives is not None
    negatives = batch.negatives[known]
    others = entities.vectors_of(negatives.where(negatives != NOT_IN_CATALOGUE, batch.rows[known][:, None]))
    gold = (mentions[known] * entities.vectors_of(batch.rows[known])).sum(-1)
    return gold, torch.einsum("md,mkd->mk", mentions[known], others)


def _hard(mentions: Tensor, batch: Batch, entities: Entities, total: int) -> Tensor:
    assert batch.negatives is not None
    gold, others = _scored(mentions, batch, entities)
    return choice_loss(gold, others, batch.negatives[_known(batch)] != NOT_IN_CATALOGUE, total)


def _pairs(mentions: Tensor, batch: Batch, entities: Entities, total: int) -> Tensor:
    gold, others = _scored(mentions, batch, entities)
    return pair_loss(gold, others, counted_pairs(batch), total)


def counted_pairs(batch: Batch) -> Tensor:
    """Mask of the negatives that count: the r-th of a mention, unless a mention of the same text lacks its r-th.

    Returns:
        *Shape:* (known mentions, k), bool.
    """
    assert batch.negatives is not None
    known = _known(batch)
    gaps = (batch.negatives[known] == NOT_IN_CATALOGUE).float()
    text = batch.text[known]
    of_text = torch.zeros(len(batch.mask), gaps.shape[1], device=gaps.device).index_add_(0, text, gaps)
    return of_text[text] == 0


def _count_pairs(batch: Batch) -> int:
    return _count_known(batch) + int(counted_pairs(batch).sum())


OBJECTIVES = {
    "catalogue": Objective(_catalogue, _count_known, needs_catalogue=True),
    "in_batch": Objective(_in_batch, _count_known),
    "hard_negatives": Objective(_hard, _count_known, mined="full"),
    "hard_negatives_bce": Objective(_pairs, _count_pairs, mined="nearest"),
}
