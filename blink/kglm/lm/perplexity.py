"""Perplexity of a text, and the figures without which it says little: vocabulary, unknown words, number of words.

``exp(sum of losses / predicted words)``: whole lines, without dropout, over the corpus, not averaged over lines; ends of lines
are predicted, beginnings and padding are not. Only models of the same vocabulary (by its hash) are comparable by it. A model
with fewer known words has an easier task, for every other word is the one word ``unk``; two figures make up for that: the
unknown-penalised perplexity (Ahn et al. 2016) shares the probability of ``unk`` evenly among the different unknown words of the
text, and bits per character divide that loss by the text's characters.
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
"""Words, padding included, that are read at once where a text is measured."""


@dataclass(frozen=True)
class Perplexity:
    """What a text is to a model.

    Attributes:
        perplexity: by all predicted words.
        without_unknown: by all but ``unk``.
        unknown_penalised: with the probability of ``unk`` divided by the number of different unknown words.
        bits_per_character: of the latter loss.
        nats: mean loss per predicted word, the logarithm of the perplexity.
        tokens: predicted words, ends of lines included.
        lines: number of lines.
        unknown: words that are not in the vocabulary.
        unknown_types: different ones of these.
        unknown_rate: their share of all words.
        vocabulary: ids of the vocabulary.
        as_the_original_counts: perplexity as its ``test_kge_lm`` prints it, to set beside published figures; it flatters. Of
            a line of n ids, ``<BOS>`` and ``<EOS>`` included, it cuts the last two, predicts ``n - 3`` words by an LSTM or
            ``n - 4`` by a BiLSTM, and divides their losses by ``n - 2``.
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
        model: dropout is switched off meanwhile.
        corpus: the text.
        advance: told of words that are done.
    """
    total = of_unknown = original = 0.0
    counted = 0
    for lines, losses in line_losses(model, corpus):
        total += float(losses.sum(dtype=np.float64))
        ids = corpus.batch(lines).numpy()[:, 1:]
        of_unknown += float(losses[ids == UNK].sum(dtype=np.float64))
        part, count = _original_part(model, corpus.lengths[lines], losses)
        original, counted = original + part, counted + count
        advance(int(corpus.lengths[lines].sum()) + len(lines))
    return _summarise(total, of_unknown, original / counted, corpus)


def _summarise(total: float, of_unknown: float, original: float, corpus: Corpus) -> Perplexity:
    """The figures that follow from losses.

    Args:
        total: sum of the losses of all predicted words, in nats.
        of_unknown: of those that are ``unk``.
        original: mean loss as the original takes it.
        corpus: the text.
    """
    tokens, unknown, types = corpus.words + len(corpus), corpus.unknown_words, corpus.unknown_types
    known = tokens - unknown  # never 0: there are the ends of lines
    penalised = total + unknown * math.log(max(types, 1))
    return Perplexity(
        perplexity=_exp(total / tokens),
        without_unknown=_exp((total - of_unknown) / known),
        unknown_penalised=_exp(penalised / tokens),
        bits_per_character=penalised / math.log(2) / float(corpus.characters.sum()),
        nats=total / tokens,
        tokens=tokens,
        lines=len(corpus),
        unknown=unknown,
        unknown_types=types,
        unknown_rate=unknown / corpus.words,
        vocabulary=corpus.known,
        as_the_original_counts=_exp(original),
    )


def line_losses(model: KGLanguageModel, corpus: Corpus) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Losses of all words, batch by batch, lines of like length together.

    Yields:
        numbers of lines. *Shape:* (batch,), and losses behind each, 0 at padding. *Shape:* (batch, time), float32.

    Raises:
        DataError: the text has no line.
    """
    if len(corpus) == 0:
        raise DataError("there is no line to measure; give a text of at least one word")
    device = next(model.parameters()).device
    learning = model.training
    model.eval()
    try:
        for lines in _like_lines(corpus.lengths):
            yield lines, model.line_losses(corpus.batch(lines).to(device)).cpu().numpy()
    finally:
        model.train(learning)


def _like_lines(lengths: np.ndarray) -> Iterator[np.ndarray]:
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * (lengths[order[end]] + 2) <= BATCH_WORDS:
            end += 1
        yield order[begin:end]
        begin = end


def _original_part(model: KGLanguageModel, lengths: np.ndarray, losses: np.ndarray) -> tuple[float, int]:
    """Losses that the original's ``test_kge_lm`` adds up for some lines, and what it divides them by."""
    cut = 4 if model.network.cells.backward else 3
    ids = lengths + 2
    scored = np.arange(losses.shape[1]) < (ids - cut)[:, None]
    return float(losses[scored].sum(dtype=np.float64)), int((ids - 2).sum())


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
