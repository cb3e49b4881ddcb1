"""Coupling of entity and word embeddings: a shared row, a distance loss, or a contrastive loss."""

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
    """A word table that shares rows with the entity table, through an index and without a copy.

    Gradients of both tasks reach the shared rows, which the optimiser of the entity table updates.

    Args:
        entities: the entity table. *Shape:* (entities, width).
        initial: initial values of all word rows; those of shared rows are dropped. *Shape:* (words, width).
        pairs: one-to-one pairs, see `Alignment.singles`.
        sparse: whether gradients are sparse.

    Raises:
        SettingsError: the tables have different dimensions.
    """

    place: Tensor
    alone: Tensor

    def __init__(self, entities: nn.Parameter, initial: Tensor, pairs: Alignment, sparse: bool = False) -> None:
        super().__init__()
        if entities.dim() != 2 or entities.shape[1] != initial.shape[1]:
            message = f"an entity has shape {tuple(entities.shape[1:])}, a word ({initial.shape[1]},)"
            remedy = "set words.dim to model.dim (twice that for complex and rotate), or use joint.coupling soft"
            raise SettingsError(f"a shared row needs equal dimensions: {message}; {remedy}")
        shared = torch.from_numpy(pairs.words[pairs.starts[:-1]])
        row = torch.zeros(len(initial), dtype=torch.int64)
        alone = torch.ones(len(initial), dtype=torch.bool)
        alone[shared] = False
        row[alone] = torch.arange(int(alone.sum()))
        row[shared] = torch.from_numpy(pairs.entities)
        self.register_buffer("place", row)
        self.register_buffer("alone", alone)
        self.weight = nn.Parameter(initial[alone].clone())
        # In a list, so that it is not registered: the graph's model owns the entity table and saves it.
        self._entities = [entities]
        self._sparse = sparse

    def forward(self, ids: Tensor) -> Tensor:
        """Look up word vectors. *Shape:* (n,) to (n, width)."""
        rows, alone = self.place[ids], self.alone[ids]
        vectors = self.weight.new_empty(len(ids), self.weight.shape[1])
        vectors = vectors.index_put((alone.nonzero().squeeze(1),), self._embed(rows[alone], self.weight))
        return vectors.index_put(((~alone).nonzero().squeeze(1),), self._embed(rows[~alone], self._entities[0]))

    def all(self) -> Tensor:
        """All word vectors. *Shape:* (words, width)."""
        return self(torch.arange(len(self.place), device=self.place.device))

    def _embed(self, rows: Tensor, table: Tensor) -> Tensor:
        return functional.embedding(rows, table, sparse=self._sparse)


class Coupling(nn.Module):
    """A loss that aligns entity embeddings with the embeddings of their words.

    * ``soft``: ``mean a |M e - (u + v) / 2|^2`` over pairs of an entity and its words, with confidence ``a``. ``M`` is learned,
      or the identity.
    * ``contrastive``: cross-entropy of the words of an entity among those of the batch by cosine similarity, and of the entity
      among those of the batch (InfoNCE, van den Oord et al. 2018). Unlike ``soft``, it does not decrease when norms shrink.

    Args:
        kind: ``soft`` or ``contrastive``.
        alignment: the pairs.
        entity_width: dimension of entity embeddings.
        word_width: dimension of word embeddings.
        mapping: one of `MAPS`.
        temperature: temperature of the contrastive loss.
        seed: seed of the initial ``M`` if dimensions differ.

    Raises:
        SettingsError: kind or mapping is unknown, or dimensions differ with the identity.
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
            message = f"an entity has {entity_width}, a word {word_width}"
            raise SettingsError(
                f"joint.map identity needs equal dimensions: {message}; set words.dim to model.dim, or joint.map learned"
            )
        self.kind, self.alignment, self.temperature = kind, alignment, temperature
        self.map: nn.Parameter | None = None
        if mapping == "learned":
            self.map = nn.Parameter(_initial_map(entity_width, word_width, seed))

    def forward(self, batch: AlignedBatch, entities: Tensor, words: GloVe) -> Tensor:
        """The loss of a batch of pairs.

        Args:
            batch: the pairs.
            entities: embeddings of the entities. *Shape:* (batch, entity width).
            words: the model of the word vectors.
        """
        mapped = self.mapped(entities)
        targets = batch.means(words.vectors(batch.words) / 2)
        return LOSSES[self.kind](mapped, targets, batch.confidence, self.temperature)

    def mapped(self, entities: Tensor) -> Tensor:
        """``M e``. *Shape:* (n, entity width) to (n, word width)."""
        return entities if self.map is None else entities @ self.map.T


def _initial_map(entity_width: int, word_width: int, seed: int) -> Tensor:
    """The identity, or a random semi-orthogonal matrix if dimensions differ."""
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
    """Mean cross-entropy of both directions, weighted by confidence. *Shapes:* (batch, width) twice, (batch,)."""
    cosines = functional.normalize(mapped, dim=1) @ functional.normalize(targets, dim=1).T / temperature
    labels = torch.arange(len(mapped), device=mapped.device)
    to_words = functional.cross_entropy(cosines, labels, reduction="none")
    to_entities = functional.cross_entropy(cosines.T, labels, reduction="none")
    return (confidence * (to_words + to_entities) / 2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {"soft": distance_loss, "contrastive": contrast_loss}


class PairDraws:
    """Random batches of aligned pairs. Batch n is a function of n alone. A batch has each pair at most once.

    Args:
        alignment: the pairs.
        size: batch size; at most the number of pairs.
        seed: seed of the samples.
        device: device of the batches.
    """

    def __init__(self, alignment: Alignment, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self._alignment, self._size, self._seed, self._device = alignment, min(size, len(alignment)), seed, device

    def batch(self, number: int) -> AlignedBatch:
        """Batch ``number``."""
        pairs = np.random.default_rng([self._seed, number]).choice(len(self._alignment), self._size, replace=False)
        return self._alignment.batch(pairs, self._device)
