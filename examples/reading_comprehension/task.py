"""Extractive question answering: start and end of the answer, with mentioned entities as inputs besides the words."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LukeForQuestionAnswering

from blink.files import write_json
from examples.luke.convert import ENTITY_TABLE
from examples.luke.features import EntitySlot, Feature, windows
from examples.luke.loading import HeadClass, Vocabulary
from examples.luke.task import Task, counted, repeated
from examples.luke.tokenizer import PlainTokenizer
from examples.reading_comprehension.answers import Answered, AnswerWindow, answer, probabilities, squad_scores
from examples.reading_comprehension.data import Answer, Passage, SquadExample, file_name, read_squad
from examples.reading_comprehension.mentions import MentionDictionary, MentionTable, find_mentions
from examples.reading_comprehension.options import QaOptions

logger = logging.getLogger(__name__)

NO_ANSWER = (0, 0)
"""Start and end of an input without the answer: its first token."""

Answers = dict[str, Answered]


@dataclass(frozen=True)
class EncodedPassage:
    """A passage as ids.

    Attributes:
        ids: its tokens.
        begins: index of the first token of each word, then the number of tokens.
        table: links of its article.
    """

    ids: list[int]
    begins: list[int]
    table: MentionTable


class ReadingComprehension(Task[SquadExample]):
    """SQuAD: scored by exact match and F1 of the answer's text. The entity table is frozen.

    Args:
        options: of the task.
    """

    name: ClassVar[str] = "reading-comprehension"
    criterion: ClassVar[str] = "f1"
    splits: ClassVar[tuple[str, ...]] = ("dev",)
    prefixed: ClassVar[bool] = False
    all_entities: ClassVar[bool] = True

    def __init__(self, options: QaOptions | None = None) -> None:
        self.options = options or QaOptions()
        self._tokenizer: PlainTokenizer | None = None

    def head(self) -> HeadClass:
        """Two logits per token."""
        return LukeForQuestionAnswering

    def choices(self) -> dict[str, Any]:
        """Its options."""
        return self.options.to_dict()

    def sources(self) -> list[Path]:
        """The files of links and redirects."""
        o = self.options
        files = () if o.no_entity else (o.wiki_link_db_file, o.link_redirects_file, o.model_redirects_file)
        return [Path(f) for f in files if f is not None]

    def file(self, split: str) -> str:
        """``train-v1.1.json`` and so on."""
        return file_name(split, self.options.with_negative)

    def read(self, folder: Path, split: str) -> list[SquadExample]:
        """See `examples.reading_comprehension.data`."""
        return read_squad(folder, split, self.options.with_negative)

    def labels(self, examples: Sequence[SquadExample]) -> tuple[str, ...]:
        """Start and end."""
        return ("start", "end")

    def adopt(self, labels: tuple[str, ...], model: nn.Module) -> None:
        """Freeze the entity table, of which the data has few rows."""
        model.get_parameter(ENTITY_TABLE).requires_grad_(False)

    def doubts(self, examples: Sequence[SquadExample]) -> list[str]:
        """Answers with other words than their place, and repeated ids."""
        answers = [(a, e.where) for e in examples for a in e.answers]
        misplaced = [where for a, where in answers if a.misplaced]
        ids = repeated((e.id, e.where) for e in examples)
        return [
            *counted(misplaced, len(answers), "answers are other words than those at their 'answer_start', which are learned"),
            *counted(ids, len(examples), "questions repeat an id; the last one's answer counts for all"),
        ]

    def features(self, examples: Sequence[SquadExample], vocabulary: Vocabulary, *, training: bool) -> Iterator[list[Feature]]:
        """An input for each window of the passage."""
        self._tokenizer = vocabulary.tokenizer
        mentions = self._mentions({e.passage.title for e in examples})
        for passage, group in itertools.groupby(enumerate(examples), key=lambda pair: pair[1].passage):
            encoded = encode_passage(passage, vocabulary.tokenizer, mentions.table(passage.title))
            for i, example in group:
                yield list(self._windows(i, example, encoded, vocabulary, training))

    def _mentions(self, titles: set[str]) -> MentionDictionary:
        options = self.options
        if options.no_entity or options.wiki_link_db_file is None:
            return MentionDictionary()
        dictionary = MentionDictionary.read(
            Path(options.wiki_link_db_file),
            Path(options.link_redirects_file) if options.link_redirects_file else None,
            Path(options.model_redirects_file) if options.model_redirects_file else None,
            titles,
            options.min_mention_link_prob,
        )
        without = sum(1 for title in titles if not dictionary.table(title).titles)
        if without:
            where = options.wiki_link_db_file
            logger.warning("%d of %d articles have no links in %s; their inputs have no entities", without, len(titles), where)
        return dictionary

    def _windows(
        self, index: int, example: SquadExample, passage: EncodedPassage, vocabulary: Vocabulary, training: bool
    ) -> Iterator[Feature]:
        options, tokenizer, longest = self.options, vocabulary.tokenizer, vocabulary.max_mention_length
        query = tokenizer.encode(example.question)[: options.max_query_length]
        gold = [tighten(passage, a, tokenizer) for a in example.answers] if training and not example.impossible else []
        offset = len(query) + 3
        spans = windows(
            len(passage.ids), min(options.max_seq_length, vocabulary.max_length) - len(query) - 4, options.doc_stride
        )
        owners = most_context(spans, len(passage.ids))
        in_query = moved(find_mentions(query, passage.table, vocabulary, longest), 1)
        for n, (start, end) in enumerate(spans):
            window_ids = passage.ids[start:end]
            in_passage = moved(find_mentions(window_ids, passage.table, vocabulary, longest), offset)
            entities = [*in_query, *in_passage][: options.max_entity_length]
            inside = [(a - start + offset, b - start + offset) for a, b in gold if start <= a and b < end]
            label = list(inside[0] if inside else NO_ANSWER) if training else []
            words = [tokenizer.begin, *query, tokenizer.end, tokenizer.end, *window_ids, tokenizer.end]
            yield Feature(
                index,
                example.where,
                words,
                entities,
                label,
                AnswerWindow(offset, bytes(owners[i] == n for i in range(start, end)), start),
            )

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Start and end of each token, in float32. *Shape:* (n, tokens, 2)."""
        output = model(**inputs)
        return torch.stack([output.start_logits, output.end_logits], dim=-1).float()

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Mean of the cross-entropies of start and end, with padding masked."""
        gold = torch.tensor([list(f.label) for f in features], device=logits.device)
        lengths = torch.tensor([len(f.words) for f in features], device=logits.device)
        filling = torch.arange(logits.shape[1], device=logits.device) >= lengths[:, None]
        logits = logits.masked_fill(filling[:, :, None], -torch.inf)
        return nn.functional.cross_entropy(logits, gold, reduction="sum") / 2

    def outputs(self, logits: Tensor, features: Sequence[Feature]) -> list[np.ndarray]:
        """Logits without padding. *Shape:* (tokens, 2)."""
        return [row[: len(f.words)] for row, f in zip(logits.cpu().numpy(), features, strict=True)]

    def decode(self, examples: Sequence[SquadExample], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Answers:
        """The span with the greatest sum of logits, over all windows."""
        of: dict[int, list[int]] = defaultdict(list)
        for n, feature in enumerate(features):
            of[feature.example].append(n)
        assert self._tokenizer is not None  # set by `features`
        answers = {}
        for passage, group in itertools.groupby(enumerate(examples), key=lambda pair: pair[1].passage):
            bounds = token_bounds(passage, self._tokenizer)
            for i, example in group:
                answers[example.id] = self._answer(passage.text, bounds, [(outputs[n], features[n].note) for n in of[i]])
        return answers

    def _answer(
        self, passage: str, bounds: Sequence[tuple[int, int]], inputs: Sequence[tuple[np.ndarray, AnswerWindow]]
    ) -> Answered:
        options = self.options

        def text(n: int, start: int, end: int) -> str:
            """Characters of the passage: a token may be a byte of one, which has no text of its own."""
            first = inputs[n][1].start - inputs[n][1].offset
            return passage[bounds[first + start][0] : bounds[first + end][1]].strip()

        return answer(
            inputs,
            text,
            count=options.n_best_size,
            longest=options.max_answer_length,
            negative=options.with_negative,
            threshold=options.null_score_diff_threshold,
        )

    def score(self, examples: Sequence[SquadExample], answers: Answers) -> dict[str, float]:
        """Exact match and F1 of normalised texts, in per cent, as in the script of SQuAD 2.0."""
        odds = {name: answered.null_odds for name, answered in answers.items() if answered.null_odds is not None}
        questions = [(e.id, [a.text for a in e.answers]) for e in examples]
        return squad_scores(questions, {name: answered.text for name, answered in answers.items()}, odds or None)

    def write(self, folder: Path, split: str, examples: Sequence[SquadExample], answers: Answers) -> None:
        """``predictions_.json``, ``nbest_predictions_.json`` and, for 2.0, ``null_odds_.json``, as the original names them."""
        write_json(folder / "predictions_.json", {name: answered.text for name, answered in answers.items()})
        write_json(folder / "nbest_predictions_.json", {name: _nbest_rows(answered) for name, answered in answers.items()})
        if self.options.with_negative:
            write_json(folder / "null_odds_.json", {name: answered.null_odds for name, answered in answers.items()})


def encode_passage(passage: Passage, tokenizer: PlainTokenizer, table: MentionTable) -> EncodedPassage:
    """Tokenise the words of a passage, each with a space before it."""
    by_word = [tokenizer.encode(word) for word in passage.words]
    begins = list(itertools.accumulate(map(len, by_word), initial=0))
    return EncodedPassage([token for ids in by_word for token in ids], begins, table)


def token_bounds(passage: Passage, tokenizer: PlainTokenizer) -> list[tuple[int, int]]:
    """Characters ``[start, end)`` of each token of a passage, as `encode_passage` makes them."""
    return [
        (start + first, start + past)
        for start, word in zip(passage.word_starts(), passage.words, strict=True)
        for first, past in tokenizer.offsets(word)
    ]


def moved(entities: Sequence[EntitySlot], by: int) -> list[EntitySlot]:
    """Entities with their bounds shifted by an offset."""
    return [EntitySlot(e.id, e.start + by, e.end + by) for e in entities]


def tighten(passage: EncodedPassage, gold: Answer, tokenizer: PlainTokenizer) -> tuple[int, int]:
    """First and last token of an answer: the span in its words that has exactly its text, else all its words."""
    first, last = passage.begins[gold.start], max(passage.begins[gold.end + 1] - 1, passage.begins[gold.start])
    gold_text = tokenizer.text(tokenizer.encode(gold.text)).strip()
    for start in range(first, last + 1):
        for end in range(last, start - 1, -1):
            if tokenizer.text(passage.ids[start : end + 1]).strip() == gold_text:
                return start, end
    return first, last


def most_context(spans: Sequence[tuple[int, int]], length: int) -> list[int]:
    """For each token, the first window with the most context on its shorter side."""
    owners, best = [0] * length, [-1.0] * length
    for n, (start, end) in enumerate(spans):
        for position in range(start, end):
            score = min(position - start, end - 1 - position) + 0.01 * (end - start)
            if score > best[position]:
                owners[position], best[position] = n, score
    return owners


def _nbest_rows(answered: Answered) -> list[dict[str, Any]]:
    odds = probabilities(answered.best)
    return [
        {"text": s.text, "probability": p, "start_logit": s.start, "end_logit": s.end}
        for s, p in zip(answered.best, odds, strict=True)
    ]
