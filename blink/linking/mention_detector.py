"""Runs the model over windows of word pieces: spans, their mention scores, and the entities nearest to each."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from blink.errors import MismatchError, SettingsError
from blink.kb.index import CoarseIndex, ExactIndex, Index
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from blink.model.precision import resolve_device, resolve_precision
from blink.model.pretrained import longest_input
from blink.model.tokenizer import pad

Refine: TypeAlias = Callable[[int, ScoredSpans, np.ndarray], ScoredSpans]
"""Rescores the spans of an input: its place among the inputs, its spans, their mention vectors (m, d)."""

LARGEST_COPY = 1 << 31
"""Bytes that a copy of the entity vectors in bfloat16 may take."""

LENGTH_STEP = 4
"""Inputs are padded to a multiple of this: matrix kernels are prepared once per shape, so few shapes are fast."""


@dataclass(frozen=True)
class ReaderOptions:
    """What to keep of a text.

    Attributes:
        mentions: most spans per window (the original's ``--top_k``).
        entities: entities retrieved per span.
        floor: spans whose log sigmoid mention score is not above it are dropped. A joint score is never above that
            number, so the threshold of the joint mode loses no link here.
        keep_all_if_none: where no span of a window passes the floor, keep all of them, as the original does.
        whole_words: leave out spans that begin or end inside a word.
        special_tokens: let spans touch ``[CLS]`` and ``[SEP]``, as the original does.
    """

    mentions: int = 50
    entities: int = 10
    floor: float = float("-inf")
    keep_all_if_none: bool = False
    whole_words: bool = False
    special_tokens: bool = False


@dataclass(frozen=True)
class _Found:
    start: np.ndarray
    end: np.ndarray
    logits: np.ndarray
    vectors: np.ndarray


class Reader:
    """A model and an index, joined: from token ids to `ScoredSpans`.

    Attributes:
        positions: the longest input the context encoder reads, in word pieces.

    Args:
        model: the bi-encoder, moved to the device; where the number format differs, its context tower is copied.
        index: entity vectors.
        precision: ``auto``, ``fp32`` or ``bf16``, of the context encoder. In bf16 on a CPU the exact search chooses candidates
            in bfloat16 too, see `CoarseIndex`; heads and the scores of candidates are float32 always.
        device: where the model runs; by default a GPU where there is one.

    Raises:
        SettingsError: the model has no context encoder.
        MismatchError: mention and entity vectors differ in size.
    """

    def __init__(self, model: BiEncoder, index: Index, *, precision: str = "auto", device: str | None = None) -> None:
        if model.context_encoder is None:
            raise SettingsError(
                "the model was loaded without its context encoder, which reads texts; load it with context=True"
            )
        if model.entity_size != index.dim:
            raise MismatchError(
                f"the model makes vectors of {model.entity_size} numbers, the knowledge base holds vectors of {index.dim}; "
                "build the knowledge base with this model (`blink kb build --model`)"
            )
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.model = _in_number_format(model.eval().to(self.device), model.context_encoder, self.dtype)
        self.positions = longest_input(model.context_encoder)
        self.index = _in_bf16(index) if self.dtype == torch.bfloat16 and self.device.type == "cpu" else index

    def read(
        self, inputs: Sequence[Sequence[int]], options: ReaderOptions, batch_size: int = 64, refine: Refine | None = None
    ) -> list[ScoredSpans]:
        """Score the spans of inputs (ids with special tokens, unpadded); one result an input, in order.

        Inputs are batched with others of the same padded length, so what an input is padded to never depends on its
        neighbours.
        """

        def propose(hidden: Tensor, mask: Tensor, inside: Tensor, chosen: list[int]) -> list[_Found]:
            return self._propose(hidden, mask, inside, options)

        return self._retrieve(self._run(inputs, batch_size, propose), options.entities, refine)

    def read_spans(
        self,
        inputs: Sequence[Sequence[int]],
        spans: Sequence[Sequence[tuple[int, int]]],
        entities: int = 10,
        batch_size: int = 64,
        refine: Refine | None = None,
    ) -> list[ScoredSpans]:
        """The same for spans that are given (inclusive positions in the input); their mention score counts as certain."""

        def given(hidden: Tensor, mask: Tensor, inside: Tensor, chosen: list[int]) -> list[_Found]:
            return self._embed(hidden, [torch.tensor(spans[i], dtype=torch.long).reshape(-1, 2) for i in chosen])

        return self._retrieve(self._run(inputs, batch_size, given), entities, refine)

    @torch.inference_mode()
    def _run(
        self,
        inputs: Sequence[Sequence[int]],
        batch_size: int,
        step: Callable[[Tensor, Tensor, Tensor, list[int]], list[_Found]],
    ) -> list[_Found]:
        results: dict[int, _Found] = {}
        for chosen, length in _batches(inputs, batch_size, self.positions):
            padded, real = pad([inputs[i] for i in chosen], self.model.tokenizer.pad_id, length)
            ids, mask = torch.from_numpy(padded).to(self.device), torch.from_numpy(real).to(self.device)
            inside = torch.from_numpy(self.model.tokenizer.inside_words(padded)).to(self.device)
            hidden = self.model.encode_context(ids, mask).float()
            results.update(zip(chosen, step(hidden, mask, inside, chosen), strict=True))
        return [results[i] for i in range(len(inputs))]

    def _propose(self, hidden: Tensor, mask: Tensor, inside: Tensor, options: ReaderOptions) -> list[_Found]:
        scores = self.model.score_spans(hidden, mask)
        if not options.special_tokens:
            scores = scores.without_ends(mask)
        if options.whole_words:
            scores = scores.whole_words(inside)
        logits, start, end = scores.top(options.mentions)
        passed = torch.nn.functional.logsigmoid(logits) > options.floor
        if options.keep_all_if_none:
            passed |= ~passed.any(1, keepdim=True)
        passed &= logits > float("-inf")
        spans, kept = [], []
        for row in range(len(logits)):
            bounds = torch.stack([start[row], end[row]], dim=1)[passed[row]]
            # By position, as a stable order of what follows.
            order = torch.argsort(bounds[:, 0] * mask.shape[1] + bounds[:, 1])
            spans.append(bounds[order])
            kept.append(logits[row][passed[row]][order])
        return self._embed(hidden, spans, kept)

    def _embed(self, hidden: Tensor, spans: list[Tensor], logits: list[Tensor] | None = None) -> list[_Found]:
        counts = [len(s) for s in spans]
        bounds = torch.cat(spans).to(self.device)
        text = torch.repeat_interleave(torch.arange(len(spans), device=self.device), torch.tensor(counts, device=self.device))
        vectors = self.model.embed_mentions(hidden, text, bounds[:, 0], bounds[:, 1]).split(counts)
        certain = [torch.full((n,), float("inf")) for n in counts]
        return [
            _Found(s[:, 0].cpu().numpy(), s[:, 1].cpu().numpy(), m.cpu().numpy(), v.cpu().numpy())
            for s, m, v in zip(spans, logits if logits is not None else certain, vectors, strict=True)
        ]

    def _retrieve(self, found: list[_Found], entities: int, refine: Refine | None) -> list[ScoredSpans]:
        vectors = np.concatenate([f.vectors for f in found]) if found else np.empty((0, self.index.dim), np.float32)
        if not len(vectors):
            return [ScoredSpans.none(entities) for _ in found]
        scores, rows = self.index.search(vectors, entities)
        ends = np.cumsum([len(f.start) for f in found])[:-1]
        spans = [
            ScoredSpans(f.start, f.end, f.logits, r, s)
            for f, r, s in zip(found, np.split(rows, ends), np.split(scores, ends), strict=True)
        ]
        return spans if refine is None else [refine(i, s, f.vectors) for i, (s, f) in enumerate(zip(spans, found, strict=True))]


def _in_bf16(index: Index) -> Index:
    small = index.size * index.dim * 2 <= LARGEST_COPY
    return CoarseIndex(index) if isinstance(index, ExactIndex) and small else index


def _in_number_format(model: BiEncoder, tower: nn.Module, dtype: torch.dtype) -> BiEncoder:
    """The model with its context encoder in ``dtype``; the caller's is left as it is, rounded weights would be its loss."""
    if next(tower.parameters()).dtype == dtype:
        return model
    model = copy.copy(model)
    model._modules = {**model._modules, "context_encoder": copy.deepcopy(tower).to(dtype)}
    return model


def _batches(inputs: Sequence[Sequence[int]], batch_size: int, longest: int) -> Iterator[tuple[list[int], int]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, ids in enumerate(inputs):
        by_length[min(-(-len(ids) // LENGTH_STEP) * LENGTH_STEP, longest)].append(i)
    for length in sorted(by_length):
        group = by_length[length]
        # Short inputs share a batch with more of their kind: the work of a batch is its tokens, not its rows.
        for at in range(0, len(group), batch_size):
            yield group[at : at + batch_size], length
