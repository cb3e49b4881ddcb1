"""Perplexity of a text, with the figures that are needed to interpret it: vocabulary, unknown words, number of words.

Perplexity is ``exp(sum of losses / predicted words)`` over the whole corpus, not averaged over lines. Ends of lines are
predicted, beginnings and padding are not. It is comparable only between models with the same vocabulary (by its hash): a
smaller vocabulary makes the task easier, because all other words are the one word ``unk``. Two metrics correct for that. The
unknown-penalised perplexity (Ahn et al. 2016) divides the probability of ``unk`` evenly among the distinct unknown words of the
text. Bits per character divide that loss by the number of characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blink.errors import DataError
from blink.kglm.lm.corpus import Corpus
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.vocabulary import UNK

BATCH_WORDS = 4096
"""Words per batch, padding included, in evaluation."""


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text and related metrics.

    Attributes:
        perplexity: over all predicted words.
        without_unknown: over all predicted words except ``unk``.
        unknown_penalised: with the probability of ``unk`` divided by the number of distinct unknown words.
        bits_per_character: the unknown-penalised loss in bits, divided by the number of characters.
        nats: mean loss per predicted word, the logarithm of the perplexity.
        tokens: number of predicted words, ends of lines included.
        lines: number of lines.
        unknown: number of words that are not in the vocabulary.
        unknown_types: number of distinct words that are not in the vocabulary.
        unknown_rate: fraction of words that are not in the vocabulary.
        vocabulary: number of ids of the vocabulary.
        as_the_original_counts: perplexity as printed by the original's ``test_kge_lm``, to compare with published figures. It
            is too low: for a line of n ids, ``<BOS>`` and ``<EOS>`` included, it predicts ``n - 3`` words with an LSTM or
            ``n - 4`` with a BiLSTM, and divides the sum of their losses by ``n - 2``.
    """

    perplexity: float
    without_unknown: float
    unknown_penalised: float
    bits_per_character: float
    nats: float
    tokens: int
    lines: int
    unknown: int
    unknown_types: int
    unknown_rate: float
    vocabulary: int
    as_the_original_counts: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_perplexity(
    model: KGLanguageModel, corpus: Corpus, advance: Callable[[int], None] = lambda words: None
) -> Perplexity:
    """Measure a text.

    Args:
        model: the model; it runs in evaluation mode.
        corpus: the text.
        advance: called with the number of words done.
    """
    total = of_unknown = original = 0.0
    counted = 0
    for lines, losses in line_losses(model, corpus):
        total += float(losses.sum(dtype=np.float64))
        ids = corpus.batch(lines).numpy()[:, 1:]
        of_unknown += float(losses[ids == UNK].sum(dtype=np.float64))
        batch_loss, count = _original_losses(model, corpus.lengths[lines], losses)
        original, counted = original + batch_loss, counted + count
        advance(int(corpus.lengths[lines].sum()) + len(lines))
    return _summarise(total, of_unknown, original / counted, corpus)


def _summarise(total: float, of_unknown: float, original: float, corpus: Corpus) -> Perplexity:
    """Compute the metrics from losses.

    Args:
        total: sum of the losses of all predicted words, in nats.
        of_unknown: sum of the losses of ``unk``.
        original: mean loss as computed by the original.
        corpus: the text.
    """
    tokens, unknown, types = corpus.words + len(corpus), corpus.unknown_words, corpus.unknown_types
    known_tokens = tokens - unknown  # never 0, because ends of lines are known tokens
    penalised = total + unknown * math.log(max(types, 1))
    return Perplexity(
        perplexity=_exp(total / tokens),
        without_unknown=_exp((total - of_unknown) / known_tokens),
        unknown_penalised=_exp(penalised / tokens),
        bits_per_character=penalised / math.log(2) / float(corpus.characters.sum()),
        nats=total / tokens,
        tokens=tokens,
        lines=len(corpus),
        unknown=unknown,
        unknown_types=types,
        unknown_rate=unknown / corpus.words,
        vocabulary=corpus.vocabulary_size,
        as_the_original_counts=_exp(original),
    )


def line_losses(model: KGLanguageModel, corpus: Corpus) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Losses of all words, in batches of lines of similar length.

    Yields:
        indices of lines, *shape* (batch,), and losses of their words, 0 at padding, *shape* (batch, time), float32.

    Raises:
        DataError: the text has no lines.
    """
    if len(corpus) == 0:
        raise DataError("there is no line to measure; give a text of at least one word")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for lines in _batches_by_length(corpus.lengths):
            yield lines, model.line_losses(corpus.batch(lines).to(device)).cpu().numpy()
    finally:
        model.train(was_training)


def _batches_by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * (lengths[order[end]] + 2) <= BATCH_WORDS:
            end += 1
        yield order[begin:end]
        begin = end


def _original_losses(model: KGLanguageModel, lengths: np.ndarray, losses: np.ndarray) -> tuple[float, int]:
    """Sum and divisor of the losses of some lines, as in the original's ``test_kge_lm``."""
    unscored = 4 if model.network.cells.backward else 3
    ids = lengths + 2
    scored = np.arange(losses.shape[1]) < (ids - unscored)[:, None]
    return float(losses[scored].sum(dtype=np.float64)), int((ids - 2).sum())


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
