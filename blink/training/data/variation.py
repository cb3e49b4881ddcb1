"""Variations of training texts: other letter case, several texts joined into one, and texts as people type them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from blink.data.records import Mention, Sample
from blink.training.data.noise import augmented

CASES: tuple[tuple[Callable[[str], str], float], ...] = ((str.lower, 0.8), (str.upper, 0.1), (str.title, 0.1))
"""Other spellings of a text with capital letters, and how often each is drawn."""
SEPARATORS = (" ", "\n", "\n\n")
MOST_JOINED = 8
CHARACTERS_PER_TOKEN = 4.2
"""Mean of English texts, special tokens aside; joined texts that are longer than the context are cut later."""


def recased(samples: Sequence[Sample], share: float, random: np.random.Generator) -> list[Sample]:
    """Spell a share of the texts that have capital letters in lower, upper or title case.

    Texts that change their length by it, or that have stored tokens, stay as they are.
    """
    draws, kinds = random.random(len(samples)), random.choice(len(CASES), size=len(samples), p=[p for _, p in CASES])
    return [
        _spelt(sample, CASES[kind][0]) if draw < share else sample
        for sample, draw, kind in zip(samples, draws, kinds, strict=True)
    ]


def joined(samples: Sequence[Sample], share: float, tokens: int, random: np.random.Generator) -> list[Sample]:
    """Join a share of the texts with others into texts of at most about ``tokens`` tokens, in random order.

    Texts with stored tokens stay as they are. A partially labelled text becomes a stretch without labels of the joined one.
    """
    drawn = random.random(len(samples)) < share
    chars = tokens * CHARACTERS_PER_TOKEN
    single: list[Sample] = []
    members: list[Sample] = []
    for i in random.permutation(len(samples)):
        sample = samples[i]
        short = drawn[i] and sample.token_ids is None and len(sample.text) < chars / 2
        (members if short else single).append(sample)
    at = 0
    while at < len(members):
        past, length, limit = at, 0, int(random.integers(2, MOST_JOINED + 1))
        while past < len(members) and past - at < limit and length + len(members[past].text) <= chars:
            length += len(members[past].text) + 1
            past += 1
        separators = [SEPARATORS[k] for k in random.choice(len(SEPARATORS), size=past - at, p=(0.6, 0.25, 0.15))]
        single.append(_joined(members[at:past], separators) if past - at > 1 else members[at])
        at = past
    return single


def typed(sample: Sample, damage: float, is_name: Callable[[str, Mention], bool], random: np.random.Generator) -> Sample | None:
    """A text as people type it: in lower case, a share of its names misspelt or shortened.

    Args:
        sample: the text.
        damage: share of the mentions that are augmented, see `blink.training.data.noise`.
        is_name: whether a string is the name of another entity than that of the mention.
        random: draws mentions and augmentations.

    Returns:
        None for texts with overlapping mentions, unlabelled stretches, or letters whose lower case has another length.
    """
    mentions = _by_position(sample.mentions or ())
    overlap = any(a.end > b.start for a, b in pairwise(mentions))
    if overlap or sample.unlabelled or sample.token_ids is not None or len(sample.text.lower()) != len(sample.text):
        return None
    text, written, moved = "", 0, []
    for mention in mentions:
        name = sample.text[mention.start : mention.end]
        if random.random() < damage:
            other = augmented(name, random)
            name = name if is_name(other, mention) else other
        text += sample.text[written : mention.start]
        moved.append(replace(mention, start=len(text), end=len(text) + len(name)))
        text, written = text + name, mention.end
    return replace(sample, text=(text + sample.text[written:]).lower(), mentions=tuple(moved))


def _spelt(sample: Sample, spell: Callable[[str], str]) -> Sample:
    text = spell(sample.text)
    changed = sample.token_ids is None and len(text) == len(sample.text) and not sample.text.islower()
    return replace(sample, text=text) if changed else sample


def _joined(samples: Sequence[Sample], separators: Sequence[str]) -> Sample:
    text, mentions, unlabelled = "", [], []
    for sample, separator in zip(samples, ("", *separators), strict=False):
        # Without an end of sentence only a line end separates two texts.
        text += separator if not text or text[-1] in ".!?" or "\n" in separator else separator.replace(" ", "\n")
        first = len(text)
        mentions += [replace(m, start=m.start + first, end=m.end + first) for m in sample.mentions or ()]
        whole = ((0, len(sample.text)),) if sample.partial else sample.unlabelled
        unlabelled += [(start + first, end + first) for start, end in whole]
        text += sample.text
    return Sample("+".join(s.id for s in samples), text, tuple(_by_position(mentions)), unlabelled=tuple(unlabelled))


def _by_position(mentions: Iterable[Mention]) -> list[Mention]:
    return sorted(mentions, key=lambda m: (m.start, m.end))
