"""Batches of each epoch, and their distribution over processes and micro-batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from blink.data.mention_store import MentionStore
from blink.data.records import Sample
from blink.errors import DataError, SettingsError
from blink.model.tokenizer import Tokenizer
from blink.runs.seeds import SEED_STRIDE
from blink.training.data.examples import Batch, Example, collate, examples_from, order
from blink.training.data.synthetic import Synthesizer, mixed
from blink.training.data.variation import joined, recased
from blink.training.settings import TrainSettings, parse_mix

VARIATION_SEED = 7
"""Distinguishes the draws of variations from others of the same seed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rank:
    """The rank of a process, which determines its micro-batches of every batch.

    Attributes:
        index: rank of the process, from 0.
        processes: number of processes.
        micro_batches: number of micro-batches per process and batch.
    """

    index: int = 0
    processes: int = 1
    micro_batches: int = 1

    def split(self, texts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Text indices of this process's micro-batches; a small batch gives fewer of them, or none."""
        first, n = self.index * self.micro_batches, self.micro_batches
        shards = np.array_split(texts, self.processes * n)[first : first + n]
        return [shard for shard in shards if len(shard)]


class Epoch:
    """The batches of one epoch.

    Args:
        texts: examples, or samples that are tokenized when their batch is requested.
        batches: indices of the texts of each batch.
        tokenizer: of the model.
        context_length: longest input.
    """

    def __init__(
        self,
        texts: Sequence[Example] | Sequence[Sample],
        batches: list[npt.NDArray[np.int64]],
        tokenizer: Tokenizer,
        context_length: int,
    ) -> None:
        self._texts, self._batches = texts, batches
        self._tokenizer, self._context_length = tokenizer, context_length

    def __len__(self) -> int:
        return len(self._batches)

    def micro_batches(self, number: int, rank: Rank) -> list[Batch]:
        """The micro-batches of batch ``number`` that a process computes."""
        return [collate(self._examples(texts), self._tokenizer.pad_id) for texts in rank.split(self._batches[number])]

    def _examples(self, numbers: npt.NDArray[np.int64]) -> list[Example]:
        texts = [self._texts[int(i)] for i in numbers]
        examples = [t for t in texts if isinstance(t, Example)]
        samples = [t for t in texts if isinstance(t, Sample)]
        return examples or examples_from(samples, self._tokenizer, self._context_length)


class Epochs:
    """The epochs of a run, each with its mixture of texts in an order drawn from the seed.

    Args:
        questions: labelled texts; those of a `MentionStore` are read when their batch is requested.
        settings: the mixture, its order, and whether questions are distributed over the epochs.
        synthesizer: generates the synthetic texts of the mixture; None if it has none.
        tokenizer: of the model.
        context_length: longest input.

    Attributes:
        steps: batches per epoch.

    Raises:
        DataError: there are no texts, or a text has no labels.
        SettingsError: texts that are read from disk batch by batch are to be joined or recased.
    """

    def __init__(
        self,
        questions: Sequence[Sample],
        settings: TrainSettings,
        synthesizer: Synthesizer | None,
        tokenizer: Tokenizer,
        context_length: int,
    ) -> None:
        self._questions, self._settings, self._synthesizer = questions, settings, synthesizer
        self._tokenizer, self._context_length = tokenizer, context_length
        if isinstance(questions, MentionStore) and (settings.recase or settings.join):
            raise SettingsError("--recase and --join are for training files below 64 MiB; give smaller files, or 0 for both")
        self._mix = parse_mix(settings.mix)
        self._cached: tuple[int, Epoch] | None = None
        self._per_epoch = self._questions_per_epoch()
        self.steps = len(self[0])
        if not self.steps:
            raise DataError("there are no texts to train on; give --train, or a --mix whose shares are not all 0")

    def __getitem__(self, number: int) -> Epoch:
        """Epoch ``number``; the same at each call."""
        if self._cached is None or self._cached[0] != number:
            self._cached = (number, self._read(number))
        return self._cached[1]

    def _read(self, number: int) -> Epoch:
        numbers, synthetic = self._question_numbers(number), self._synthetic(number)
        samples = self._varied(_EpochTexts(self._questions, numbers, synthetic), number)
        generator = None if self._settings.in_order else np.random.default_rng([self._settings.seed, number])
        if isinstance(self._questions, MentionStore):
            assert isinstance(samples, _EpochTexts)  # a store has no variations
            batches = order(samples.lengths(), self._settings.batch_size, generator)
            return Epoch(samples, batches, self._tokenizer, self._context_length)
        examples = examples_from(samples, self._tokenizer, self._context_length)
        lengths = np.array([len(e.ids) for e in examples], dtype=np.int64)
        batches = order(lengths, self._settings.batch_size, generator)
        if number:
            # Joined texts are not equally many in each epoch, but all epochs have as many steps as the first.
            batches = [batches[i % len(batches)] for i in range(self.steps)]
        return Epoch(examples, batches, self._tokenizer, self._context_length)

    def _varied(self, samples: _EpochTexts, number: int) -> Sequence[Sample]:
        """The texts of an epoch, some of them joined or in another letter case."""
        settings = self._settings
        if not settings.recase and not settings.join:
            return samples
        random = np.random.default_rng([VARIATION_SEED, self._seed(number)])
        texts = recased(samples, settings.recase, random)
        return joined(texts, settings.join, self._context_length, random) if settings.join else texts

    def _question_numbers(self, number: int) -> npt.NDArray[np.int64]:
        """Numbers of the questions of an epoch."""
        numbers = self._epoch_numbers(number)
        repeats, fraction = divmod(self._mix.get("questions", 1.0), 1)
        sample = np.random.default_rng(self._seed(number)).permutation(len(numbers))[: round(fraction * len(numbers))]
        return np.concatenate([*[numbers] * int(repeats), numbers[sample] if fraction else numbers[:0]])

    def _epoch_numbers(self, number: int) -> npt.NDArray[np.int64]:
        """Numbers of the questions that an epoch draws from."""
        n = self._per_epoch
        return (np.arange(n) + number * n) % max(len(self._questions), 1)

    def _synthetic(self, number: int) -> list[Sample]:
        mix = {**self._mix, "questions": 0.0}
        questions = _EpochTexts(self._questions, self._epoch_numbers(number))
        return list(mixed(questions, mix, self._synthesizer, self._seed(number)))

    def _seed(self, number: int) -> int:
        """Seed of the texts of an epoch; runs with consecutive seeds share none."""
        return self._settings.seed + SEED_STRIDE * number

    def _questions_per_epoch(self) -> int:
        """All questions; if they are distributed over the epochs, an equal share of them."""
        count = len(self._questions)
        if not self._settings.distribute:
            return count
        share = -(-count // self._settings.epochs)
        if share >= self._settings.batch_size:
            return share
        logger.warning(
            "%d texts over %d epochs are %d an epoch, less than a batch of %d: every epoch reads all of them instead",
            count, self._settings.epochs, share, self._settings.batch_size,
        )  # fmt: skip
        return count


class _EpochTexts(Sequence[Sample]):
    """Questions by number, followed by synthetic texts. A question is read when it is indexed."""

    def __init__(self, questions: Sequence[Sample], numbers: npt.NDArray[np.int64], synthetic: Sequence[Sample] = ()) -> None:
        self._questions, self._numbers, self._synthetic = questions, numbers, synthetic

    def __len__(self) -> int:
        return len(self._numbers) + len(self._synthetic)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index < len(self._numbers):
            return self._questions[int(self._numbers[index])]
        return self._synthetic[index - len(self._numbers)]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of each text's line, as an estimate of its length that needs no reading."""
        assert isinstance(self._questions, MentionStore)
        synthetic = np.array([len(s.text.encode()) for s in self._synthetic], dtype=np.int64)
        return np.concatenate([self._questions.line_bytes[self._numbers], synthetic])
