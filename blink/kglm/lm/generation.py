"""Sample sentences from a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blink.errors import SettingsError
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from blink.kglm.lm.words import text_words


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Attributes:
        words: maximum number of words to generate.
        temperature: divides the logits; 0 is greedy decoding.
        top_k: sample from the k likeliest words; 0 from all.
        top_p: sample from the smallest set of likeliest words with this total probability.
        unknown: whether the word ``unk`` may be sampled.
        seed: seed of the samples.
    """

    words: int = 20
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    unknown: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.words < 1 or self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise SettingsError("take at least one word, a temperature and top k of 0 or more, and a top p above 0 and up to 1")


@torch.no_grad()
def generate(model: KGLanguageModel, vocabulary: Vocabulary, prompt: str, sampling: Sampling) -> list[str]:
    """Continue a text word by word, to the end of the line or ``sampling.words``.

    Each word is read once, because the hidden state is carried over. The model runs in evaluation mode.

    Args:
        model: a model with a language model.
        vocabulary: its vocabulary.
        prompt: beginning of the line; may be empty.
        sampling: what is chosen.

    Returns:
        the words that were added.

    Raises:
        SettingsError: the model is a triple classifier alone.
    """
    random = torch.Generator().manual_seed(sampling.seed)
    device = next(model.parameters()).device
    ids, state, words = [BOS, *vocabulary.ids(text_words(prompt))], None, list[int]()
    was_training = model.training
    model.eval()
    try:
        while len(words) < sampling.words:
            logits, state = model.next_logits(torch.tensor([ids], device=device), state)
            word = sample_word(logits[0].cpu(), sampling, random)
            if word == EOS:
                break
            words.append(word)
            ids = [word]
    finally:
        model.train(was_training)
    return [vocabulary.word(word) for word in words]


def sample_word(logits: Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """Sample the id of the next word.

    Args:
        logits: logits of all words. *Shape:* (vocabulary,).
        sampling: sampling settings.
        random: source of random numbers.
    """
    logits = logits.double().clone()
    logits[[PAD, BOS, *([] if sampling.unknown else [UNK])]] = -math.inf
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, 0)
    ordered, words = probabilities.sort(descending=True, stable=True)
    # A word is in the nucleus if the words before it sum to less than top_p, so the likeliest word always is.
    nucleus = (ordered.cumsum(0) - ordered < sampling.top_p) & (torch.arange(len(ordered)) < (sampling.top_k or len(ordered)))
    return int(words[torch.multinomial(torch.where(nucleus, ordered, 0.0), 1, generator=random)])


def format_columns(names: Sequence[str], texts: Sequence[str], width: int) -> list[str]:
    """Format texts in columns under their names, wrapped to ``width`` characters; one per block if columns are too narrow."""
    import textwrap

    column = (width - 3 * (len(names) - 1)) // max(len(names), 1)
    if column < 24:
        return [line for name, text in zip(names, texts, strict=True) for line in (f"{name}:", *textwrap.wrap(text, width), "")]
    cells = [
        [*textwrap.wrap(name, column), "-" * column, *textwrap.wrap(text, column)]
        for name, text in zip(names, texts, strict=True)
    ]
    height = max(map(len, cells))
    rows = ([cell[row] if row < len(cell) else "" for cell in cells] for row in range(height))
    return [" | ".join(cell.ljust(column) for cell in row).rstrip() for row in rows]
