"""The mention detector: runs the bi-encoder over token ids and keeps the spans that may be mentions, with their vectors."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from blink.errors import SettingsError
from blink.linking.analysis import DetectedMentions
from blink.linking.splitting import SpanProposals
from blink.model.biencoder import BiEncoder
from blink.model.precision import resolve_device, resolve_precision
from blink.model.pretrained import longest_input
from blink.model.tokenizer import pad

REPLACEABLE_RATIO = 4
"""Proposals that are split for each that is kept, at most: other spans may replace the best."""
LENGTH_STEP = 4
"""Inputs are padded to a multiple of this: matrix kernels are prepared once per shape, so few shapes are fast."""


@dataclass(frozen=True)
class DetectorOptions:
    """Which spans are kept.

    Attributes:
        mentions: most spans per input (the original's ``--top_k``).
        min_mention_log_prob: spans whose log sigmoid mention score is not above it are dropped. A joint score never exceeds
            that number, so the threshold of the joint mode loses no link here.
        keep_all_if_none: where no span of an input passes, keep all of them, as the original does.
        whole_words: drop spans that begin or end inside a word.
        topics: embed the text around each span too, where the model can, see `BiEncoder.embed_topics`.
        special_tokens: let spans touch ``[CLS]`` and ``[SEP]``, as the original does.
    """

    mentions: int = 50
    min_mention_log_prob: float = float("-inf")
    keep_all_if_none: bool = False
    whole_words: bool = False
    topics: bool = False
    special_tokens: bool = False


@dataclass(frozen=True)
class _Hidden:
    """A batch of the context encoder.

    Attributes:
        vectors: of tokens. *Shape:* (batch, seq, hidden), float32.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
        inside: true at tokens that continue a word. *Shape:* (batch, seq), bool.
        indices: of the inputs.
    """

    vectors: Tensor
    mask: Tensor
    inside: Tensor
    indices: list[int]


Split: TypeAlias = Callable[[int, SpanProposals, np.ndarray], SpanProposals]
"""Index of an input, its proposals and the scores of all its spans, to other proposals."""
_Step: TypeAlias = Callable[[_Hidden], list[DetectedMentions]]


class MentionDetector:
    """Detects mentions, or embeds requested ones.

    Attributes:
        positions: the longest input the context encoder reads, in tokens.

    Args:
        model: the bi-encoder, moved to the device; where the dtype differs, its context encoder is copied.
        options: which spans are kept, unless a call overrides them.
        precision: ``auto``, ``fp32`` or ``bf16``, of the context encoder; the heads are float32 always.
        device: where the model runs; by default a GPU where there is one.

    Raises:
        SettingsError: the model has no context encoder.
    """

    def __init__(
        self,
        model: BiEncoder,
        options: DetectorOptions | None = None,
        *,
        precision: str = "auto",
        device: str | None = None,
    ) -> None:
        if model.context_encoder is None:
            raise SettingsError(
                "the model was loaded without its context encoder, which reads texts; load it with context=True"
            )
        self.options = options or DetectorOptions()
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.model = _with_dtype(model.eval().to(self.device), model.context_encoder, self.dtype)
        self.positions = longest_input(model.context_encoder)

    def detect(
        self,
        inputs: Sequence[Sequence[int]],
        batch_size: int = 64,
        options: DetectorOptions | None = None,
        split: Split | None = None,
    ) -> list[DetectedMentions]:
        """Detect the mentions of inputs (ids with special tokens, unpadded); one result an input, in order.

        Inputs are batched with others of the same padded length, so what an input is padded to never depends on its
        neighbours.

        Args:
            inputs: *Shape:* of each, (seq,).
            batch_size: inputs that go through the model at once.
            options: which spans are kept; by default those of the detector.
            split: replaces the proposals of an input (its index, proposals, scores of all its spans), see `SpanSplitter`.

        Raises:
            CheckpointError: the model has no mention head.
        """

        def propose(hidden: _Hidden) -> list[DetectedMentions]:
            return self._propose(hidden, options or self.options, split)

        return self._run(inputs, batch_size, propose)

    def embed(
        self,
        inputs: Sequence[Sequence[int]],
        spans: Sequence[Sequence[tuple[int, int]]],
        batch_size: int = 64,
        options: DetectorOptions | None = None,
    ) -> list[DetectedMentions]:
        """Embed requested spans (inclusive positions in the input); their mention logits are infinite."""
        topics = (options or self.options).topics

        def requested(hidden: _Hidden) -> list[DetectedMentions]:
            bounds = [np.array(spans[i], dtype=np.int64).reshape(-1, 2) for i in hidden.indices]
            logits = [np.full(len(b), np.inf, dtype=np.float32) for b in bounds]
            proposals = [SpanProposals(b[:, 0], b[:, 1], of) for b, of in zip(bounds, logits, strict=True)]
            return self._embed(hidden, proposals, topics)

        return self._run(inputs, batch_size, requested)

    @torch.inference_mode()
    def _run(self, inputs: Sequence[Sequence[int]], batch_size: int, step: _Step) -> list[DetectedMentions]:
        tokenizer = self.model.tokenizer
        results: dict[int, DetectedMentions] = {}
        for indices, length in _batches(inputs, batch_size, self.positions):
            padded, real = pad([inputs[i] for i in indices], tokenizer.pad_id, length)
            ids, mask = torch.from_numpy(padded).to(self.device), torch.from_numpy(real).to(self.device)
            inside = torch.from_numpy(tokenizer.inside_words(padded)).to(self.device)
            hidden = _Hidden(self.model.encode_context(ids, mask).float(), mask, inside, indices)
            results.update(zip(indices, step(hidden), strict=True))
        return [results[i] for i in range(len(inputs))]

    def _propose(self, hidden: _Hidden, options: DetectorOptions, split: Split | None) -> list[DetectedMentions]:
        scores = self.model.score_spans(hidden.vectors, hidden.mask)
        if not options.special_tokens:
            scores = scores.without_ends(hidden.mask)
        if options.whole_words:
            scores = scores.whole_words(hidden.inside)
        logits, start, end = scores.top(options.mentions if split is None else REPLACEABLE_RATIO * options.mentions)
        passed = torch.nn.functional.logsigmoid(logits) > options.min_mention_log_prob
        if options.keep_all_if_none:
            passed |= ~passed.any(1, keepdim=True)
        passed &= logits > float("-inf")
        # As arrays: an input has few proposals, and a call of torch takes longer than the work on them.
        columns = [column.cpu().numpy() for column in (start, end, logits, passed)]
        proposals = [SpanProposals(s[p], e[p], of_row[p]) for s, e, of_row, p in zip(*columns, strict=True)]
        if split is not None:
            rows = zip(hidden.indices, proposals, scores.logits.cpu().numpy(), strict=True)
            proposals = [_best(p, split(i, p, all_scores), options) for i, p, all_scores in rows]
        # By position, as a stable order of what follows.
        return self._embed(hidden, [p.select(np.lexsort((p.end, p.start))) for p in proposals], options.topics)

    def _embed(self, hidden: _Hidden, spans: Sequence[SpanProposals], topics: bool) -> list[DetectedMentions]:
        counts = [len(s.start) for s in spans]
        text = np.repeat(np.arange(len(spans)), counts)
        columns = (text, np.concatenate([s.start for s in spans]), np.concatenate([s.end for s in spans]))
        indices, first = [torch.from_numpy(c).to(self.device) for c in columns], np.cumsum(counts)[:-1]
        vectors = np.split(self.model.embed_mentions(hidden.vectors, *indices).cpu().numpy(), first)
        if not (topics and self.model.embeds_topics):
            return [DetectedMentions(s.start, s.end, s.logits, v) for s, v in zip(spans, vectors, strict=True)]
        around = np.split(self.model.embed_topics(hidden.vectors, hidden.mask, *indices).cpu().numpy(), first)
        return [DetectedMentions(s.start, s.end, s.logits, *v) for s, *v in zip(spans, vectors, around, strict=True)]


def _best(proposals: SpanProposals, split: SpanProposals, options: DetectorOptions) -> SpanProposals:
    """The best proposals of an input, after the split; those before it have passed."""
    if split is proposals and len(proposals.start) <= options.mentions:
        return proposals
    best = split.select(np.lexsort((split.end, split.start, -split.logits))[: options.mentions])
    passed = torch.nn.functional.logsigmoid(torch.from_numpy(best.logits)).numpy() > options.min_mention_log_prob
    return best.select(passed & (best.logits > -np.inf))


def _with_dtype(model: BiEncoder, tower: nn.Module, dtype: torch.dtype) -> BiEncoder:
    """The model with its context encoder in ``dtype``; the caller's keeps its weights unrounded."""
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
