"""Scores of spans as mentions, from the scores of their tokens: arrays, whatever ran the encoder.

The same as `blink.model.heads.SpanScores`, which training differentiates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blink.errors import ShapeError


@dataclass(frozen=True)
class SpanScores:
    """Scores of all spans of a batch, by first token and width.

    Attributes:
        logits: score of the span of ``width + 1`` tokens that begins at a token; -inf where it is no span.
            *Shape:* (batch, seq, widths), float32.
    """

    logits: np.ndarray

    @classmethod
    def of(cls, token_scores: np.ndarray, mask: np.ndarray, max_mention_length: int) -> SpanScores:
        """Score every span as start + end + sum of inside scores (Li et al. 2020, eq. 2-4).

        Args:
            token_scores: start, end and inside scores of each token. *Shape:* (batch, seq, 3), float32.
            mask: true at real tokens, a prefix of each row. *Shape:* (batch, seq), bool.
            max_mention_length: largest ``end - start``.

        Raises:
            ShapeError: ``token_scores`` and ``mask`` disagree.
        """
        if token_scores.shape != (*mask.shape, 3):
            raise ShapeError(f"token scores have shape {token_scores.shape}; a mask of {mask.shape} needs (..., 3)")
        batch, seq = mask.shape
        start, end, inside = np.moveaxis(np.where(mask[..., None], token_scores, np.float32(0)), -1, 0)
        # Summed in float64, as torch does on a CPU: long texts lose no digits.
        before = np.zeros((batch, seq + 1), dtype=np.float32)
        before[:, 1:] = inside.cumsum(1, dtype=np.float64)
        last = np.arange(seq)[:, None] + np.arange(min(max_mention_length + 1, seq))
        inside_text, last = last < seq, np.minimum(last, seq - 1)
        logits = start[:, :, None] + end[:, last] + before[:, last + 1] - before[:, :seq, None]
        logits[~(mask[:, last] & inside_text)] = -np.inf
        return cls(logits)

    def without_ends(self, mask: np.ndarray) -> SpanScores:
        """The same scores without spans that touch the first or last real token (``[CLS]`` and ``[SEP]``)."""
        seq, widths = self.logits.shape[1:]
        first = np.arange(seq)[:, None]
        touching = (first == 0) | (first + np.arange(widths) >= mask.sum(1)[:, None, None] - 1)
        return SpanScores(np.where(touching, np.float32(-np.inf), self.logits))

    def whole_words(self, continues: np.ndarray) -> SpanScores:
        """The same scores without spans that begin or end inside a word.

        Args:
            continues: true at tokens that continue the word before them. *Shape:* (batch, seq), bool.
        """
        seq, widths = self.logits.shape[1:]
        after = np.arange(seq)[:, None] + np.arange(1, widths + 1)
        cut_off = np.pad(continues, ((0, 0), (0, widths)))[:, after]
        return SpanScores(np.where(continues[:, :, None] | cut_off, np.float32(-np.inf), self.logits))

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ``k`` best spans of each text (fewer where a text has fewer positions).

        Returns:
            logits, first and last token (inclusive), best first, equal ones by position.
            *Shape:* (batch, min(k, seq * widths)) each.
        """
        batch, seq, widths = self.logits.shape
        flat = self.logits.reshape(batch, seq * widths)
        if k < seq * widths:
            best = np.sort(np.argpartition(-flat, k - 1, axis=1)[:, :k], axis=1)
        else:
            best = np.broadcast_to(np.arange(seq * widths), flat.shape)
        order = np.argsort(-np.take_along_axis(flat, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        start = best // widths
        return np.take_along_axis(flat, best, 1), start, start + best % widths


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the probability of logits; -inf for -inf. *Shape:* that of ``logits``, float32."""
    result: np.ndarray = np.minimum(logits, 0) - np.log1p(np.exp(-np.abs(logits)))
    return result
