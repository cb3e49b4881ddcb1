"""Masking of words, as in RoBERTa, and of entities (Yamada et al. 2020, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from examples.luke.features import EntitySlot, Feature
from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining.dataset import Item, PackedDataset
from examples.pretraining.settings import MaskSettings
from examples.pretraining.vocabulary import MASK, SPECIAL, EntityVocab

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Masked:
    """A masked window.

    Attributes:
        feature: the input of the model.
        word_positions: masked tokens, counted from ``<s>``. *Shape:* (masked words,).
        words: their original ids.
        entity_positions: masked entities, counted from the first. *Shape:* (masked entities,).
        entities: their original rows.
    """

    feature: Feature
    word_positions: Indices
    words: Indices
    entity_positions: Indices
    entities: Indices


class Masker:
    """Masks words and entities of windows.

    Args:
        settings: probabilities and units.
        tokens: of the model's tokenizer.
        word_count: vocabulary size; random tokens are drawn from those after the padding.
        word_mask: id of ``<mask>``.
        vocab: of entities.
    """

    def __init__(
        self, settings: MaskSettings, tokenizer: PlainTokenizer, word_count: int, word_mask: int, vocab: EntityVocab
    ) -> None:
        self.settings, self._word_mask, self._entity_mask = settings, word_mask, vocab.row(MASK)
        self._opens = np.array([tokenizer.opens_word(i) for i in range(word_count)])
        self._word_range = (tokenizer.pad + 1, word_count)
        self._entity_range = (len(SPECIAL), len(vocab))

    def mask(self, feature: Feature, chance: np.random.Generator) -> Masked:
        """Mask words and entities of a window at random."""
        settings = self.settings
        words, slots = np.array(feature.words), [] if settings.word_only_training else list(feature.entities)
        hidden = self._entities(len(slots), chance)
        below = [slots[i] for i in hidden] if settings.mask_words_in_entity_span else []
        groups = self._words(words, below, chance)
        positions = np.concatenate([np.zeros(0, np.int64), *groups])
        right_words, right_entities = words[positions], np.array([slots[i].id for i in hidden], dtype=np.int64)
        for group in groups:
            self._replace_words(words, group, chance)
        for i in hidden:
            slots[i] = self._replaced_entity(slots[i], chance)
        masked = replace(feature, words=words.tolist(), entities=slots)
        return Masked(masked, positions, right_words, hidden, right_entities)

    def _entities(self, count: int, chance: np.random.Generator) -> Indices:
        probability = self.settings.masked_entity_prob
        n_masked = max(1, round(probability * count)) if count and probability else 0
        return np.sort(chance.permutation(count)[:n_masked]) if n_masked else np.zeros(0, np.int64)

    def _words(self, words: Indices, below: Sequence[EntitySlot], chance: np.random.Generator) -> list[Indices]:
        """Words to mask, as groups of tokens: those of masked entities, then random others within the budget."""
        count = len(words) - 2
        if not self.settings.masked_lm_prob or count < 1:
            return []
        budget = max(1, round(self.settings.masked_lm_prob * count))
        starts = self._opens[words[1:-1]] if self.settings.whole_word_masking else np.ones(count, bool)
        groups = np.split(np.arange(1, count + 1), np.flatnonzero(starts[1:]) + 1)
        covered = {position for slot in below for position in range(slot.start, slot.end)}
        first = [group for group in groups if covered.intersection(group.tolist())] if covered else []
        budget -= sum(map(len, first))
        selected = list(first)
        for i in chance.permutation(len(groups)):
            if budget <= 0:
                break
            if len(groups[i]) <= budget and not (covered and covered.intersection(groups[i].tolist())):
                selected.append(groups[i])
                budget -= len(groups[i])
        return selected

    def _replace_words(self, words: Indices, group: Indices, chance: np.random.Generator) -> None:
        """Replace the tokens of a word, with one draw."""
        draw, settings = chance.random(), self.settings
        if draw < settings.random_word_prob:
            words[group] = chance.integers(*self._word_range, size=len(group))
        elif draw >= settings.random_word_prob + settings.unmasked_word_prob:
            words[group] = self._word_mask

    def _replaced_entity(self, slot: EntitySlot, chance: np.random.Generator) -> EntitySlot:
        draw, settings = chance.random(), self.settings
        if draw < settings.random_entity_prob:
            return replace(slot, id=int(chance.integers(*self._entity_range)))
        return (
            slot if draw < settings.random_entity_prob + settings.unmasked_entity_prob else replace(slot, id=self._entity_mask)
        )


class Windows(Sequence[Feature]):
    """The windows of a dataset as inputs of the model, read from disk one by one.

    Args:
        data: the dataset.
        begin, end: ids around a text.
        size: number of windows, from the first; None for all.
    """

    def __init__(self, data: PackedDataset, begin: int, end: int, size: int | None = None) -> None:
        self._data, self._begin, self._end = data, begin, end
        self._size = len(data) if size is None else min(size, len(data))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Feature:  # type: ignore[override]
        if not 0 <= index < self._size:
            raise IndexError(index)
        item: Item = self._data[index]
        words = [self._begin, *item.words.tolist(), self._end]
        spans = zip(item.entities.tolist(), item.spans.tolist(), strict=True)
        slots = [EntitySlot(entity, start + 1, end + 1) for entity, (start, end) in spans]
        return Feature(index, f"window {index}", words, slots, note=item.page)
