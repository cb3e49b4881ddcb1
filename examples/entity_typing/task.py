"""Entity typing: markers around the mention, one ``[MASK]`` entity on it, a binary decision for each type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn
from transformers import LukeForEntityClassification

from blink.errors import DataError
from blink.files import atomic_open
from examples.entity_typing.data import TypingExample, read_typing, without_codes
from examples.luke.convert import FIRST, MASK
from examples.luke.features import EntitySlot, Feature, MarkedSpan, encode_marked, keep_near
from examples.luke.loading import HeadClass, Vocabulary
from examples.luke.metrics import micro_scores
from examples.luke.task import Task, counted, label_tensor

Answers = list[tuple[str, ...]]


class EntityTyping(Task[TypingExample]):
    """Open Entity: any number of types per mention, scored by micro-averaged F1."""

    name: ClassVar[str] = "entity-typing"
    original_markers: ClassVar[tuple[str, ...]] = (FIRST,)

    def head(self) -> HeadClass:
        """A linear layer on the entity's state."""
        return LukeForEntityClassification

    def read(self, folder: Path, split: str) -> list[TypingExample]:
        """See `examples.entity_typing.data`."""
        return read_typing(folder, split)

    def labels(self, examples: Sequence[TypingExample]) -> tuple[str, ...]:
        """All types that occur, sorted.

        Raises:
            DataError: there are none.
        """
        types = tuple(sorted({label for e in examples for label in e.labels}))
        if not types:
            raise DataError(f"none of the {len(examples)} training examples has a label that is known; look at their 'labels'")
        return types

    def doubts(self, examples: Sequence[TypingExample]) -> list[str]:
        """Types that training lacks."""
        unknown = [e.where for e in examples if not set(e.labels) <= set(self.class_names)]
        return counted(unknown, len(examples), "examples have types that no training example has, which are never predicted")

    def features(self, examples: Sequence[TypingExample], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """One input per example; a long text is truncated far from the mention."""
        tokenizer, mask = vocabulary.tokenizer, vocabulary.entities[MASK]
        for i, e in enumerate(examples):

            def encode(start: int, end: int, text: str = e.text) -> list[int]:
                return tokenizer.encode(without_codes(text[start:end]))

            ids, spans = encode_marked(len(e.text), [MarkedSpan(e.start, e.end, vocabulary.markers[FIRST])], encode)
            ids, [(start, end)] = keep_near(ids, spans, vocabulary.max_length - 2)
            label = [int(name in e.labels) for name in vocabulary.labels] if training else []
            words = [tokenizer.begin, *ids, tokenizer.end]
            yield [Feature(i, e.where, words, [EntitySlot(mask, start + 1, end + 1)], label)]

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Binary cross-entropy of each type."""
        gold = label_tensor(features, 0, logits.device).float()
        return nn.functional.binary_cross_entropy_with_logits(logits, gold, reduction="sum")

    def decisions(self, feature: Feature) -> int:
        """One for each type."""
        return len(feature.label)

    def decode(self, examples: Sequence[TypingExample], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Answers:
        """The types with a logit above 0."""
        return [tuple(name for name, logit in zip(self.class_names, row, strict=True) if logit > 0) for row in outputs]

    def score(self, examples: Sequence[TypingExample], answers: Answers) -> dict[str, float]:
        """Precision, recall and F1 over all pairs of example and type."""
        return micro_scores([set(e.labels) for e in examples], [set(predicted) for predicted in answers])

    def write(self, folder: Path, split: str, examples: Sequence[TypingExample], answers: Answers) -> None:
        """``dev_predictions.jsonl``: an object a line, with ``predictions`` and ``labels``."""
        with atomic_open(folder / f"{split}_predictions.jsonl") as f:
            for example, predicted in zip(examples, answers, strict=True):
                f.write(json.dumps({"predictions": list(predicted), "labels": list(example.labels)}, ensure_ascii=False) + "\n")
