"""Relation classification: markers around subject and object, a ``[MASK]`` entity on each, one label per example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LukeForEntityPairClassification

from blink.files import atomic_open
from examples.luke.convert import FIRST, MASK, MASK2, SECOND
from examples.luke.features import EntitySlot, Feature, MarkedSpan, encode_marked, keep_near
from examples.luke.loading import HeadClass, Vocabulary
from examples.luke.metrics import micro_scores
from examples.luke.task import Task, counted
from examples.relation_classification.data import NO_RELATION, RelationExample, read_relations


class RelationClassification(Task[RelationExample]):
    """TACRED: one of 42 relations, scored by micro-averaged F1 without ``no_relation``."""

    name: ClassVar[str] = "relation-classification"
    original_markers: ClassVar[tuple[str, ...]] = (FIRST, SECOND)

    def head(self) -> HeadClass:
        """A linear layer without bias on the states of both entities."""
        return LukeForEntityPairClassification

    def read(self, folder: Path, split: str) -> list[RelationExample]:
        """See `examples.relation_classification.data`."""
        return read_relations(folder, split)

    def labels(self, examples: Sequence[RelationExample]) -> tuple[str, ...]:
        """``no_relation``, then the others in alphabetical order."""
        return (NO_RELATION, *sorted({e.relation for e in examples} - {NO_RELATION}))

    def doubts(self, examples: Sequence[RelationExample]) -> list[str]:
        """Relations that training lacks."""
        unknown = [e.where for e in examples if e.relation not in self.class_names]
        return counted(
            unknown, len(examples), "examples have a relation that no training example has, which is never predicted"
        )

    def features(
        self, examples: Sequence[RelationExample], vocabulary: Vocabulary, *, training: bool
    ) -> Iterator[list[Feature]]:
        """One input per example, the subject's entity first; long texts are truncated far from both mentions."""
        tokenizer, markers = vocabulary.tokenizer, vocabulary.markers
        ids_of = {name: i for i, name in enumerate(vocabulary.labels)}
        masks = vocabulary.entities[MASK], vocabulary.entities[MASK2]
        for i, e in enumerate(examples):

            def encode(start: int, end: int, tokens: tuple[str, ...] = e.tokens) -> list[int]:
                return tokenizer.encode(" ".join(tokens[start:end]))

            marked = [MarkedSpan(*e.subject, markers[FIRST]), MarkedSpan(*e.object, markers[SECOND])]
            ids, spans = keep_near(*encode_marked(len(e.tokens), marked, encode), vocabulary.max_length - 2)
            entities = [EntitySlot(m, start + 1, end + 1) for m, (start, end) in zip(masks, spans, strict=True)]
            label = [ids_of[e.relation]] if training else []
            yield [Feature(i, e.where, [tokenizer.begin, *ids, tokenizer.end], entities, label)]

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Cross-entropy."""
        gold = torch.tensor([f.label[0] for f in features], device=logits.device)
        return nn.functional.cross_entropy(logits, gold, reduction="sum")

    def decode(
        self, examples: Sequence[RelationExample], features: Sequence[Feature], outputs: Sequence[np.ndarray]
    ) -> list[str]:
        """The relation with the greatest logit."""
        return [self.class_names[int(row.argmax())] for row in outputs]

    def score(self, examples: Sequence[RelationExample], answers: list[str]) -> dict[str, float]:
        """Precision, recall and F1 of relations, without ``no_relation``."""
        return micro_scores(
            [{e.relation} - {NO_RELATION} for e in examples], [{predicted} - {NO_RELATION} for predicted in answers]
        )

    def write(self, folder: Path, split: str, examples: Sequence[RelationExample], answers: list[str]) -> None:
        """``dev_predictions.txt``: one relation per line."""
        with atomic_open(folder / f"{split}_predictions.txt") as f:
            f.writelines(f"{predicted}\n" for predicted in answers)
