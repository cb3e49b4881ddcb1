"""How entity vectors and word vectors pull at each other: a shared row, a distance, or a contrast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blink.errors import SettingsError
from blink.kglm.glove.alignment import AlignedBatch, Alignment
from blink.kglm.glove.model import GloVe
from blink.runs.seeds import generator_for

COUPLINGS = ("soft", "contrastive", "hard", "none")
MAPS = ("learned", "identity")


class TiedTable(nn.Module):
    """Word rows of which some *are* entity rows: one parameter, looked up through an index, never a copy.

    Gradients of either task reach the shared rows, which the optimiser of the entity table moves.

    Args:
        entities: the entity table. *Shape:* (entities, width).
        own: first values of all word rows; those of words that have an entity are dropped. *Shape:* (words, width).
        pairs: entities that one word stands for, see `Alignment.singles`.
        sparse: whether gradients hold only the rows in use.

    Raises:
        SettingsError: the tables are of different widths.
    """

    place: Tensor
    alone: Tensor

    def __init__(self, entities: nn.Parameter, own: Tensor, pairs: Alignment, sparse: bool = False) -> None:
        super().__init__()
        if entities.dim() != 2 or entities.shape[1] != own.shape[1]:
            found = f"an entity has {tuple(entities.shape[1:])} numbers, a word {own.shape[1]}"
            remedy = "set words.dim to model.dim (of complex and rotate, both halves count), or use joint.coupling soft"
            raise SettingsError(f"a shared row needs one width: {found}; {remedy}")
        shared = torch.from_numpy(pairs.words[pairs.starts[:-1]])
        place = torch.zeros(len(own), dtype=torch.int64)
        alone = torch.ones(len(own), dtype=torch.bool)
        alone[shared] = False
        place[alone] = torch.arange(int(alone.sum()))
        place[shared] = torch.from_numpy(pairs.entities)
        self.register_buffer("place", place)
        self.register_buffer("alone", alone)
        self.weight = nn.Parameter(own[alone].clone())
        self._entities = [entities]  # in a list: the entity table belongs to the graph's model, and is saved there
        self._sparse = sparse

    def forward(self, ids: Tensor) -> Tensor:
        """*Shape:* (n,) to (n, width)."""
        place, alone = self.place[ids], self.alone[ids]
        rows = self.weight.new_empty(len(ids), self.weight.shape[1])
        rows = rows.index_put((alone.nonzero().squeeze(1),), self._rows(place[alone], self.weight))
        return rows.index_put(((~alone).nonzero().squeeze(1),), self._rows(place[~alone], self._entities[0]))

    def all(self) -> Tensor:
        """All rows. *Shape:* (words, width)."""
        return self(torch.arange(len(self.place), device=self.place.device))

    def _rows(self, places: Tensor, table: Tensor) -> Tensor:
        return functional.embedding(places, table, sparse=self._sparse)


class Coupling(nn.Module):
    """A loss that brings entities near the words that stand for them.

    * ``soft``: ``mean a |M e - (u + v) / 2|^2`` over pairs of an entity and its words, ``a`` their confidence; ``M`` is
      learned, or the identity.
    * ``contrastive``: cross-entropy of finding, by the cosine, an entity's words among those of the batch and the other way
      round (InfoNCE, van den Oord et al. 2018). Shrinking norms does not lower it.

    Args:
        kind: ``soft`` or ``contrastive``.
        alignment: the pairs.
        entity_width: numbers per entity.
        word_width: numbers per word.
        mapping: one of `MAPS`.
        temperature: of the contrast.
        seed: of the first ``M`` where widths differ.

    Raises:
        SettingsError: kind or mapping is unknown, or the identity cannot be between these widths.
    """

    def __init__(
        self,
        kind: str,
        alignment: Alignment,
        entity_width: int,
        word_width: int,
        *,
        mapping: str = "learned",
        temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in LOSSES or mapping not in MAPS:
            allowed = f"joint.coupling is one of {', '.join(COUPLINGS)}; joint.map one of {', '.join(MAPS)}"
            raise SettingsError(f"joint.coupling is {kind!r} and joint.map {mapping!r}; {allowed}")
        if mapping == "identity" and entity_width != word_width:
            found = f"an entity has {entity_width} numbers, a word {word_width}"
            raise SettingsError(
                f"joint.map identity needs one width: {found}; set words.dim to model.dim, or joint.map learned"
            )
        self.kind, self.alignment, self.temperature = kind, alignment, temperature
        self.map: nn.Parameter | None = None
        if mapping == "learned":
            self.map = nn.Parameter(_first_map(entity_width, word_width, seed))

    def forward(self, batch: AlignedBatch, entities: Tensor, words: GloVe) -> Tensor:
        """The loss of a batch of pairs.

        Args:
            batch: the pairs.
            entities: their entities' vectors. *Shape:* (batch, entity width).
            words: where word vectors come from.
        """
        mapped = self.mapped(entities)
        targets = batch.means(words.vectors(batch.words) / 2)
        return LOSSES[self.kind](mapped, targets, batch.confidence, self.temperature)

    def mapped(self, entities: Tensor) -> Tensor:
        """``M e``. *Shape:* (n, entity width) to (n, word width)."""
        return entities if self.map is None else entities @ self.map.T


def _first_map(entity_width: int, word_width: int, seed: int) -> Tensor:
    """The identity, or where widths differ a map that keeps lengths and angles as far as that goes."""
    if entity_width == word_width:
        return torch.eye(word_width)
    drawn = torch.randn(word_width, entity_width, generator=generator_for(seed, "coupling"))
    wide = drawn if word_width <= entity_width else drawn.T
    rows = torch.linalg.qr(wide.T)[0].T.contiguous()
    return rows if word_width <= entity_width else rows.T.contiguous()


def distance_loss(mapped: Tensor, targets: Tensor, confidence: Tensor, temperature: float) -> Tensor:
    """``mean a |M e - t|^2``. *Shapes:* (batch, width) twice, (batch,)."""
    return (confidence * (mapped - targets).square().sum(1)).mean()


def contrast_loss(mapped: Tensor, targets: Tensor, confidence: Tensor, temperature: float) -> Tensor:
    """Mean of both directions' cross-entropies, weighed by confidence. *Shapes:* (batch, width) twice, (batch,)."""
    cosines = functional.normalize(mapped, dim=1) @ functional.normalize(targets, dim=1).T / temperature
    own = torch.arange(len(mapped), device=mapped.device)
    there = functional.cross_entropy(cosines, own, reduction="none")
    back = functional.cross_entropy(cosines.T, own, reduction="none")
    return (confidence * (there + back) / 2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {"soft": distance_loss, "contrastive": contrast_loss}


class PairDraws:
    """Batches of aligned pairs: batch n is a function of n alone; within a batch, each pair is once.

    Args:
        alignment: the pairs.
        size: of a batch, at most all.
        seed: of the draws.
        device: where batches go.
    """

    def __init__(self, alignment: Alignment, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self._alignment, self._size, self._seed, self._device = alignment, min(size, len(alignment)), seed, device

    def batch(self, number: int) -> AlignedBatch:
        """Batch ``number``."""
        pairs = np.random.default_rng([self._seed, number]).choice(len(self._alignment), self._size, replace=False)
        return self._alignment.batch(pairs, self._device)
