"""Merges the windows of a text, and its sections.

Every span comes from the window that owns it, in positions of the text's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blink.data.windows import owning_windows
from blink.linking.analysis import KEEP, SCORES_BEFORE, Analysis, WindowBatch
from blink.linking.features import FEATURES, CandidateFeatures
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


def with_added(outputs: Mapping[str, Any], added: ScoredSpans) -> dict[str, Any]:
    """Stage outputs by name, and empty ones for spans that were added behind these stages."""
    m, k = added.rows.shape
    empty: dict[str, Callable[[Any], Any]] = {
        "mention_vectors": lambda kept: np.zeros((m, kept.shape[1]), np.float32),
        "features": lambda kept: CandidateFeatures(added, np.zeros((m, k, len(FEATURES)), np.float32)),
    }
    unscored = replace(added, rows=np.full((m, k), -1), entity_logits=np.full((m, k), -np.inf, np.float32))
    empty |= dict.fromkeys(SCORES_BEFORE, lambda _: unscored)
    return {name: _concatenated([kept, empty[name](kept)]) for name, kept in outputs.items()}


def merged_sections(text: str, sections: Sequence[Analysis]) -> Analysis:
    """The analysis of a text from those of its sections, in order."""
    if len(sections) == 1:
        return sections[0]
    characters = np.cumsum([0, *(len(section.text) for section in sections)])
    tokens = np.cumsum([0, *(len(section.offsets) for section in sections)]).tolist()
    offsets = np.concatenate([section.offsets + at for section, at in zip(sections, characters, strict=False)])
    moved = [_shifted(section, by) for section, by in zip(sections, tokens, strict=False)]
    merged = {name: _concatenated([of_section[name] for of_section in moved]) for name in ("spans", *KEEP)}
    return Analysis(text, offsets, requested=None, **merged)


def _shifted(section: Analysis, by: int) -> dict[str, Any]:
    features = section.features
    before = {name: getattr(section, name) for name in SCORES_BEFORE}
    return {name: None if spans is None else spans.shift(by) for name, spans in before.items()} | {
        "spans": section.spans.shift(by),
        "mention_vectors": section.mention_vectors,
        "features": None if features is None else replace(features, spans=features.spans.shift(by)),
    }


def _concatenated(outputs: Sequence[Any]) -> Any:
    """Outputs of a stage as one; None if the stage has none."""
    if outputs[0] is None:
        return None
    return np.concatenate(outputs) if isinstance(outputs[0], np.ndarray) else type(outputs[0]).concatenate(outputs)
