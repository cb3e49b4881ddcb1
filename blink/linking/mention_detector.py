"""The mention detector: runs a backend over token ids and keeps the spans that may be mentions, with their vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from blink.linking.analysis import DetectedMentions
from blink.linking.span_scores import SpanScores, log_sigmoid
from blink.linking.splitting import SpanProposals
from blink.model.backends.protocol import Backend, EncodedBatch
from blink.model.tokenizer import Tokenizer, pad

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
        topics: embed the text around each span too, where the model can, see
            `EncodedBatch.topic_vectors`.
        special_tokens: let spans touch ``[CLS]`` and ``[SEP]``, as the original does.
    """

    mentions: int = 50
    min_mention_log_prob: float = float("-inf")
    keep_all_if_none: bool = False
    whole_words: bool = False
    topics: bool = False
    special_tokens: bool = False


@dataclass(frozen=True)
class _Batch:
    """Padded inputs, and what the context encoder made of them.

    Attributes:
        encoded: by the backend.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
        inside: true at tokens that continue a word. *Shape:* (batch, seq), bool.
        indices: of the inputs.
    """

    encoded: EncodedBatch
    mask: np.ndarray
    inside: np.ndarray
    indices: list[int]


Split: TypeAlias = Callable[[int, SpanProposals, np.ndarray], SpanProposals]
"""Index of an input, its proposals and the scores of all its spans, to other proposals."""
_Step: TypeAlias = Callable[[_Batch], list[DetectedMentions]]


class MentionDetector:
    """Detects mentions, or embeds requested ones.

    Args:
        backend: runs the context encoder.
        tokenizer: of the model.
        max_mention_length: longest mention, as of `ModelConfig`.
        options: which spans are kept, unless a call overrides them.
    """

    def __init__(
        self, backend: Backend, tokenizer: Tokenizer, max_mention_length: int, options: DetectorOptions | None = None
    ) -> None:
        self.backend, self.tokenizer, self.max_mention_length = backend, tokenizer, max_mention_length
        self.options = options or DetectorOptions()

    @property
    def positions(self) -> int:
        """The longest input the context encoder reads, in tokens."""
        return self.backend.positions

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

        def propose(batch: _Batch) -> list[DetectedMentions]:
            return self._propose(batch, options or self.options, split)

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

        def requested(batch: _Batch) -> list[DetectedMentions]:
            bounds = [np.array(spans[i], dtype=np.int64).reshape(-1, 2) for i in batch.indices]
            logits = [np.full(len(b), np.inf, dtype=np.float32) for b in bounds]
            proposals = [SpanProposals(b[:, 0], b[:, 1], of) for b, of in zip(bounds, logits, strict=True)]
            return self._embed(batch, proposals, topics)

        return self._run(inputs, batch_size, requested)

    def _run(self, inputs: Sequence[Sequence[int]], batch_size: int, step: _Step) -> list[DetectedMentions]:
        results: dict[int, DetectedMentions] = {}
        for indices, length in _batches(inputs, batch_size, self.positions):
            codes, mask = pad([inputs[i] for i in indices], self.tokenizer.pad_id, length)
            batch = _Batch(self.backend.encode(codes, mask), mask, self.tokenizer.inside_words(codes), indices)
            results.update(zip(indices, step(batch), strict=True))
        return [results[i] for i in range(len(inputs))]

    def _propose(self, batch: _Batch, options: DetectorOptions, split: Split | None) -> list[DetectedMentions]:
        scores = SpanScores.of(batch.encoded.token_scores, batch.mask, self.max_mention_length)
        if not options.special_tokens:
            scores = scores.without_ends(batch.mask)
        if options.whole_words:
            scores = scores.whole_words(batch.inside)
        logits, start, end = scores.top(options.mentions if split is None else REPLACEABLE_RATIO * options.mentions)
        passed = log_sigmoid(logits) > options.min_mention_log_prob
        if options.keep_all_if_none:
            passed |= ~passed.any(1, keepdims=True)
        passed &= logits > -np.inf
        proposals = [SpanProposals(s[p], e[p], of_row[p]) for s, e, of_row, p in zip(start, end, logits, passed, strict=True)]
        if split is not None:
            rows = zip(batch.indices, proposals, scores.logits, strict=True)
            proposals = [_best(p, split(i, p, all_scores), options) for i, p, all_scores in rows]
        # By position, as a stable order of what follows.
        return self._embed(batch, [p.select(np.lexsort((p.end, p.start))) for p in proposals], options.topics)

    def _embed(self, batch: _Batch, spans: Sequence[SpanProposals], topics: bool) -> list[DetectedMentions]:
        counts = [len(s.start) for s in spans]
        text, first = np.repeat(np.arange(len(spans)), counts), np.cumsum(counts)[:-1]
        columns = (text, np.concatenate([s.start for s in spans]), np.concatenate([s.end for s in spans]))
        vectors = [np.split(batch.encoded.mention_vectors(*columns), first)]
        if topics and self.backend.embeds_topics:
            vectors.append(np.split(batch.encoded.topic_vectors(*columns), first))
        return [DetectedMentions(s.start, s.end, s.logits, *v) for s, *v in zip(spans, *vectors, strict=True)]


def _best(proposals: SpanProposals, split: SpanProposals, options: DetectorOptions) -> SpanProposals:
    """The best proposals of an input, after the split; those before it have passed."""
    if split is proposals and len(proposals.start) <= options.mentions:
        return proposals
    best = split.select(np.lexsort((split.end, split.start, -split.logits))[: options.mentions])
    passed = log_sigmoid(best.logits) > options.min_mention_log_prob
    return best.select(passed & (best.logits > -np.inf))


def _batches(inputs: Sequence[Sequence[int]], batch_size: int, longest: int) -> Iterator[tuple[list[int], int]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, ids in enumerate(inputs):
        by_length[min(-(-len(ids) // LENGTH_STEP) * LENGTH_STEP, longest)].append(i)
    for length in sorted(by_length):
        group = by_length[length]
        # Short inputs share a batch with more of their kind: the work of a batch is its tokens, not its rows.
        for at in range(0, len(group), batch_size):
            yield group[at : at + batch_size], length
