"""Gold mentions that no model can get right, counted where labelled texts meet a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blink.data.mention_files import Rows
from blink.data.offsets import cuts_word
from blink.data.records import NOT_IN_CATALOGUE, Mention, Sample
from blink.errors import DataError
from blink.kb.alias_table import normalise
from blink.model.config import ModelConfig
from blink.model.tokenizer import Encoding, Tokenizer

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder
    from blink.model.linking_model import LinkingModel

logger = logging.getLogger(__name__)

MAX_CHECKED_TEXTS = 20_000
"""Of more texts, evenly spaced ones are checked."""
_BATCH = 1000
"""Texts tokenized at a time."""


@dataclass
class _Tally:
    """How many gold mentions are of a kind, and the first of them for a message."""

    count: int = 0
    first: str = ""

    def add(self, sample: Sample, mention: Mention) -> None:
        if not self.count:
            surface = " ".join(sample.text[mention.start : mention.end].split())
            self.first = f"{surface if len(surface) <= 30 else surface[:29] + '…'!r} in {sample.id!r}"
        self.count += 1


@dataclass
class GoldCounts:
    """Gold mentions in characters that a model cannot get right, by reason.

    Attributes:
        mentions: all gold mentions.
        cut: those that begin or end inside a word.
        long: those of more tokens than the model's longest mention.
        blank: those that touch no token.
        impossible: those that the model never proposes: long or blank ones, and those whose ends are not ends of tokens (of
            words, where the model proposes whole words only).
        inclusive: those inside a word that would be whole words if they ended one character later.
        known: those with a row of the catalogue.
        titled: those bound by their row alone, whose file has a title to compare.
        renamed: those whose row has another title in the catalogue.
        unknown: those with an id that is not in the catalogue.
        unknown_id: the first id that is not.
    """

    mentions: int = 0
    inclusive: int = 0
    known: int = 0
    titled: int = 0
    cut: _Tally = field(default_factory=_Tally)
    long: _Tally = field(default_factory=_Tally)
    blank: _Tally = field(default_factory=_Tally)
    impossible: _Tally = field(default_factory=_Tally)
    renamed: _Tally = field(default_factory=_Tally)
    unknown: int = 0
    unknown_id: str = ""


@dataclass(frozen=True)
class GoldChecker:
    """Says how much of a file's gold cannot be right.

    Args:
        tokenizer: of the model.
        config: of the model.
        catalogue: that the samples are bound to.
        warn: called with each line.
    """

    tokenizer: Tokenizer
    config: ModelConfig
    catalogue: Rows
    warn: Callable[[str], None] = logger.warning

    @classmethod
    def of(cls, model: BiEncoder | LinkingModel, catalogue: Rows, warn: Callable[[str], None] = logger.warning) -> GoldChecker:
        """The checker for a model; it keeps none of its weights."""
        return cls(model.tokenizer, model.config, catalogue, warn)

    def __call__(self, file: str, samples: Sequence[Sample], *, require_ids: bool = False) -> None:
        """Say in a line each, as n of m gold mentions, what cannot be right.

        Args:
            file: name of the file, for messages.
            samples: bound to the catalogue; of more than `MAX_CHECKED_TEXTS`, every n-th is checked.
            require_ids: refuse gold of which all ids are unknown, as nothing can then be measured.

        Raises:
            DataError: the model can get none of the gold mentions right.
        """
        step = max(1, -(-len(samples) // MAX_CHECKED_TEXTS))
        counts, checked = self.count(samples[::step]), "" if step == 1 else f", in one of {step} texts,"
        gold = f"of {counts.mentions} gold spans{checked}"
        faults = [(f"{t.count} {gold} {problem} (the first: {t.first})", remark) for t, problem, remark in self._faults(counts)]
        if counts.mentions and counts.impossible.count == counts.mentions:
            reasons = "; ".join(f"{fault}; {remark}" for fault, remark in faults)
            reasons = reasons or f"their ends are not ends of its tokens (the first: {counts.impossible.first})"
            raise DataError(f"{file}: the model can propose none of the gold spans: {reasons}")
        for fault, remark in faults:
            self.warn(f"{file}: {fault}; {remark}")
        if counts.renamed.count > counts.titled / 2:
            problem = f"{counts.renamed.count} of {counts.titled} gold rows ('label_id') have other titles in the catalogue"
            self.warn(f"{file}: {problem} (the first: {counts.renamed.first}); give the knowledge base it was labelled for")
        if counts.unknown and not counts.known:
            problem = f"none of the {counts.unknown} gold ids is in the catalogue (the first: {counts.unknown_id!r}"
            line = f"{file}: {problem}, the catalogue has {self._example_id()}); give the knowledge base it was labelled for"
            if require_ids:
                raise DataError(line)
            self.warn(line)

    def count(self, samples: Iterable[Sample]) -> GoldCounts:
        """Count the gold mentions of samples by what is wrong with them."""
        counts, batch = GoldCounts(), list[Sample]()
        for sample in samples:
            if not sample.mentions:
                continue
            batch.append(sample)
            if len(batch) == _BATCH:
                self._add(counts, batch)
                batch = []
        self._add(counts, batch)
        return counts

    def _add(self, counts: GoldCounts, samples: Sequence[Sample]) -> None:
        for sample, encoding in zip(samples, self.tokenizer.tokenize([s.text for s in samples]), strict=True):
            bounds = _TokenBounds(encoding, self.tokenizer, sample.text, whole_words=self.config.whole_words)
            for mention in sample.mentions or ():
                counts.mentions += 1
                touched = encoding.tokens_of(mention.start, mention.end)
                is_long = touched is not None and touched[1] - touched[0] > self.config.max_mention_length + 1
                is_cut = cuts_word(sample.text, mention.start, mention.end)
                kinds = {
                    "cut": is_cut,
                    "long": is_long,
                    "blank": touched is None,
                    "impossible": is_long or touched is None or not bounds.hold(touched, mention),
                }
                counts.inclusive += is_cut and not cuts_word(sample.text, mention.start, mention.end + 1)
                if mention.row != NOT_IN_CATALOGUE:
                    counts.known += 1
                    if mention.kb_id is None and mention.title:
                        counts.titled += 1
                        kinds["renamed"] = not self._has_title(mention.row, mention.title)
                elif mention.kb_id is not None:
                    counts.unknown += 1
                    counts.unknown_id = counts.unknown_id or mention.kb_id
                for name in (name for name, applies in kinds.items() if applies):
                    getattr(counts, name).add(sample, mention)

    def _faults(self, counts: GoldCounts) -> Iterator[tuple[_Tally, str, str]]:
        units, limit = "offsets count characters, the end is excluded", self.config.max_mention_length + 1
        is_inclusive = counts.cut.count and counts.inclusive == counts.cut.count == counts.mentions
        ends = "they would be words if they ended one character later: the end is excluded" if is_inclusive else units
        faults = (
            (counts.cut, "begin or end inside a word", ends),
            (counts.long, f"are longer than {limit} tokens, the most of a mention", "the model never proposes them"),
            (counts.blank, "touch no token", units),
        )
        return (fault for fault in faults if fault[0].count)

    def _has_title(self, row: int, title: str) -> bool:
        entity = self.catalogue[row]
        return normalise(title) in {normalise(name) for name in (entity.title, *entity.aliases)}

    def _example_id(self) -> str:
        ids = (self.catalogue[row].kb_id for row in range(min(len(self.catalogue), 100)))
        return f"ids such as {first!r}" if (first := next(filter(None, ids), None)) else "no ids"


class _TokenBounds:
    """Where spans of tokens may begin and end."""

    def __init__(self, encoding: Encoding, tokenizer: Tokenizer, text: str, *, whole_words: bool) -> None:
        self._offsets, self._text = encoding.offsets, text
        # An id for [CLS] first, since tokens of some vocabularies continue a word only behind another token.
        ids = np.array([[tokenizer.cls_id, *encoding.ids.tolist()]], dtype=np.int64)
        self._continues = tokenizer.inside_words(ids)[0, 1:] if whole_words else np.zeros(len(encoding.ids), dtype=bool)

    def hold(self, tokens: tuple[int, int], mention: Mention) -> bool:
        """Whether a span of tokens has the characters of a mention, up to blanks."""
        first, past = tokens
        if self._continues[first] or (past < len(self._continues) and self._continues[past]):
            return False
        outside = range(int(self._offsets[first, 0]), mention.start), range(mention.end, int(self._offsets[past - 1, 1]))
        return all(self._text[i].isspace() for characters in outside for i in characters)
