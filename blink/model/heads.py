"""The two heads of the bi-encoder: span scores and mention vectors.

Li et al. 2020, "Efficient One-Pass End-to-End Entity Linking for Questions", section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blink.errors import SettingsError, ShapeError
from blink.model.backends.protocol import TOPIC_REACH
from blink.model.config import MENTION_SCORERS


@dataclass(frozen=True)
class SpanScores:
    """Scores of all spans of a batch, by first token and width.

    Attributes:
        logits: score of the span of ``width + 1`` tokens that begins at a token; -inf where it is no span.
            *Shape:* (batch, seq, widths), float32.
    """

    logits: Tensor

    def top(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The ``k`` best spans of each text (fewer where a text has fewer positions).

        Returns:
            logits, first and last token (inclusive), best first. *Shape:* (batch, min(k, seq * widths)) each.
        """
        batch, seq, widths = self.logits.shape
        logits, flat = self.logits.reshape(batch, seq * widths).topk(min(k, seq * widths), dim=1)
        start = flat // widths
        return logits, start, start + flat % widths

    def without_ends(self, mask: Tensor) -> SpanScores:
        """The same scores without spans that touch the first or last real token (``[CLS]`` and ``[SEP]``)."""
        seq, widths = self.logits.shape[1:]
        first = torch.arange(seq, device=mask.device)[:, None]
        last = first + torch.arange(widths, device=mask.device)
        touching = (first == 0) | (last >= mask.sum(1)[:, None, None] - 1)
        return SpanScores(self.logits.masked_fill(touching, float("-inf")))

    def whole_words(self, continues: Tensor) -> SpanScores:
        """The same scores without spans that begin or end inside a word.

        Args:
            continues: true at tokens that continue the word before them. *Shape:* (batch, seq), bool.
        """
        seq, widths = self.logits.shape[1:]
        after = torch.arange(seq, device=continues.device)[:, None] + torch.arange(1, widths + 1, device=continues.device)
        cut_off = torch.nn.functional.pad(continues, (0, widths))[:, after]
        return SpanScores(self.logits.masked_fill(continues[:, :, None] | cut_off, float("-inf")))

    def gather(self, start: Tensor, end: Tensor, text: Tensor) -> Tensor:
        """Scores of given spans. ``start``, ``end`` (inclusive) and ``text`` index the batch. *Shape:* (n,) each."""
        return self.logits[text, start, end - start]


def span_logits(token_scores: Tensor, mask: Tensor, max_mention_length: int) -> SpanScores:
    """Score every span as start + end + sum of inside scores (Li et al. 2020, eq. 2-4).

    The inside scores are summed as differences of one cumulative sum over finite values; what is not a span is masked
    only afterwards.

    Args:
        token_scores: start, end and inside scores of each token. *Shape:* (batch, seq, 3).
        mask: true at real tokens, a prefix of each row. *Shape:* (batch, seq), bool.
        max_mention_length: largest ``end - start``.

    Raises:
        ShapeError: ``token_scores`` and ``mask`` disagree.
    """
    if token_scores.shape != (*mask.shape, 3):
        raise ShapeError(f"token scores have shape {tuple(token_scores.shape)}; a mask of {tuple(mask.shape)} needs (..., 3)")
    seq = mask.shape[1]
    widths = min(max_mention_length + 1, seq)
    start, end, inside = token_scores.float().masked_fill(~mask[..., None], 0.0).unbind(-1)
    before = torch.nn.functional.pad(inside.cumsum(1), (1, 0))
    first = torch.arange(seq, device=mask.device)[:, None]
    last = first + torch.arange(widths, device=mask.device)
    inside_text = last < seq
    last = last.clamp(max=seq - 1)
    logits = start[:, :, None] + end[:, last] + before[:, last + 1] - before[:, :seq, None]
    return SpanScores(logits.masked_fill(~(mask[:, last] & inside_text), float("-inf")))


class MentionScorer(nn.Module):
    """Start, end and inside score of every token: ``qa_linear`` (one linear layer) or ``qa_mlp`` (a hidden layer)."""

    def __init__(self, kind: str, hidden_size: int) -> None:
        super().__init__()
        if kind not in MENTION_SCORERS:
            raise SettingsError(f"mention scorer is {kind!r}; allowed are {', '.join(MENTION_SCORERS)}")
        self.bound_classifier: nn.Module = (
            nn.Linear(hidden_size, 3) if MENTION_SCORERS[kind] == "qa_linear" else _mlp(hidden_size, hidden_size, 3)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map token vectors (batch, seq, hidden) to scores (batch, seq, 3)."""
        scores: Tensor = self.bound_classifier(hidden)
        return scores


def mean_around(hidden: Tensor, mask: Tensor, text: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Mean of the tokens of each span and of `TOPIC_REACH` tokens before and after it, without ``[CLS]`` and ``[SEP]``.

    It says what the text is about; a mention's own vector says more about its name.

    Args:
        hidden: token vectors. *Shape:* (batch, seq, hidden), float32.
        mask: true at real tokens, a prefix of each row. *Shape:* (batch, seq), bool.
        text: row of each span in the batch. *Shape:* (n,), int64.
        start: first token. *Shape:* (n,), int64.
        end: last token, inclusive. *Shape:* (n,), int64.

    Returns:
        *Shape:* (n, hidden), float32.
    """
    first = (start - TOPIC_REACH).clamp(min=1)
    past = torch.minimum(end + TOPIC_REACH + 1, mask.sum(1)[text] - 1)
    sums = nn.functional.pad(hidden.cumsum(1), (0, 0, 1, 0))
    return (sums[text, past] - sums[text, first]) / (past - first).clamp(min=1)[:, None]


class MentionAggregator(nn.Module):
    """Vector of a span from its tokens: all of them averaged (``all``) or first and last (``fl``), then a layer or none.

    | name | vector |
    | --- | --- |
    | ``all_avg`` | mean of the tokens |
    | ``fl_avg`` | mean of first and last |
    | ``all_avg_linear``, ``all_mlp`` | a linear layer, or two with ReLU between, on the mean |
    | ``fl_linear``, ``fl_mlp`` | the same on first and last, concatenated |

    Raises:
        SettingsError: a plain average is requested, but mention and entity vectors differ in size.
    """

    def __init__(self, kind: str, hidden_size: int, out_size: int) -> None:
        super().__init__()
        self.whole_span = kind.startswith("all")
        self.averaged = kind in ("all_avg", "fl_avg", "all_avg_linear", "all_mlp", "cls")
        in_size = hidden_size if self.averaged else 2 * hidden_size
        self.mention_agg_linear: nn.Module | None = None
        if kind.endswith("linear"):
            self.mention_agg_linear = nn.Linear(in_size, out_size)
        elif kind.endswith("mlp"):
            self.mention_agg_linear = _mlp(in_size, hidden_size, out_size)
        elif hidden_size != out_size:
            raise SettingsError(
                f"aggregation {kind!r} gives mention vectors of {hidden_size} numbers, entity vectors have {out_size}; "
                "use one with a layer, such as all_avg_linear"
            )

    def forward(self, hidden: Tensor, text: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Embed spans.

        Args:
            hidden: token vectors. *Shape:* (batch, seq, hidden).
            text: row of each span in the batch. *Shape:* (n,), int64.
            start: first token. *Shape:* (n,), int64.
            end: last token, inclusive. *Shape:* (n,), int64.

        Returns:
            mention vectors. *Shape:* (n, out_size), float32.
        """
        if self.whole_span:
            vectors = _mean_of_tokens(hidden, text, start, end)
        else:
            first, last = hidden[text, start].float(), hidden[text, end].float()
            vectors = (first + last) / 2 if self.averaged else torch.cat([first, last], dim=1)
        return vectors if self.mention_agg_linear is None else self.mention_agg_linear(vectors)


def _mean_of_tokens(hidden: Tensor, text: Tensor, start: Tensor, end: Tensor) -> Tensor:
    # Gathered rather than taken from prefix sums: spans are short, and small differences of large sums lose digits.
    if not len(text):
        return hidden.new_zeros((0, hidden.shape[-1]), dtype=torch.float32)
    length = end - start + 1
    offsets = torch.arange(int(length.max()), device=hidden.device)
    inside = offsets < length[:, None]
    tokens = hidden[text[:, None], (start[:, None] + offsets).clamp(max=hidden.shape[1] - 1)].float()
    return (tokens * inside[..., None]).sum(1) / length[:, None]


def _mlp(in_size: int, hidden_size: int, out_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_size, hidden_size), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden_size, out_size))
