"""Entity disambiguation: all mentions of a document are masked entities, and the model scores their candidates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from blink.files import atomic_open
from examples.entity_disambiguation.data import SETS, Document, Mention, Titles, read_documents
from examples.entity_disambiguation.model import NO_CANDIDATE, LukeForEntityDisambiguation, begin
from examples.entity_disambiguation.windows import Decided, Limits, document_inputs
from examples.luke.features import Feature, collate
from examples.luke.loading import HeadClass, Vocabulary
from examples.luke.pretrained import PretrainedLuke
from examples.luke.task import TRAIN, Task

GLOBAL, LOCAL = "global", "local"
NO_LABEL = -100


@dataclass(frozen=True)
class DisambiguationOptions:
    """How documents are encoded and mentions decided.

    Attributes:
        limits: sizes of an input.
        max_mention_length: tokens of a mention that have a position.
        masked_entity_prob: fraction of mentions masked in training; the others have their gold entity.
        inference_mode: ``local`` decides all mentions at once, ``global`` one by one, each decision as input of the next.
        titles: old titles to new ones.
        title_files: their files.
    """

    limits: Limits = field(default_factory=Limits)
    max_mention_length: int = 30
    masked_entity_prob: float = 0.9
    inference_mode: str = GLOBAL
    titles: Titles = field(default_factory=lambda: Titles({}))
    title_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Predicted title, None without candidates, and its probability among the candidates."""

    title: str | None
    probability: float = 0.0


Answers = list[list[Answer]]


class EntityDisambiguation(Task[Document]):
    """AIDA and five other sets; scored by accuracy over mentions.

    Args:
        options: how documents are encoded and mentions decided.
        source: loads the pre-trained model, whose head initialises a new model.
    """

    name: ClassVar[str] = "entity-disambiguation"
    criterion: ClassVar[str] = "accuracy"
    input_of: ClassVar[str] = "a document with a mention that has candidates"
    splits: ClassVar[tuple[str, ...]] = tuple(name for name in SETS if name != TRAIN)
    all_entities: ClassVar[bool] = True

    def __init__(self, options: DisambiguationOptions, source: Callable[[], PretrainedLuke]) -> None:
        self.options, self._source = options, source

    def head(self) -> HeadClass:
        """The masked-entity head, over candidates."""
        return LukeForEntityDisambiguation

    def file(self, split: str) -> str:
        """``aida_train.csv`` and so on."""
        return SETS[split][0]

    def read(self, folder: Path, split: str) -> list[Document]:
        """See `examples.entity_disambiguation.data`."""
        return read_documents(folder, split, self.options.titles)

    def summary(self, examples: Sequence[Document]) -> str:
        """Numbers of documents, mentions, and mentions whose gold entity is a candidate."""
        mentions = [m for d in examples for m in d.mentions]
        covered = sum(any(c.title == m.title for c in m.candidates) for m in mentions)
        return f"{len(examples)} documents, {len(mentions)} mentions, {covered} with their entity among the candidates"

    def labels(self, examples: Sequence[Document]) -> tuple[str, ...]:
        """One dummy class, which transformers requires."""
        return ("entity",)

    def head_settings(self) -> dict[str, Any]:
        """No masked entity yet; `adopt` sets it together with the head."""
        return {"entity_mask_id": None}

    def choices(self) -> dict[str, Any]:
        """How documents are encoded and mentions decided."""
        options = {k: v for k, v in vars(self.options).items() if k not in ("limits", "titles", "title_files")}
        return {**vars(self.options.limits), **options}

    def sources(self) -> list[Path]:
        """Lists of titles and of redirects."""
        return list(self.options.title_files)

    def adopt(self, labels: tuple[str, ...], model: nn.Module) -> None:
        """Initialise the head of a new model from the pre-trained one; freeze entity table and biases."""
        assert isinstance(model, LukeForEntityDisambiguation)
        if model.config.entity_mask_id is None:
            begin(model, self._source())
        model.table.weight.requires_grad_(False)
        model.entity_predictions.bias.requires_grad_(False)

    def features(self, examples: Sequence[Document], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """See `examples.entity_disambiguation.windows`."""
        for index, document in enumerate(examples):
            yield document_inputs(index, document, vocabulary, self.options.limits, training=training)

    # -- a batch -------------------------------------------------------------------------------------------------

    def inputs(self, features: Sequence[Feature], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """The usual inputs, rows of candidates, and in training the index of the gold candidate of unmasked mentions.

        The unmasked mentions are drawn from torch's generator.
        """
        batch = collate(features, vocabulary.tokenizer.pad, min(self.options.max_mention_length, vocabulary.max_mention_length))
        decided: list[Decided] = [f.note for f in features]
        width = max(len(rows) for d in decided for rows in d.candidates)
        candidates = torch.full((*batch["entity_ids"].shape, max(width, 1)), -1)
        unmasked = torch.full(batch["entity_ids"].shape, NO_LABEL)
        for i, (feature, d) in enumerate(zip(features, decided, strict=True)):
            for j, rows in enumerate(d.candidates):
                candidates[i, j, : len(rows)] = torch.tensor(rows, dtype=torch.long)
            if feature.label:
                for j in torch.randperm(len(feature.label))[self.decisions(feature) :].tolist():
                    unmasked[i, j] = feature.label[j]
                    batch["entity_ids"][i, j] = candidates[i, j, feature.label[j]]
        return {**batch, "candidates": candidates, "shown": unmasked}

    def decisions(self, feature: Feature) -> int:
        """Number of masked mentions, at least one."""
        return max(1, round(len(feature.label) * self.options.masked_entity_prob))

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Scores of candidates. *Shape:* (n, entities, candidates). Unmasked mentions keep only their gold candidate."""
        unmasked = inputs.pop("shown")
        if model.training:
            positions = torch.arange(inputs["candidates"].shape[2], device=unmasked.device)
            others = (unmasked.unsqueeze(-1) >= 0) & (positions != unmasked.unsqueeze(-1))
            return model(**inputs).logits.masked_fill(others, NO_CANDIDATE)
        if self.options.inference_mode == LOCAL:
            return model(**inputs).logits
        return decide_one_by_one(model, inputs)

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Cross-entropy over candidates; 0 for unmasked mentions."""
        gold = torch.full(logits.shape[:2], NO_LABEL, device=logits.device)
        for i, feature in enumerate(features):
            gold[i, : len(feature.label)] = torch.tensor(feature.label, device=logits.device)
        return nn.functional.cross_entropy(logits.flatten(0, 1), gold.flatten(), ignore_index=NO_LABEL, reduction="sum")

    # -- answers -------------------------------------------------------------------------------------------------

    def decode(self, examples: Sequence[Document], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Answers:
        """The candidate with the highest score; a mention without candidates has none."""
        answers = [[Answer(None) for _ in document.mentions] for document in examples]
        for feature, scores in zip(features, outputs, strict=True):
            decided: Decided = feature.note
            for number, rows, row_scores in zip(decided.mentions, decided.candidates[: decided.answered], scores, strict=False):
                if rows:
                    answers[feature.example][number] = _answer(
                        examples[feature.example].mentions[number], row_scores[: len(rows)]
                    )
        return answers

    def score(self, examples: Sequence[Document], answers: Answers) -> dict[str, float]:
        """Accuracy over all mentions; precision over those with candidates, recall over all, and their F1."""
        pairs = [
            (m, a)
            for d, of_document in zip(examples, answers, strict=True)
            for m, a in zip(d.mentions, of_document, strict=True)
        ]
        correct = sum(answer.title == mention.title for mention, answer in pairs)
        answered = sum(answer.title is not None for _, answer in pairs)
        recall, precision = correct / max(len(pairs), 1), correct / max(answered, 1)
        f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
        return {"accuracy": recall, "precision": precision, "recall": recall, "f1": f1}

    def write(self, folder: Path, split: str, examples: Sequence[Document], answers: Answers) -> None:
        """``test_predictions.jsonl``: one object per mention."""
        with atomic_open(folder / f"{split}_predictions.jsonl") as f:
            for document, of_document in zip(examples, answers, strict=True):
                for mention, answer in zip(document.mentions, of_document, strict=True):
                    row = {"document": document.name, "mention": mention.text, "gold": mention.title, "predicted": answer.title}
                    f.write(json.dumps({**row, "probability": round(answer.probability, 6)}, ensure_ascii=False) + "\n")


@torch.no_grad()
def decide_one_by_one(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Decide the mentions of each text in the order of the model's confidence (Yamada et al. 2022, section 3.3).

    Returns:
        scores of candidates when their mention was decided. *Shape:* (n, entities, candidates).
    """
    ids, candidates = inputs["entity_ids"].clone(), inputs["candidates"]
    texts = torch.arange(len(ids), device=ids.device)
    scores = torch.full(candidates.shape, NO_CANDIDATE, device=ids.device)
    undecided = (candidates >= 0).any(-1)
    while undecided.any():
        logits = model(**{**inputs, "entity_ids": ids}).logits.float()
        confidence, best = logits.softmax(-1).max(-1)
        surest = confidence.masked_fill(~undecided, -1.0).argmax(1)
        active = undecided[texts, surest]  # texts that are done have none left
        rows, columns = texts[active], surest[active]
        scores[rows, columns] = logits[rows, columns]
        ids[rows, columns] = candidates[rows, columns, best[rows, columns]]
        undecided[rows, columns] = False
    return scores


def _answer(mention: Mention, scores: np.ndarray) -> Answer:
    best = int(scores.argmax())
    exponentials = np.exp(scores - scores[best])
    return Answer(mention.candidates[best].title, float(1 / exponentials.sum()))
