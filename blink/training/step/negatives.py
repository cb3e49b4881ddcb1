"""Hard negatives: the nearest wrong entities of a mention, and other entities of its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import Tensor

from blink.data.records import NOT_IN_CATALOGUE
from blink.kb.alias_table import AliasTable
from blink.kb.index import ExactIndex, Index
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import CHUNK_ROWS
from blink.model.tokenizer import Tokenizer
from blink.training.data.examples import Batch
from blink.training.settings import TrainSettings
from blink.training.step.stepper import Stepper

Rows: TypeAlias = npt.NDArray[np.int64]


class Miner:
    """Finds negatives in an index.

    Args:
        index: of the model's current entity vectors.
        tokenizer: decodes mentions.
        aliases: titles and aliases; None for no entities of the same name.
        mined: nearest entities per mention.
        namesakes: most entities per mention that have its name among their aliases, in addition to the nearest ones.
        bad: whether a catalogue row is a broken line, which is not an entity.
    """

    def __init__(
        self,
        index: Index,
        tokenizer: Tokenizer,
        aliases: AliasTable | None,
        *,
        mined: int,
        namesakes: int,
        bad: Callable[[int], bool] = lambda row: False,
    ) -> None:
        self._index, self._tokenizer, self._aliases, self._bad = index, tokenizer, aliases, bad
        self._mined, self._namesakes = mined, namesakes if aliases is not None else 0

    def full(self, batch: Batch, vectors: Tensor) -> Tensor:
        """The nearest entities other than the gold entity, then entities of the mention's name, without duplicates.

        Args:
            batch: on the CPU.
            vectors: of its mentions. *Shape:* (mentions, d).

        Returns:
            catalogue rows, padded with -1. *Shape:* (mentions, mined + namesakes), int64.
        """
        nearest = self._search(vectors, self._mined + 1)
        table = np.full((len(nearest), self._mined + self._namesakes), NOT_IN_CATALOGUE, dtype=np.int64)
        for i, gold in enumerate(batch.rows.tolist()):
            if gold == NOT_IN_CATALOGUE:
                continue
            rows = [row for row in nearest[i].tolist() if self._allowed(row, gold)][: self._mined]
            rows += self._named(batch, i, {gold, *rows})
            table[i, : len(rows)] = rows
        return torch.from_numpy(table)

    def nearest(self, batch: Batch, vectors: Tensor) -> Tensor:
        """The nearest entities in order, with -1 instead of the gold entity. Arguments and result are those of `full`."""
        nearest = self._search(vectors, self._mined)
        gold = batch.rows.numpy()[:, None]
        return torch.from_numpy(np.where((nearest == gold) | (gold == NOT_IN_CATALOGUE), NOT_IN_CATALOGUE, nearest))

    def _search(self, vectors: Tensor, k: int) -> Rows:
        if not len(vectors):
            return np.empty((0, k), dtype=np.int64)
        return self._index.search(np.ascontiguousarray(vectors.float().cpu().numpy()), k)[1]

    def _allowed(self, row: int, gold: int) -> bool:
        return row not in (gold, NOT_IN_CATALOGUE) and not self._bad(row)

    def _named(self, batch: Batch, mention: int, excluded: set[int]) -> list[int]:
        if not self._namesakes or self._aliases is None:
            return []
        text, start, end = (int(column[mention]) for column in (batch.text, batch.start, batch.end))
        name = self._tokenizer.decode(batch.ids[text, start : end + 1].tolist())
        rows = dict.fromkeys(match.row for match in self._aliases.lookup(name, self._namesakes + len(excluded)))
        return [row for row in rows if row not in excluded][: self._namesakes]


class NegativeSource:
    """Adds negatives to the batches of a run. They are mined for all batches up to the next refresh at once.

    Args:
        stepper: embeds mentions with the current model.
        kb: catalogue, aliases and, for frozen entity vectors, index.
        mode: ``full`` or ``nearest``, see `Miner`.
        settings: number of negatives, and steps between refreshes.
        learns_entities: whether entity vectors are trained; then the catalogue is encoded again at each refresh.
    """

    def __init__(
        self, stepper: Stepper, kb: KnowledgeBase, mode: str, settings: TrainSettings, *, learns_entities: bool
    ) -> None:
        self._stepper, self._kb, self._mode, self._settings = stepper, kb, mode, settings
        self._learns_entities = learns_entities
        self._first = 0
        self._tables: list[list[Tensor]] = []

    def add(
        self, micro_batches: Sequence[Batch], step: int, number: int, of_batch: Callable[[int], list[Batch]], batches: int
    ) -> list[Batch]:
        """Add negatives to the micro-batches of this process.

        Args:
            micro_batches: of batch ``number`` of the epoch.
            step: of the run.
            number: of the batch in its epoch.
            of_batch: returns the micro-batches of any batch of the epoch.
            batches: number of batches of the epoch.
        """
        if not self._first <= step < self._first + len(self._tables):
            end = min((number // self._settings.refresh_steps + 1) * self._settings.refresh_steps, batches)
            miner = self._miner()
            search = miner.full if self._mode == "full" else miner.nearest
            self._first = step
            self._tables = [[search(p, self._stepper.embed(p)) for p in of_batch(n)] for n in range(number, end)]
        table = self._tables[step - self._first]
        return [replace(batch, negatives=rows) for batch, rows in zip(micro_batches, table, strict=True)]

    def state(self) -> dict[str, Any]:
        """State for a checkpoint: the negatives of every process."""
        state = {"first": self._first, "tables": self._tables}
        return {"processes": gather_object([state]) if self._stepper.accelerator.num_processes > 1 else [state]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state; with another number of processes, negatives are mined again."""
        accelerator = self._stepper.accelerator
        if len(state["processes"]) == accelerator.num_processes:
            state = state["processes"][accelerator.process_index]
            self._first, self._tables = state["first"], state["tables"]

    def _miner(self) -> Miner:
        kb = self._kb
        return Miner(
            ExactIndex(self._encoded()) if self._learns_entities else kb.index,
            self._stepper.model.tokenizer,
            kb.alias_table,
            mined=self._settings.negatives,
            namesakes=self._settings.form_negatives,
            bad=kb.catalogue.is_bad,
        )

    def _encoded(self) -> npt.NDArray[np.float32]:
        """Vectors of the catalogue by the current model, each process encoding a share."""
        model, accelerator = self._stepper.model, self._stepper.accelerator
        model.eval()
        shares = np.array_split(np.arange(len(self._kb.catalogue)), accelerator.num_processes)
        rows = shares[accelerator.process_index]
        start, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        vectors = [
            model.encode_entities(list(self._kb.catalogue.iter(first, min(first + CHUNK_ROWS, end))))
            for first in range(start, end, CHUNK_ROWS)
        ]
        model.train()
        if accelerator.num_processes > 1:
            vectors = gather_object(vectors)
        return np.concatenate(vectors)
