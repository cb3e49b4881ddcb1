"""Merges the windows of a text: every span comes from the window that owns it, in positions of the text's tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from blink.data.windows import owning_windows
from blink.linking.analysis import WindowBatch
from blink.linking.features import CandidateFeatures
from blink.linking.scoring import ScoredSpans


class MergedWindows:
    """The windows of one text.

    Args:
        batches: of each window; windows of requested spans own all their spans.
        size: dense candidates of a mention, for a text without spans.
    """

    def __init__(self, batches: Sequence[WindowBatch], size: int) -> None:
        self._batches, self._size = batches, size
        # Positions in an input count [CLS]; positions in the text do not.
        self._shifts = [batch.input.window.start - 1 for batch in batches]
        self._owned = [np.ones(len(batch.mentions), dtype=bool) for batch in batches]
        if len(batches) > 1 and batches[0].input.requested is None:
            windows = [batch.input.window for batch in batches]
            for i, (batch, shift) in enumerate(zip(batches, self._shifts, strict=True)):
                starts, ends = batch.mentions.start + shift, batch.mentions.end + shift
                self._owned[i] = owning_windows(windows, starts, ends + 1) == i

    def spans(self, of_windows: Iterable[ScoredSpans]) -> ScoredSpans:
        """The spans of the text. ``of_windows``: some scores of each window's spans."""
        if len(self._batches) == 1:  # nearly every text: nothing to copy
            (spans,) = of_windows
            return spans.shift(self._shifts[0])
        columns = zip(of_windows, self._owned, self._shifts, strict=True)
        return ScoredSpans.concatenate([ScoredSpans.none(self._size), *(s.select(mask).shift(by) for s, mask, by in columns)])

    def mention_vectors(self, width: int) -> np.ndarray:
        """*Shape:* (m, width), float32."""
        owned = [batch.mentions.vectors[mask] for batch, mask in zip(self._batches, self._owned, strict=True)]
        return np.concatenate([np.empty((0, width), np.float32), *owned])

    def features(self) -> CandidateFeatures:
        """The features of all spans, from batches that keep them."""
        columns = zip(self._batches, self._owned, self._shifts, strict=True)
        owned = [(b.features.select(mask), shift) for b, mask, shift in columns if b.features is not None]
        return CandidateFeatures.concatenate([replace(f, spans=f.spans.shift(shift)) for f, shift in owned])
