"""Sample sentences of a language model."""

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
    """How the next word is chosen.

    Attributes:
        words: most words to add.
        temperature: 0 takes the likeliest word; below 1 is more careful than the model, above 1 bolder.
        top_k: choose among the likeliest k; 0 among all.
        top_p: choose among the likeliest words that together have this probability.
        unknown: whether the word ``unk`` may be chosen.
        seed: of the choices.
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
def generate(model: KGLanguageModel, vocabulary: Vocabulary, prompt: str, how: Sampling) -> list[str]:
    """Go on with a text, word by word, to the end of the line or ``how.words``.

    All of the prompt is read, and each word is read once: the cells' state is kept. Dropout is off.

    Args:
        model: with a language model in it.
        vocabulary: its words.
        prompt: how the line begins; may be empty.
        how: what is chosen.

    Returns:
        the words that were added.

    Raises:
        SettingsError: the model is a triple classifier alone.
    """
    random = torch.Generator().manual_seed(how.seed)
    device = next(model.parameters()).device
    ids, state, made = [BOS, *vocabulary.ids(text_words(prompt))], None, list[int]()
    learning = model.training
    model.eval()
    try:
        while len(made) < how.words:
            logits, state = model.next_logits(torch.tensor([ids], device=device), state)
            word = choose(logits[0].cpu(), how, random)
            if word == EOS:
                break
            made.append(word)
            ids = [word]
    finally:
        model.train(learning)
    return [vocabulary.spelling(word) for word in made]


def choose(logits: Tensor, how: Sampling, random: torch.Generator) -> int:
    """The next word's id.

    Args:
        logits: of all words. *Shape:* (vocabulary,).
        how: what is chosen.
        random: where chance comes from.
    """
    logits = logits.double().clone()
    logits[[PAD, BOS, *([] if how.unknown else [UNK])]] = -math.inf
    if how.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / how.temperature, 0)
    ordered, words = probabilities.sort(descending=True, stable=True)
    # A word is kept while those before it are short of top_p: the likeliest always is.
    kept = (ordered.cumsum(0) - ordered < how.top_p) & (torch.arange(len(ordered)) < (how.top_k or len(ordered)))
    return int(words[torch.multinomial(torch.where(kept, ordered, 0.0), 1, generator=random)])


def side_by_side(names: Sequence[str], texts: Sequence[str], width: int) -> list[str]:
    """Texts in columns under their names, wrapped to a line of ``width`` characters; one below the other where it is narrow."""
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
    return [" | ".join(part.ljust(column) for part in row).rstrip() for row in rows]
