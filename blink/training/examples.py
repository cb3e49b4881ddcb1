"""Training examples: labelled texts as token ids with the bounds and catalogue rows of their gold mentions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blink.data.records import Sample
from blink.data.windows import window_around_gold
from blink.errors import DataError
from blink.model.tokens import Pieces, WordPieces, pad

POOL = 16
"""Batches among which examples are sorted by length."""


@dataclass(frozen=True)
class Example:
    """A model input with its gold mentions.

    Attributes:
        ids: with special tokens.
        bounds: first and last position of each mention, inclusive.
        rows: catalogue row of each mention, -1 where it has none.
        partial: whether there may be more mentions than these.
    """

    ids: list[int]
    bounds: list[tuple[int, int]]
    rows: list[int]
    partial: bool = False


@dataclass(frozen=True)
class Batch:
    """Examples as tensors; mentions of all texts in one list.

    Attributes:
        ids: *Shape:* (batch, seq), int64.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
        text: row in the batch of each gold mention. *Shape:* (mentions,), int64.
        start: its first position. *Shape:* (mentions,), int64.
        end: its last position, inclusive. *Shape:* (mentions,), int64.
        rows: its catalogue row or -1. *Shape:* (mentions,), int64.
        partial: whether a text may have more mentions than these. *Shape:* (batch,), bool.
    """

    ids: Tensor
    mask: Tensor
    text: Tensor
    start: Tensor
    end: Tensor
    rows: Tensor
    partial: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def examples_from(samples: Iterable[Sample], pieces: WordPieces, context_length: int) -> list[Example]:
    """Cut labelled samples into examples.

    Stored word pieces are used where a sample has them (they may differ from those of the text). Texts longer than the
    window are cut around their mentions, see `window_around_gold`.

    Raises:
        DataError: a sample has no labels.
    """
    samples = list(samples)
    unlabelled = next((s.id for s in samples if not s.labelled), None)
    if unlabelled is not None:
        raise DataError(f"sample {unlabelled!r} has no labels; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    cut = pieces.cut([s.text for s in samples])
    return [_example(s, p, pieces, context_length) for s, p in zip(samples, cut, strict=True)]


def batches(
    examples: Sequence[Example], batch_size: int, pad_id: int, generator: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches, shuffled with ``generator`` or in order; one of them may be smaller.

    Shuffled examples are sorted by length within pools of `POOL` batches, whose batches are shuffled again: a batch is
    padded little, and its texts are still a chance mixture.
    """
    order = np.arange(len(examples)) if generator is None else generator.permutation(len(examples))
    chosen = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    if generator is not None:
        pools = [order[at : at + POOL * batch_size] for at in range(0, len(order), POOL * batch_size)]
        pools = [pool[np.argsort([len(examples[i].ids) for i in pool], kind="stable")] for pool in pools]
        chosen = [pool[at : at + batch_size] for pool in pools for at in range(0, len(pool), batch_size)]
        chosen = [chosen[i] for i in generator.permutation(len(chosen))]
    for places in chosen:
        yield collate([examples[i] for i in places], pad_id)


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Stack examples into a batch padded to its longest."""
    ids, mask = pad([e.ids for e in examples], pad_id)
    table = [(i, s, e, row) for i, x in enumerate(examples) for (s, e), row in zip(x.bounds, x.rows, strict=True)]
    text, start, end, rows = torch.tensor(table, dtype=torch.long).reshape(-1, 4).unbind(1)
    partial = torch.tensor([e.partial for e in examples], dtype=torch.bool)
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), text, start, end, rows, partial)


def token_spans(sample: Sample, pieces: Pieces) -> list[tuple[int, int, int]]:
    """Gold mentions as pieces ``[start, end)`` and row: every piece that a mention's characters touch."""
    spans = []
    for mention in sample.mentions or ():
        touched = pieces.touching(mention.start, mention.end)
        if touched is not None:
            spans.append((*touched, mention.row))
    return spans


def _example(sample: Sample, cut: Pieces, pieces: WordPieces, context_length: int) -> Example:
    if sample.token_ids is not None and sample.token_mentions is not None:
        pieces.require_known(sample.token_ids)
        ids, spans = list(sample.token_ids), [(m.start, m.end, m.row) for m in sample.token_mentions]
    else:
        ids, spans = cut.ids.tolist(), token_spans(sample, cut)
    gold = window_around_gold(len(ids), [(s, e) for s, e, _ in spans], context_length)
    window = ids[gold.window.start : gold.window.end]
    return Example([pieces.cls_id, *window, pieces.sep_id], list(gold.bounds), [spans[i][2] for i in gold.kept], sample.partial)
