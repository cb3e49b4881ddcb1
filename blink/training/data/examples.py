"""Training examples: labelled texts as token ids with the bounds and catalogue rows of their gold mentions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blink.data.records import Sample
from blink.data.windows import window_around_gold
from blink.errors import DataError
from blink.model.tokenizer import Encoding, Tokenizer, pad

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
        sample: id of the text it was made from.
    """

    ids: list[int]
    bounds: list[tuple[int, int]]
    rows: list[int]
    partial: bool = False
    sample: str = ""


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
        negatives: catalogue rows to tell each mention's entity from, -1 where there are fewer; None where no objective asks
            for them. *Shape:* (mentions, k), int64.
        samples: ids of the texts.
    """

    ids: Tensor
    mask: Tensor
    text: Tensor
    start: Tensor
    end: Tensor
    rows: Tensor
    partial: Tensor
    negatives: Tensor | None = None
    samples: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        values: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Batch(**values)


def examples_from(samples: Iterable[Sample], pieces: Tokenizer, context_length: int) -> list[Example]:
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
    cut = pieces.tokenize([s.text for s in samples])
    return [_example(s, p, pieces, context_length) for s, p in zip(samples, cut, strict=True)]


def order(
    lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator | None
) -> list[npt.NDArray[np.int64]]:
    """Places of the texts of each batch, drawn with ``generator`` or in order; one of them may be smaller.

    Drawn texts are sorted by length within pools of `POOL` batches, whose batches are drawn again: a batch is padded
    little, and its texts are still a chance mixture.
    """
    count = len(lengths)
    if generator is None:
        return [np.arange(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    permutation = generator.permutation(count)
    pools = [permutation[first : first + POOL * batch_size] for first in range(0, count, POOL * batch_size)]
    pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = [pool[first : first + batch_size] for pool in pools for first in range(0, len(pool), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Stack examples into a batch padded to its longest."""
    ids, mask = pad([e.ids for e in examples], pad_id)
    table = [(i, s, e, row) for i, x in enumerate(examples) for (s, e), row in zip(x.bounds, x.rows, strict=True)]
    text, start, end, rows = torch.tensor(table, dtype=torch.long).reshape(-1, 4).T.contiguous()
    partial = torch.tensor([e.partial for e in examples], dtype=torch.bool)
    samples = tuple(e.sample for e in examples)
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), text, start, end, rows, partial, samples=samples)


def token_spans(sample: Sample, pieces: Encoding) -> list[tuple[int, int, int]]:
    """Gold mentions as pieces ``[start, end)`` and row: every piece that a mention's characters touch."""
    spans = []
    for mention in sample.mentions or ():
        touched = pieces.tokens_of(mention.start, mention.end)
        if touched is not None:
            spans.append((*touched, mention.row))
    return spans


def _example(sample: Sample, cut: Encoding, pieces: Tokenizer, context_length: int) -> Example:
    if sample.token_ids is not None and sample.token_mentions is not None:
        pieces.require_known(sample.token_ids)
        ids, spans = list(sample.token_ids), [(m.start, m.end, m.row) for m in sample.token_mentions]
    else:
        ids, spans = cut.ids.tolist(), token_spans(sample, cut)
    gold = window_around_gold(len(ids), [(s, e) for s, e, _ in spans], context_length)
    window = ids[gold.window.start : gold.window.end]
    rows = [spans[i][2] for i in gold.kept]
    return Example([pieces.cls_id, *window, pieces.sep_id], list(gold.bounds), rows, sample.partial, sample.id)
