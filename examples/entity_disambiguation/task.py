"""Entity disambiguation: all mentions of a document are masked entities at once; each is one of its candidates."""

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
from examples.luke.task import TRAIN, Task
from examples.luke.whole import WholeModel

GLOBAL, LOCAL = "global", "local"
NO_LABEL = -100


@dataclass(frozen=True)
class Reading:
    """How documents are read and decided.

    Attributes:
        limits: what is read at once.
        max_mention_length: pieces of a mention that have a position.
        masked_entity_prob: share of the mentions that are masked in training; the others are shown with their entity.
        inference_mode: ``local`` decides all mentions at once, ``global`` the surest first, and goes on with it as an entity.
        titles: old titles to new ones.
        title_files: what they were read from.
    """

    limits: Limits = field(default_factory=Limits)
    max_mention_length: int = 30
    masked_entity_prob: float = 0.9
    inference_mode: str = GLOBAL
    titles: Titles = field(default_factory=lambda: Titles({}))
    title_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a mention was taken for, None without candidates, and the model's probability of it among them."""

    title: str | None
    probability: float = 0.0


Answers = list[list[Answer]]


class EntityDisambiguation(Task[Document]):
    """AIDA and five other sets; scored by the share of mentions with the right entity.

    Args:
        reading: how documents are read and decided.
        source: loads the pre-trained model, whose head a new model begins with.
    """

    name: ClassVar[str] = "entity-disambiguation"
    criterion: ClassVar[str] = "accuracy"
    splits: ClassVar[tuple[str, ...]] = tuple(name for name in SETS if name != TRAIN)
    all_entities: ClassVar[bool] = True

    def __init__(self, reading: Reading, source: Callable[[], WholeModel]) -> None:
        self.reading, self._source = reading, source

    def head(self) -> HeadClass:
        """The head for masked entities, over candidates."""
        return LukeForEntityDisambiguation

    def file(self, split: str) -> str:
        """``aida_train.csv`` and so on."""
        return SETS[split][0]

    def read(self, folder: Path, split: str) -> list[Document]:
        """See `examples.entity_disambiguation.data`."""
        return read_documents(folder, split, self.reading.titles)

    def told(self, examples: Sequence[Document]) -> str:
        """Documents and mentions, and how many of those have their entity among the candidates."""
        mentions = [m for d in examples for m in d.mentions]
        covered = sum(any(c.title == m.title for c in m.candidates) for m in mentions)
        return f"{len(examples)} documents, {len(mentions)} mentions, {covered} with their entity among the candidates"

    def labels(self, examples: Sequence[Document]) -> tuple[str, ...]:
        """There are no classes; the model wants one."""
        return ("entity",)

    def head_settings(self) -> dict[str, Any]:
        """A new model knows no masked entity until `adopt` gives it its head."""
        return {"entity_mask_id": None}

    def choices(self) -> dict[str, Any]:
        """How documents are read and decided."""
        options = {k: v for k, v in vars(self.reading).items() if k not in ("limits", "titles", "title_files")}
        return {**vars(self.reading.limits), **options}

    def sources(self) -> list[Path]:
        """Lists of titles and of redirects."""
        return list(self.reading.title_files)

    def adopt(self, labels: tuple[str, ...], model: nn.Module) -> None:
        """Give a new model the head of the pre-trained one; neither the table of entities nor their biases learn."""
        assert isinstance(model, LukeForEntityDisambiguation)
        if model.config.entity_mask_id is None:
            begin(model, self._source())
        model.table.weight.requires_grad_(False)
        model.entity_predictions.bias.requires_grad_(False)

    def features(self, examples: Sequence[Document], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """See `examples.entity_disambiguation.windows`."""
        for index, document in enumerate(examples):
            yield document_inputs(index, document, vocabulary, self.reading.limits, training=training)

    # -- a batch -------------------------------------------------------------------------------------------------

    def inputs(self, features: Sequence[Feature], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """Besides the usual: rows of candidates, and in training the place of the right one where a mention is shown with it.

        Which mentions are shown is drawn from torch's generator.
        """
        batch = collate(features, vocabulary.pieces.pad, min(self.reading.max_mention_length, vocabulary.max_mention_length))
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
        """The masked mentions: at least one."""
        return max(1, round(len(feature.label) * self.reading.masked_entity_prob))

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Scores of candidates. *Shape:* (n, entities, candidates). A mention that is shown has its entity as the only one."""
        unmasked = inputs.pop("shown")
        if model.training:
            positions = torch.arange(inputs["candidates"].shape[2], device=unmasked.device)
            others = (unmasked.unsqueeze(-1) >= 0) & (positions != unmasked.unsqueeze(-1))
            return model(**inputs).logits.masked_fill(others, NO_CANDIDATE)
        if self.reading.inference_mode == LOCAL:
            return model(**inputs).logits
        return one_by_one(model, inputs)

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Cross-entropy over candidates; that of a mention that is shown is 0."""
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
        """``test_predictions.jsonl``: an object for each mention."""
        with atomic_open(folder / f"{split}_predictions.jsonl") as f:
            for document, of_document in zip(examples, answers, strict=True):
                for mention, answer in zip(document.mentions, of_document, strict=True):
                    row = {"document": document.name, "mention": mention.text, "gold": mention.title, "predicted": answer.title}
                    f.write(json.dumps({**row, "probability": round(answer.probability, 6)}, ensure_ascii=False) + "\n")


@torch.no_grad()
def one_by_one(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Decide the mentions of each text in the order of the model's confidence (Yamada et al. 2022, section 3.3).

    Returns:
        scores of candidates at the moment at which a mention was decided. *Shape:* (n, entities, candidates).
    """
    ids, candidates = inputs["entity_ids"].clone(), inputs["candidates"]
    texts = torch.arange(len(ids), device=ids.device)
    scores = torch.full(candidates.shape, NO_CANDIDATE, device=ids.device)
    undecided = (candidates >= 0).any(-1)
    while undecided.any():
        logits = model(**{**inputs, "entity_ids": ids}).logits.float()
        sure, best = logits.softmax(-1).max(-1)
        surest = sure.masked_fill(~undecided, -1.0).argmax(1)
        active = undecided[texts, surest]  # texts that are done have none left
        rows, at = texts[active], surest[active]
        scores[rows, at] = logits[rows, at]
        ids[rows, at] = candidates[rows, at, best[rows, at]]
        undecided[rows, at] = False
    return scores


def _answer(mention: Mention, scores: np.ndarray) -> Answer:
    best = int(scores.argmax())
    shares = np.exp(scores - scores[best])
    return Answer(mention.candidates[best].title, float(1 / shares.sum()))
