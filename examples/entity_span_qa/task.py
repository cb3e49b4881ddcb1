"""Cloze questions: the gap and every entity of the passage are entities of the input; each candidate gets a score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from blink.files import write_json
from examples.entity_span_qa.data import HIGHLIGHT, PLACEHOLDER, ClozeExample, read_cloze
from examples.entity_span_qa.options import ClozeOptions
from examples.luke.convert import FIRST, MASK, SECOND
from examples.luke.features import EntitySlot, Feature, MarkedSpan, encode_marked, keep_near, windows
from examples.luke.heads import LukeForCloze
from examples.luke.loading import THIRD, HeadClass, Vocabulary
from examples.luke.metrics import record_scores
from examples.luke.task import Task, counted, label_tensor, repeated

HIGHLIGHT_MARKER, GAP_MARKER, ENTITY_MARKER = FIRST, SECOND, THIRD
"""Their embeddings are initialised from ``@``, ``#`` and ``*``."""
IGNORED = -1

Answers = dict[str, str]


class EntitySpanQa(Task[ClozeExample]):
    """ReCoRD: scored by exact match and F1 of the answer's text.

    Args:
        options: of the task.
    """

    name: ClassVar[str] = "entity-span-qa"
    criterion: ClassVar[str] = "exact_match"
    splits: ClassVar[tuple[str, ...]] = ("dev",)
    input_of: ClassVar[str] = "a passage with an entity that fits into a window"
    markers: ClassVar[tuple[str, ...]] = (THIRD,)
    original_markers: ClassVar[tuple[str, ...]] = (HIGHLIGHT_MARKER, GAP_MARKER, ENTITY_MARKER)

    def __init__(self, options: ClozeOptions | None = None) -> None:
        self.options = options or ClozeOptions()

    def head(self) -> HeadClass:
        """A score from the states of gap and candidate."""
        return LukeForCloze

    def choices(self) -> dict[str, Any]:
        """Its options."""
        return self.options.to_dict()

    def read(self, folder: Path, split: str) -> list[ClozeExample]:
        """See `examples.entity_span_qa.data`."""
        return read_cloze(folder, split)

    def labels(self, examples: Sequence[ClozeExample]) -> tuple[str, ...]:
        """None: candidates are right or wrong."""
        return ("right",)

    def doubts(self, examples: Sequence[ClozeExample]) -> list[str]:
        """Answers that no candidate is, answers with other words than the passage, and repeated ids."""
        spans = [{(c.start, c.end) for c in e.candidates} for e in examples]
        no_candidate = [e.where for e, of in zip(examples, spans, strict=True) if e.answers and not e.answers & of]
        n = len(examples)
        return [
            *counted(no_candidate, n, "questions have no answer among the entities of the passage, so none can be predicted"),
            *counted([e.where for e in examples if e.misplaced], n, "questions have answers with other words than their place"),
            *counted(
                repeated((e.id, e.where) for e in examples), n, "questions repeat an id; the last one's answer counts for all"
            ),
        ]

    def features(self, examples: Sequence[ClozeExample], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """An input for each window of the passage that contains a complete candidate."""
        limit = min(self.options.max_seq_length, vocabulary.max_length)
        for i, example in enumerate(examples):
            yield list(self._windows(i, example, vocabulary, limit, training))

    def _windows(
        self, index: int, example: ClozeExample, vocabulary: Vocabulary, limit: int, training: bool
    ) -> Iterator[Feature]:
        tokenizer, mask = vocabulary.tokenizer, vocabulary.entities[MASK]
        query, gap = encode_query(example.query, vocabulary, self.options.max_query_length)
        passage, spans = encode_passage(example, vocabulary)
        offset = len(query) + 3
        for start, end in windows(len(passage), limit - len(query) - 4, self.options.doc_stride):
            inside = [n for n, (a, b) in enumerate(spans) if start <= a and b <= end]
            if not inside:
                continue
            slots = [(spans[n][0] - start + offset, spans[n][1] - start + offset) for n in inside]
            entities = [EntitySlot(mask, gap + 1, gap + 2), *(EntitySlot(mask, *slot) for slot in slots)]
            candidates = [example.candidates[n] for n in inside]
            label = [int((c.start, c.end) in example.answers) for c in candidates] if training else []
            words = [tokenizer.begin, *query, tokenizer.end, tokenizer.end, *passage[start:end], tokenizer.end]
            yield Feature(index, example.where, words, entities, label, [c.text for c in candidates])

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Sum of the binary cross-entropies of candidates, without padding."""
        gold = label_tensor(features, IGNORED, logits.device)
        real = gold != IGNORED
        return nn.functional.binary_cross_entropy_with_logits(logits[real], gold[real].float(), reduction="sum")

    def decisions(self, feature: Feature) -> int:
        """One for each candidate."""
        return len(feature.entities) - 1

    def outputs(self, logits: Tensor, features: Sequence[Feature]) -> list[np.ndarray]:
        """The candidates' logits. *Shape:* (candidates,)."""
        return [row[: len(f.entities) - 1] for row, f in zip(logits.cpu().numpy(), features, strict=True)]

    def decode(self, examples: Sequence[ClozeExample], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Answers:
        """The text of the candidate with the greatest logit in all windows; no answer if no window contains one."""
        scored: dict[int, list[tuple[float, str]]] = defaultdict(list)
        for feature, row in zip(features, outputs, strict=True):
            scored[feature.example] += zip(row.tolist(), feature.note, strict=True)
        return {e.id: max(scored[i], key=lambda pair: pair[0])[1] for i, e in enumerate(examples) if scored[i]}

    def score(self, examples: Sequence[ClozeExample], answers: Answers) -> dict[str, float]:
        """Exact match and F1 of normalised texts, in per cent, as in the script of ReCoRD; no answer counts 0."""
        return record_scores([(e.id, e.gold) for e in examples], answers)

    def write(self, folder: Path, split: str, examples: Sequence[ClozeExample], answers: Answers) -> None:
        """``predictions.json``: question to answer."""
        write_json(folder / "predictions.json", answers)


def encode_query(query: str, vocabulary: Vocabulary, limit: int) -> tuple[list[int], int]:
    """Ids of a question and the index of its gap; a long question is truncated far from the gap."""
    before, after = query.split(PLACEHOLDER)
    ids = vocabulary.tokenizer.encode(before)
    gap = len(ids)
    ids += [vocabulary.markers[GAP_MARKER], *vocabulary.tokenizer.encode(after, space=False)]
    ids, [(gap, _)] = keep_near(ids, [(gap, gap + 1)], limit)
    return ids, gap


def encode_passage(example: ClozeExample, vocabulary: Vocabulary) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a passage with markers around its candidates, and the bounds of these, markers included."""
    text, tokenizer = example.passage, vocabulary.tokenizer

    def encode(start: int, end: int) -> list[int]:
        ids: list[int] = []
        for n, segment in enumerate(text[start:end].split(HIGHLIGHT)):
            if n:
                ids.append(vocabulary.markers[HIGHLIGHT_MARKER])
            ids += tokenizer.encode(segment, space=n == 0 and (start == 0 or text[start - 1].isspace()))
        return ids

    marked = [MarkedSpan(c.start, c.end, vocabulary.markers[ENTITY_MARKER]) for c in example.candidates]
    return encode_marked(len(text), marked, encode)
