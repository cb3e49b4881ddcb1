"""Named entity recognition: each span of a sentence is an entity of the input, classified as a type or as none."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LukeForEntitySpanClassification

from blink.errors import DataError
from blink.files import atomic_open
from examples.luke.convert import MASK
from examples.luke.features import EntitySlot, Feature, collate
from examples.luke.heads import LukeForSpans
from examples.luke.loading import HeadClass, Vocabulary
from examples.luke.task import DEV, TRAIN, Task, counted, label_tensor
from examples.luke.tokenizer import PlainTokenizer, is_punctuation
from examples.ner.data import FILES, Document, read_documents
from examples.ner.options import NerOptions
from examples.ner.spans import sentence_windows
from examples.ner.tags import TagSpan, as_iob1, entity_scores, span_tags

logger = logging.getLogger(__name__)

NIL = "NIL"
CONLL = (NIL, "MISC", "PER", "ORG", "LOC")
"""The order of the classes in published models."""
IGNORED = -100

Answers = list[list[list[str]]]
"""Tags of each word of each sentence of each document."""


class Ner(Task[Document]):
    """CoNLL-2003: names in sentences, scored by F1 of whole names.

    Args:
        options: of the task.
    """

    name: ClassVar[str] = "ner"

    def __init__(self, options: NerOptions | None = None) -> None:
        self.options = options or NerOptions()

    def head(self) -> HeadClass:
        """A linear layer on the states of first token, last token and entity, or on a subset of them."""
        return LukeForEntitySpanClassification if self.options.source == "both" else LukeForSpans

    def head_settings(self) -> dict[str, Any]:
        """Which states are classified."""
        return {} if self.options.source == "both" else {"span_source": self.options.source}

    def choices(self) -> dict[str, Any]:
        """Its options."""
        return self.options.to_dict()

    def file(self, split: str) -> str:
        """``eng.train`` and so on."""
        return FILES[split]

    def read(self, folder: Path, split: str) -> list[Document]:
        """See `examples.ner.data`."""
        return read_documents(folder, split)

    def read_for_training(self, folder: Path) -> list[Document]:
        """The training documents, and with ``train_on_dev_set`` those of the development set."""
        return self.read(folder, TRAIN) + (self.read(folder, DEV) if self.options.train_on_dev_set else [])

    def summary(self, examples: Sequence[Document]) -> str:
        """Numbers of documents, sentences and gold names; tags read by the wrong scheme show as fewer names."""
        sentences = [s for d in examples for s in d.sentences]
        names = sum(len(s.spans) for s in sentences)
        return f"{len(examples)} documents, {len(sentences)} sentences, {names} names"

    def labels(self, examples: Sequence[Document]) -> tuple[str, ...]:
        """No name, and the types: in the published order where they are CoNLL's, else in alphabetical order."""
        types = {span.type for d in examples for s in d.sentences for span in s.spans}
        return CONLL if types <= set(CONLL[1:]) else (NIL, *sorted(types))

    def doubts(self, examples: Sequence[Document]) -> list[str]:
        """Types that training lacks."""
        names = [(f"{d.file}, line {s.line}", span.type) for d in examples for s in d.sentences for span in s.spans]
        unknown = [where for where, kind in names if kind not in self.class_names]
        return counted(unknown, len(names), "names have a type that no training example has, which is never predicted")

    def features(self, examples: Sequence[Document], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """One input for each sentence, more for one with many candidates.

        Raises:
            DataError: with ``strict``, a gold name is longer than a candidate may be.
        """
        missed: list[str] = []
        for i, document in enumerate(examples):
            inputs = list(self._document(i, document, vocabulary, training, missed))
            yield inputs
        if missed:
            message = f"{len(missed)} gold names are longer than --max-mention-length {self.options.max_mention_length}"
            if self.options.strict:
                raise DataError(f"{message}, the first at {missed[0]}; raise it, or leave --strict out")
            logger.warning("%s and cannot be found, the first at %s", message, missed[0])

    def _document(
        self, index: int, document: Document, vocabulary: Vocabulary, training: bool, missed: list[str]
    ) -> Iterator[Feature]:
        options, tokenizer = self.options, vocabulary.tokenizer
        by_word = [word_tokens(tokenizer, word) for s in document.sentences for word in s.words]
        borders = list(itertools.accumulate(map(len, by_word), initial=0))
        flat = [token for ids in by_word for token in ids]
        ids_of = {name: n for n, name in enumerate(vocabulary.labels)}
        limit = min(options.max_seq_length, vocabulary.max_length) - 2
        first = 0
        for sentence in document.sentences:
            where = f"{document.file}, line {sentence.line}"
            gold = {(first + s.start, first + s.end): s.type for s in sentence.spans}
            last = first + len(sentence.words)
            for w in sentence_windows(borders, first, last, limit, options.max_mention_length, options.max_entity_length):
                positions = [(borders[i] - w.start + 1, borders[j] - w.start + 1) for i, j in w.candidates]
                entities = [EntitySlot(vocabulary.entities[MASK], *position) for position in positions]
                words = [tokenizer.begin, *flat[w.start : w.end], tokenizer.end]
                label = [ids_of[gold.get(c, NIL)] for c in w.candidates] if training else []
                yield Feature(index, where, words, entities, label, w.candidates)
            missed += [where for i, j in gold if borders[j] - borders[i] > options.max_mention_length]
            first = last

    def inputs(self, features: Sequence[Feature], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """A batch, with the first and last token of each candidate."""
        batch = collate(features, vocabulary.tokenizer.pad, self.options.max_mention_length)
        shape = batch["entity_ids"].shape
        for name in ("entity_start_positions", "entity_end_positions"):
            batch[name] = torch.zeros(shape, dtype=torch.long)
        for row, feature in enumerate(features):
            count = len(feature.entities)
            batch["entity_start_positions"][row, :count] = torch.tensor([e.start for e in feature.entities])
            batch["entity_end_positions"][row, :count] = torch.tensor([e.end - 1 for e in feature.entities])
        return batch

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Sum of the cross-entropies of candidates, without padding."""
        gold = label_tensor(features, IGNORED, logits.device)
        return nn.functional.cross_entropy(logits.flatten(0, 1), gold.flatten(), ignore_index=IGNORED, reduction="sum")

    def decisions(self, feature: Feature) -> int:
        """One for each candidate."""
        return len(feature.entities)

    def outputs(self, logits: Tensor, features: Sequence[Feature]) -> list[np.ndarray]:
        """Greatest logit and class of each candidate. *Shape:* (candidates, 2)."""
        best, kinds = logits.max(dim=-1)
        both = torch.stack([best, kinds.to(best.dtype)], dim=-1).cpu().numpy()
        return [row[: len(f.entities)] for row, f in zip(both, features, strict=True)]

    def decode(self, examples: Sequence[Document], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Answers:
        """Candidates by falling score, each unless it overlaps an earlier one."""
        scored: dict[int, list[tuple[float, TagSpan]]] = defaultdict(list)
        for feature, rows in zip(features, outputs, strict=True):
            for (start, end), (logit, kind) in zip(feature.note, rows.tolist(), strict=True):
                if kind:  # class 0 is no name
                    scored[feature.example].append((logit, TagSpan(start, end, self.class_names[int(kind)])))
        return [_by_sentence(document, greedy(scored[i])) for i, document in enumerate(examples)]

    def score(self, examples: Sequence[Document], answers: Answers) -> dict[str, float]:
        """Precision, recall and F1 of whole names, over all sentences."""
        gold = [s.tags for d in examples for s in d.sentences]
        return entity_scores(gold, [tags for document in answers for tags in document])

    def write(self, folder: Path, split: str, examples: Sequence[Document], answers: Answers) -> None:
        """``dev_predictions.txt``: word, gold and predicted tag (IOB1) a line, an empty line after each sentence."""
        with atomic_open(folder / f"{split}_predictions.txt") as f:
            for document, predicted in zip(examples, answers, strict=True):
                for sentence, tags in zip(document.sentences, predicted, strict=True):
                    rows = zip(sentence.words, sentence.tags, as_iob1(tags), strict=True)
                    f.writelines(f"{word} {gold} {tag}\n" for word, gold, tag in rows)
                    f.write("\n")


def greedy(scored: Sequence[tuple[float, TagSpan]]) -> list[TagSpan]:
    """Spans by falling score, each unless it overlaps an accepted one; the first of equal ones."""
    accepted: list[TagSpan] = []
    used: set[int] = set()
    for _, span in sorted(scored, key=lambda pair: -pair[0]):
        words = range(span.start, span.end)
        if used.isdisjoint(words):
            accepted.append(span)
            used.update(words)
    return accepted


def word_tokens(tokenizer: PlainTokenizer, word: str) -> list[int]:
    """Ids of a word, with a space before it unless it attaches to the word before (``'s``, single punctuation marks)."""
    alone = word.startswith("'") or (len(word) == 1 and is_punctuation(word))
    return tokenizer.encode(word, space=not alone)


def _by_sentence(document: Document, spans: Sequence[TagSpan]) -> list[list[str]]:
    tags = iter(span_tags(spans, sum(len(s.words) for s in document.sentences)))
    return [list(itertools.islice(tags, len(s.words))) for s in document.sentences]
