"""Read and encode the inputs of a run: vocabulary, texts, triples and negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import DataError, SettingsError
from blink.kglm.config import data_path
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.classification import Tables
from blink.kglm.lm.corpus import Corpus, encode, read_words
from blink.kglm.lm.negatives import Negatives, NegativeSampling
from blink.kglm.lm.splits import held_out_lines, read_subjects, split_by_head
from blink.kglm.lm.triples import Facts, Lexicon, TripleTexts, read_names
from blink.kglm.lm.vocabulary import Vocabulary, build_vocabulary, count_words
from blink.kglm.settings import JointSettings, JointVocabulary, LanguageSections

SPLITS = ("valid", "test")
PUBLISHED = "published"


@dataclass(frozen=True)
class Text:
    """A text in words.

    Attributes:
        words: words of each line.
        subjects: entity of each line; None if unknown.
    """

    words: list[list[str]]
    subjects: list[str] | None

    def select(self, mask: np.ndarray) -> Text:
        """Select lines by a mask, *shape* (lines,), bool."""
        rows = np.flatnonzero(mask)
        return Text([self.words[i] for i in rows], None if self.subjects is None else [self.subjects[i] for i in rows])


@dataclass(frozen=True)
class Triples:
    """Triples for training and evaluation.

    Attributes:
        graph: ids and splits.
        lexicon: names.
        texts: names in word ids.
        train: training triples; negatives are included only if the dataset has them.
        measured: true and false triples by split and kind of negatives; ``published`` are the negatives of the dataset.
        selection: validation triples with negatives like those of training, to select the best checkpoint.
        negatives: samples negatives.
        sampling: settings of negative sampling in training.
        tables: rows of entities and relations of the training triples in embedding tables.
    """

    graph: Graph
    lexicon: Lexicon
    texts: TripleTexts
    train: Facts
    measured: Mapping[str, Mapping[str, Facts]]
    selection: Facts
    negatives: Negatives
    sampling: NegativeSampling
    tables: Tables

    @property
    def table_ids(self) -> tuple[list[str], list[str]]:
        """Ids of entities and of relations, by row of their tables."""
        pairs = ((self.lexicon.entities, self.tables.entities), (self.lexicon.relations, self.tables.relations))
        entities, relations = ([ids[i] for i in np.flatnonzero(rows >= 0)] for ids, rows in pairs)
        return entities, relations


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run.

    Attributes:
        vocabulary: the vocabulary.
        texts: the available splits of ``train``, ``valid``, ``test``.
        triples: None for a language model without a classifier.
        sources: files that were read.
        notes: messages about the data, one line each.
    """

    vocabulary: Vocabulary
    texts: Mapping[str, Corpus]
    triples: Triples | None
    sources: tuple[Path, ...]
    notes: tuple[str, ...]


def read_inputs(settings: LanguageSections, vocabulary: Vocabulary | None = None) -> Inputs:
    """Read the inputs of a run.

    Args:
        settings: settings of a run of kind ``lm`` or ``joint``.
        vocabulary: vocabulary of a trained model; None reads or builds it from the settings.

    Raises:
        MissingFileError, DataError, MismatchError, SettingsError: a file or a setting is invalid.
    """
    if isinstance(settings, JointSettings):
        return _JointReader(settings).inputs(vocabulary)
    return _Reader(settings).inputs(vocabulary)


class _Reader:
    """Reads the inputs, and collects their source files and notes."""

    def __init__(self, settings: LanguageSections) -> None:
        self._settings, self._data = settings, settings.data
        self.sources: list[Path] = []
        self.notes: list[str] = []

    def inputs(self, vocabulary: Vocabulary | None) -> Inputs:
        """All inputs; see `read_inputs`."""
        texts = self.texts()
        words = vocabulary or self.vocabulary(texts)
        corpora = self.corpora(texts, words)
        return Inputs(words, corpora, None, tuple(dict.fromkeys(self.sources)), tuple(self.notes))

    def texts(self) -> dict[str, Text]:
        """Texts by split; the training text is without the held-out lines."""
        data = self._data
        if not data.text:
            if not isinstance(self._settings, JointSettings) or self._settings.joint.alpha < 1:
                raise SettingsError("data.text is not set; give a file with a line of text per entity, or --joint.alpha 1")
            return {}
        texts = {"train": self._text("text")}
        for name in SPLITS:
            if getattr(data, f"text_{name}"):
                texts[name] = self._text(f"text_{name}")
        if "valid" not in texts:
            text = texts["train"]
            held_out = held_out_lines(text.subjects, len(text.words), data.held_out, data.split_seed)
            if not held_out.any() or held_out.all():
                raise DataError(
                    f"data.held_out {data.held_out} leaves no text for training or validation; take a value such as 0.05"
                )
            texts["valid"], texts["train"] = text.select(held_out), text.select(~held_out)
            self.notes.append(f"valid: {int(held_out.sum()):,} lines of the training text held out")
        return texts

    def _text(self, key: str) -> Text:
        path = data_path(getattr(self._data, key), self._data.root)
        words = read_words(path)
        self.sources += [path] if path.is_file() else sorted(path.glob("*.sm"))
        ids = getattr(self._data, f"{key}_ids")
        ids_file = path.with_name(path.name.removesuffix(".gz")).with_suffix(".ids")
        if not ids or (ids == "auto" and not (path.is_file() and ids_file.is_file())):
            return Text(words, None)
        file = ids_file if ids == "auto" else data_path(ids, self._data.root)
        self.sources.append(file)
        return Text(words, read_subjects(file, len(words)))

    def corpora(self, texts: Mapping[str, Text], vocabulary: Vocabulary) -> dict[str, Corpus]:
        """Texts in word ids; the training text is subsampled by ``data.text_share``."""
        data = self._data
        corpora = {name: encode(text.words, vocabulary, data.longest) for name, text in texts.items()}
        if corpora and data.text_share < 1:
            lines = len(corpora["train"])
            sample = np.random.default_rng([data.split_seed, 0x5A]).permutation(lines)[: max(round(lines * data.text_share), 1)]
            corpora["train"] = corpora["train"].select(np.sort(sample))
        for name, corpus in corpora.items():
            rate = corpus.unknown_words / max(corpus.words, 1)
            self.notes.append(f"text {name}: {len(corpus):,} lines, {corpus.words:,} words, {rate:.2%} of them unknown")
        return corpora

    def vocabulary(self, texts: Mapping[str, Text], lexicon: Lexicon | None = None) -> Vocabulary:
        """The vocabulary of a file, or of the training text and the names."""
        section = self._settings.vocabulary
        if section.file:
            path = data_path(section.file, self._data.root)
            self.sources.append(path)
            return Vocabulary.load(path)
        counted = section.count if isinstance(section, JointVocabulary) else "text"
        counts: Counter[str] = Counter()
        if counted != "names" and texts:
            longest = self._data.longest or None
            counts += count_words(line[:longest] for line in texts["train"].words)
        if lexicon is not None and (counted != "text" or not texts):
            counts += count_words(lexicon.names())
        return build_vocabulary(counts, section.size, section.least_count)


class _JointReader(_Reader):
    """Reads triples and names too."""

    def __init__(self, settings: JointSettings) -> None:
        super().__init__(settings)
        self._joint, self._files = settings, settings.data
        self._undivided: Graph | None = None

    def inputs(self, vocabulary: Vocabulary | None) -> Inputs:
        """All inputs; see `read_inputs`."""
        texts = self.texts()
        graph = self.graph(texts)
        lexicon = Lexicon(graph, self.names(self._files.entity_names), self.names(self._files.relation_names))
        words = vocabulary or self.vocabulary(texts, lexicon)
        corpora = self.corpora(texts, words)
        triples = self.triples(graph, lexicon, words)
        return Inputs(words, corpora, triples, tuple(dict.fromkeys(self.sources)), tuple(self.notes))

    def graph(self, texts: Mapping[str, Text]) -> Graph:
        """The graph, split by entity if ``data.apart`` is set."""
        self._undivided = graph = read_graph(self._files)
        self.sources += graph.sources
        if self._files.apart:
            held_out = {name: texts[name].subjects if name in texts else None for name in SPLITS}
            subjects = {name: ids for name, ids in held_out.items() if ids is not None}
            if set(subjects) != set(SPLITS):
                raise SettingsError(
                    "data.apart needs the entity ids of a validation and of a test text; give data.text_test_ids"
                )
            graph = split_by_head(graph, subjects["valid"], subjects["test"])
        self.notes += graph.notes
        return graph

    def names(self, file: str) -> dict[str, str]:
        """Names of entities or relations; empty without a file."""
        if not file:
            return {}
        path = data_path(file, self._data.root)
        self.sources.append(path)
        return read_names(path)

    def triples(self, graph: Graph, lexicon: Lexicon, vocabulary: Vocabulary) -> Triples:
        """Triples, and the sampler of negatives."""
        section = self._joint.negatives
        sampling = NegativeSampling(section.kind, section.fewest, section.most, section.both)
        train = Facts.of(graph.train)
        undivided = self._undivided or graph
        true_facts = Facts.join([Facts.of(triples) for triples in (*undivided.splits.values(), *graph.splits.values())])
        negatives = Negatives(train, true_facts, lexicon.name_keys, lexicon.relation_numbers(section.same_relation))
        if "train" in graph.negatives:
            train = Facts.join([train, Facts.of(graph.negatives["train"], False)])
        if lexicon.nameless:
            self.notes.append(
                f"names: {lexicon.nameless:,} of {len(lexicon.entities):,} entities have none; their ids are read instead"
            )
        measured = self._measured(graph, undivided, negatives)
        if "valid" not in graph.splits:
            raise DataError(
                "the graph has no valid triples to select the best checkpoint; give data.valid, or data.valid_share"
            )
        selection = self._selection_facts(graph, negatives, sampling)
        tables = Tables(_rows(graph.train[:, [0, 2]], len(lexicon.entities)), _rows(graph.train[:, 1], len(lexicon.relations)))
        self.notes.append(f"triples: {', '.join(f'{name} {len(triples):,}' for name, triples in graph.splits.items())}")
        return Triples(graph, lexicon, lexicon.texts(vocabulary), train, measured, selection, negatives, sampling, tables)

    def _selection_facts(self, graph: Graph, negatives: Negatives, sampling: NegativeSampling) -> Facts:
        """Validation triples with negatives like those of training: the dataset's, or of the same kind."""
        valid = Facts.of(graph.splits["valid"])
        random = np.random.default_rng([self._joint.negatives.measured_seed, 0xC4])
        most = self._joint.validation.triples
        if most and most < len(valid):
            valid = valid.select(np.sort(random.permutation(len(valid))[:most]))
        if "train" in graph.negatives and "valid" in graph.negatives:
            return Facts.join([valid, Facts.of(graph.negatives["valid"], False)])
        return negatives.with_true(valid, NegativeSampling(sampling.kind, 2, 2, sampling.both), random)

    def _measured(self, graph: Graph, undivided: Graph, negatives: Negatives) -> dict[str, dict[str, Facts]]:
        section, facts = self._joint.negatives, dict[str, dict[str, Facts]]()
        for name in (s for s in SPLITS if s in graph.splits):
            true = Facts.of(graph.splits[name])
            facts[name] = {}
            for index, kind in enumerate(section.measured):
                random = np.random.default_rng([section.measured_seed, index, SPLITS.index(name)])
                facts[name][kind] = negatives.with_true(true, NegativeSampling(kind, 2, 2), random)
            if name in graph.negatives:
                facts[name][PUBLISHED] = Facts.join([true, Facts.of(graph.negatives[name], False)])
        if empty := [name for name, kinds in facts.items() if not kinds]:
            message = f"negatives.measured names no kind, and the graph has no {empty[0]} negatives"
            raise SettingsError(f"{message}; name a kind, such as [same_type]")
        if self._files.apart and "valid" in undivided.negatives and "valid" in undivided.splits:
            published = [Facts.of(undivided.splits["valid"]), Facts.of(undivided.negatives["valid"], False)]
            facts["test"][PUBLISHED] = Facts.join(published)
        return facts


def _rows(used: np.ndarray, count: int) -> np.ndarray:
    """Consecutive rows for the indices in ``used``, -1 for the others. *Shape:* (count,), int64."""
    rows = np.full(count, -1, dtype=np.int64)
    present = np.unique(used)
    rows[present] = np.arange(len(present))
    return rows


def describe_inputs(inputs: Inputs) -> dict[str, Any]:
    """Description of the inputs for the first line of a trace."""
    return {"vocabulary": {"ids": len(inputs.vocabulary), "digest": inputs.vocabulary.digest}, "notes": list(inputs.notes)}
