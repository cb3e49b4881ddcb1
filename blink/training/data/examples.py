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
from blink.data.windows import Window, window_around_gold
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
        rows: catalogue row of each mention, or -1.
        partial: whether the text may have further mentions that are not labelled.
        sample: id of the text.
        unlabelled: first and last position of what may hold mentions without a label, inclusive.
    """

    ids: list[int]
    bounds: list[tuple[int, int]]
    rows: list[int]
    partial: bool = False
    sample: str = ""
    unlabelled: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, with the mentions of all texts concatenated.

    Attributes:
        ids: *Shape:* (batch, seq), int64.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
        text: index in the batch of each gold mention's text. *Shape:* (mentions,), int64.
        start: first position of each mention. *Shape:* (mentions,), int64.
        end: last position of each mention, inclusive. *Shape:* (mentions,), int64.
        rows: catalogue row of each mention, or -1. *Shape:* (mentions,), int64.
        partial: whether a text may have further mentions that are not labelled. *Shape:* (batch,), bool.
        negatives: catalogue rows of each mention's hard negatives, padded with -1; None if no objective needs them.
            *Shape:* (mentions, k), int64.
        samples: ids of the texts.
        unlabelled: true at tokens that may belong to a mention without a label; None where there are none. *Shape:*
            (batch, seq), bool.
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
    unlabelled: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        values: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Batch(**values)


def examples_from(samples: Iterable[Sample], tokenizer: Tokenizer, context_length: int) -> list[Example]:
    """Tokenize labelled samples.

    Stored token ids are used where a sample has them (they may differ from those of the text). Texts longer than the
    context length are truncated to a window around their mentions, see `window_around_gold`.

    Raises:
        DataError: a sample has no labels.
    """
    samples = list(samples)
    unlabelled = next((s.id for s in samples if not s.labelled), None)
    if unlabelled is not None:
        raise DataError(f"sample {unlabelled!r} has no labels; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    encodings = tokenizer.tokenize([s.text for s in samples])
    return [_example(s, e, tokenizer, context_length) for s, e in zip(samples, encodings, strict=True)]


def order(
    lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator | None
) -> list[npt.NDArray[np.int64]]:
    """Indices of the texts of each batch: in random order with a ``generator``, else in order. One batch may be smaller.

    In random order, texts are sorted by length within pools of `POOL` batches, and the batches are shuffled. Batches then
    need little padding and are still random.
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
    """Stack examples into a batch, padded to the longest."""
    ids, mask = pad([e.ids for e in examples], pad_id)
    table = [(i, s, e, row) for i, x in enumerate(examples) for (s, e), row in zip(x.bounds, x.rows, strict=True)]
    text, start, end, rows = torch.tensor(table, dtype=torch.long).reshape(-1, 4).T.contiguous()
    partial = torch.tensor([e.partial for e in examples], dtype=torch.bool)
    samples = tuple(e.sample for e in examples)
    unlabelled = torch.zeros(mask.shape, dtype=torch.bool) if any(e.unlabelled for e in examples) else None
    for i, (first, last) in ((i, bounds) for i, e in enumerate(examples) for bounds in e.unlabelled):
        assert unlabelled is not None
        unlabelled[i, first : last + 1] = True
    tensors = (torch.from_numpy(ids), torch.from_numpy(mask), text, start, end, rows, partial)
    return Batch(*tensors, samples=samples, unlabelled=unlabelled)


def token_spans(sample: Sample, encoding: Encoding) -> list[tuple[int, int, int]]:
    """Start, end and row of each gold mention, in tokens ``[start, end)``: all tokens that overlap its characters."""
    spans = []
    for mention in sample.mentions or ():
        touched = encoding.tokens_of(mention.start, mention.end)
        if touched is not None:
            spans.append((*touched, mention.row))
    return spans


def _example(sample: Sample, encoding: Encoding, tokenizer: Tokenizer, context_length: int) -> Example:
    if sample.token_ids is not None and sample.token_mentions is not None:
        tokenizer.require_known(sample.token_ids)
        ids, spans = list(sample.token_ids), [(m.start, m.end, m.row) for m in sample.token_mentions]
    else:
        ids, spans = encoding.codes.tolist(), token_spans(sample, encoding)
    gold = window_around_gold(len(ids), [(s, e) for s, e, _ in spans], context_length)
    window = ids[gold.window.start : gold.window.end]
    rows = [spans[i][2] for i in gold.mentions]
    return Example(
        [tokenizer.cls_id, *window, tokenizer.sep_id],
        list(gold.bounds),
        rows,
        sample.partial,
        sample.id,
        _unlabelled(sample, encoding, gold.window),
    )


def _unlabelled(sample: Sample, encoding: Encoding, window: Window) -> tuple[tuple[int, int], ...]:
    """Positions in the window of the sample's unlabelled characters."""
    touched = [encoding.tokens_of(start, end) for start, end in sample.unlabelled]
    in_window = [(max(t[0], window.start), min(t[1], window.end)) for t in touched if t is not None]
    return tuple((first - window.start + 1, past - window.start) for first, past in in_window if first < past)
