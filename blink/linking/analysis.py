"""What the stages of a linker add to a text, before any decision."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blink.data.windows import Window
from blink.linking.features import CandidateFeatures
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import TextContext
from blink.model.breaks import TextBreaks
from blink.model.letter_case import uncased_stretches
from blink.model.tokenizer import Encoding

SCORES_BEFORE = ("scores_before_prior", "scores_before_coherence", "scores_before_document")
"""Scores of the spans before a stage."""
KEEP = ("mention_vectors", "features", *SCORES_BEFORE)
"""Stage outputs that an `Analysis` retains on request."""


@dataclass(frozen=True)
class TokenizedText:
    """A text and its tokens."""

    text: str
    encoding: Encoding

    @cached_property
    def is_cased(self) -> bool:
        """Whether the text has capital letters. Cached: a long text has thousands of windows."""
        return any(map(str.isupper, self.text))

    @cached_property
    def _uncased(self) -> tuple[np.ndarray, np.ndarray]:
        """First and past-the-end characters of the stretches without capital letters."""
        bounds = np.array(uncased_stretches(self.text), dtype=np.int64).reshape(-1, 2)
        return bounds[:, 0], bounds[:, 1]

    def cased_at(self, characters: Sequence[int]) -> np.ndarray | bool:
        """Whether the line or sentence at each character has capital letters."""
        if not self.is_cased:
            return False
        first, past = self._uncased
        if not len(first):
            return True
        before = np.searchsorted(first, characters, side="right") - 1
        uncased: np.ndarray = (before >= 0) & (np.asarray(characters) < past[before])
        return ~uncased

    @cached_property
    def breaks(self) -> TextBreaks | None:
        """What separates the names of the text; None where nothing does."""
        return TextBreaks.of(self.text, self.encoding.offsets)


def has_capitals(text: str, offsets: np.ndarray, window: Window) -> bool:
    """Whether a window has capital letters. ``offsets``: of the tokens of the text, (n, 2)."""
    return any(map(str.isupper, text[offsets[window.start, 0] : offsets[window.end - 1, 1]]))


@dataclass(frozen=True)
class WindowInput:
    """A window of a text, as the model reads it.

    Attributes:
        source: the whole text.
        window: tokens of it.
        ids: token ids, special tokens included.
        requested: the caller's span, inclusive positions in ``ids``; None where the model proposes mentions.
        is_joined: whether its line joins several texts, see `blink.data.text_starts`.
    """

    source: TokenizedText
    window: Window
    ids: list[int]
    requested: tuple[int, int] | None = None
    is_joined: bool = False

    def context(self, spans: ScoredSpans | DetectedMentions) -> TextContext:
        """The text around spans. ``spans``: positions in ``ids``, where ``[CLS]`` is 0."""
        offsets, first = self.source.encoding.offsets, self.window.start - 1
        starts = offsets[spans.start + first, 0].tolist()
        bounds = list(zip(starts, offsets[spans.end + first, 1].tolist(), strict=True))
        return TextContext(self.source.text, bounds, self.characters, self.source.cased_at(starts), self.is_joined)

    @property
    def characters(self) -> tuple[int, int]:
        """Characters ``[start, end)`` of the window."""
        offsets = self.source.encoding.offsets
        return int(offsets[self.window.start, 0]), int(offsets[self.window.end - 1, 1])

    @cached_property
    def is_cased(self) -> bool:
        """Whether the window has capital letters: texts that are joined, and lines of a chat, do not write alike."""
        return has_capitals(self.source.text, self.source.encoding.offsets, self.window)


@dataclass(frozen=True)
class DetectedMentions:
    """Spans of one input that may be mentions.

    Attributes:
        start, end: inclusive positions in the input. *Shape:* (m,), int64.
        logits: scores as mentions, inf for requested spans. *Shape:* (m,), float32.
        vectors: mention vectors. *Shape:* (m, d), float32.
        topics: vectors of the text around each, if requested, see `BiEncoder.embed_topics`. *Shape:* (m, d), float32.
    """

    start: np.ndarray
    end: np.ndarray
    logits: np.ndarray
    vectors: np.ndarray
    topics: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def concatenate(cls, mentions: Sequence[DetectedMentions]) -> DetectedMentions:
        """Those of several inputs, at least one, as if they were of one."""
        if len(mentions) == 1:
            return mentions[0]
        names = [name for name in cls.__dataclass_fields__ if getattr(mentions[0], name) is not None]
        return cls(**{name: np.concatenate([getattr(m, name) for m in mentions]) for name in names})


@dataclass(frozen=True)
class WindowBatch:
    """A window with what each stage added to it; a stage that was left out adds None.

    Attributes:
        input: tokens, from tokenizer and windows.
        mentions: from the mention detector.
        retrieved: dense candidates with inner products, from the candidate generator.
        features: of these and of alias and fuzzy candidates, from the featurizer.
        reranked: candidates with log-odds, from the reranker.
        rescored: candidates with scores of the graph prior.
    """

    input: WindowInput
    mentions: DetectedMentions
    retrieved: ScoredSpans
    features: CandidateFeatures | None = None
    reranked: ScoredSpans | None = None
    rescored: ScoredSpans | None = None

    @property
    def before_prior(self) -> ScoredSpans:
        """Scores without the graph prior."""
        return self.retrieved if self.reranked is None else self.reranked

    @property
    def spans(self) -> ScoredSpans:
        """Scores of the last stage that ran."""
        return self.before_prior if self.rescored is None else self.rescored


@dataclass(frozen=True)
class Analysis:
    """Everything about a text before a decision: links are decoded from it at any threshold, without the model.

    Attributes:
        text: the caller's string.
        offsets: characters ``[start, end)`` of its tokens. *Shape:* (n, 2).
        spans: scored spans in positions of those tokens.
        requested: the caller's own mentions, one for each of ``spans``, characters ``[start, end)``; None where the model
            proposed the mentions.
        mention_vectors: of the spans, if kept. *Shape:* (m, d), float32.
        features: of the spans' candidates, if kept; its spans hold the candidates before reranking.
        scores_before_prior: the spans without graph prior, coherence and document stage, if kept.
        scores_before_coherence: the spans without coherence and document stage, if kept.
        scores_before_document: the spans without the document stage, if kept.
    """

    text: str
    offsets: np.ndarray
    spans: ScoredSpans
    requested: tuple[tuple[int, int], ...] | None = None
    mention_vectors: np.ndarray | None = None
    features: CandidateFeatures | None = None
    scores_before_prior: ScoredSpans | None = None
    scores_before_coherence: ScoredSpans | None = None
    scores_before_document: ScoredSpans | None = None

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Characters ``[start, end)`` of tokens ``first`` to ``last``, inclusive.

        Marks that combine with the last character (accents, variation selectors) belong to it; tokenizers drop them. Spaces
        at either end, which byte-level tokens hold, do not belong; of nothing but spaces an empty span remains.
        """
        start, end = int(self.offsets[first, 0]), int(self.offsets[last, 1])
        while start < end and self.text[start].isspace():
            start += 1
        while start < end and self.text[end - 1].isspace():
            end -= 1
        while end < len(self.text) and unicodedata.category(self.text[end]) in ("Mn", "Me"):
            end += 1
        return start, end

    def span_characters(self) -> list[tuple[int, int]]:
        """Characters ``[start, end)`` of every span: the requested ones as they were requested."""
        if self.requested is not None:
            return list(self.requested)
        bounds = zip(self.spans.start.tolist(), self.spans.end.tolist(), strict=True)
        return [self.characters(first, last) for first, last in bounds]
