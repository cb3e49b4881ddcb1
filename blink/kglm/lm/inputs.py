"""What the settings of a run name, read and encoded: vocabulary, texts, triples and false triples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import DataError, SettingsError
from blink.kglm.config import Settings, data_path
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.classification import Tables
from blink.kglm.lm.corpus import Corpus, encode, read_words
from blink.kglm.lm.negatives import Making, Negatives
from blink.kglm.lm.splits import apart_by_head, held_out_lines, read_subjects
from blink.kglm.lm.triples import Facts, Lexicon, TripleTexts, read_names
from blink.kglm.lm.vocabulary import Vocabulary, build_vocabulary, count_words

SPLITS = ("valid", "test")
PUBLISHED = "published"


@dataclass(frozen=True)
class Text:
    """A text in words.

    Attributes:
        words: of each line.
        subjects: entity of each line; None where they are not known.
    """

    words: list[list[str]]
    subjects: list[str] | None

    def select(self, chosen: np.ndarray) -> Text:
        """The lines of a mask. *Shape:* (lines,), bool."""
        rows = np.flatnonzero(chosen)
        return Text([self.words[i] for i in rows], None if self.subjects is None else [self.subjects[i] for i in rows])


@dataclass(frozen=True)
class Triples:
    """Triples to learn from and to measure.

    Attributes:
        graph: ids, and triples as they are divided.
        lexicon: names.
        texts: what a classifier reads.
        train: triples of training, false ones among them only where they were given.
        measured: by split and kind, true and false triples; ``published`` are those given with the graph.
        chosen_by: validation triples with false ones such as those of training, for the choice of the best state.
        negatives: makes false ones.
        making: how, in training.
        tables: where entities stand in a table that has a row for each of the training triples.
    """

    graph: Graph
    lexicon: Lexicon
    texts: TripleTexts
    train: Facts
    measured: Mapping[str, Mapping[str, Facts]]
    chosen_by: Facts
    negatives: Negatives
    making: Making
    tables: Tables

    @property
    def table_ids(self) -> tuple[list[str], list[str]]:
        """Ids of entities and relations by their rows in the tables."""
        pairs = ((self.lexicon.entities, self.tables.entities), (self.lexicon.relations, self.tables.relations))
        entities, relations = ([ids[i] for i in np.flatnonzero(rows >= 0)] for ids, rows in pairs)
        return entities, relations


@dataclass(frozen=True)
class Inputs:
    """All that a run reads.

    Attributes:
        vocabulary: the words that are known.
        texts: ``train``, ``valid``, ``test``, as far as there are any.
        triples: None for a language model alone.
        sources: files that were read.
        notes: what to tell about them, a line each.
    """

    vocabulary: Vocabulary
    texts: Mapping[str, Corpus]
    triples: Triples | None
    sources: tuple[Path, ...]
    notes: tuple[str, ...]


def read_inputs(settings: Settings, vocabulary: Vocabulary | None = None) -> Inputs:
    """Read what settings name.

    Args:
        settings: of a run of kind ``lm`` or ``joint``.
        vocabulary: of a trained model; None makes it as the settings say.

    Raises:
        MissingFileError, DataError, MismatchError, SettingsError: as of the files.
    """
    reader = _Reader(settings)
    texts = reader.texts()
    graph = lexicon = None
    if settings.kind == "joint":
        graph = reader.graph(texts)
        lexicon = Lexicon(graph, reader.names("entity"), reader.names("relation"))
    known = vocabulary or reader.vocabulary(texts, lexicon)
    corpora = reader.corpora(texts, known)
    triples = None if graph is None or lexicon is None else reader.triples(graph, lexicon, known)
    return Inputs(known, corpora, triples, tuple(dict.fromkeys(reader.sources)), tuple(reader.notes))


class _Reader:
    """Reads the parts one by one, and keeps what was read and what there is to tell."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._data = settings, settings.data
        self.sources: list[Path] = []
        self.notes: list[str] = []
        self._whole: Graph | None = None

    # -- texts -----------------------------------------------------------------------------------------------------------

    def texts(self) -> dict[str, Text]:
        """Texts by split; the training text is what is left of it after the held-out lines."""
        data = self._data
        if not data.text:
            if self._settings.kind == "lm" or self._settings.joint.alpha < 1:
                raise SettingsError("data.text names no text; give a file with a line of text per entity, or --joint.alpha 1")
            return {}
        found = {"train": self._text("text")}
        for name in SPLITS:
            if getattr(data, f"text_{name}"):
                found[name] = self._text(f"text_{name}")
        if "valid" not in found:
            everything = found["train"]
            held_out = held_out_lines(everything.subjects, len(everything.words), data.held_out, data.split_seed)
            if not held_out.any() or held_out.all():
                raise DataError(
                    f"data.held_out {data.held_out} leaves no text to train on, or none to validate; take such as 0.05"
                )
            found["valid"], found["train"] = everything.select(held_out), everything.select(~held_out)
            self.notes.append(f"valid: {int(held_out.sum()):,} lines of the training text held out")
        return found

    def _text(self, key: str) -> Text:
        path = data_path(getattr(self._data, key), self._data.root)
        words = read_words(path)
        self.sources += [path] if path.is_file() else sorted(path.glob("*.sm"))
        ids = getattr(self._data, f"{key}_ids")
        beside = path.with_name(path.name.removesuffix(".gz")).with_suffix(".ids")
        if not ids or (ids == "auto" and not (path.is_file() and beside.is_file())):
            return Text(words, None)
        file = beside if ids == "auto" else data_path(ids, self._data.root)
        self.sources.append(file)
        return Text(words, read_subjects(file, len(words)))

    def corpora(self, texts: Mapping[str, Text], vocabulary: Vocabulary) -> dict[str, Corpus]:
        """Texts in ids; of the training text, the share that is learned from."""
        data = self._data
        found = {name: encode(text.words, vocabulary, data.longest) for name, text in texts.items()}
        if found and data.text_share < 1:
            lines = len(found["train"])
            chosen = np.random.default_rng([data.split_seed, 0x5A]).permutation(lines)[: max(round(lines * data.text_share), 1)]
            found["train"] = found["train"].select(np.sort(chosen))
        for name, corpus in found.items():
            rate = corpus.unknown_words / max(corpus.words, 1)
            self.notes.append(f"text {name}: {len(corpus):,} lines, {corpus.words:,} words, {rate:.2%} of them unknown")
        return found

    def vocabulary(self, texts: Mapping[str, Text], lexicon: Lexicon | None) -> Vocabulary:
        """The vocabulary of a file, or counted in the training text and in names."""
        section = self._settings.vocabulary
        if section.file:
            path = data_path(section.file, self._data.root)
            self.sources.append(path)
            return Vocabulary.load(path)
        counted = section.to_dict().get("count", "text")
        counts: Counter[str] = Counter()
        if counted != "names" and texts:
            longest = self._data.longest or None
            counts += count_words(line[:longest] for line in texts["train"].words)
        if lexicon is not None and (counted != "text" or not texts):
            counts += count_words(lexicon.names())
        return build_vocabulary(counts, section.size, section.least_count)

    # -- triples ---------------------------------------------------------------------------------------------------------

    def graph(self, texts: Mapping[str, Text]) -> Graph:
        """The graph, divided anew where that is asked for."""
        self._whole = graph = read_graph(self._data)
        self.sources += graph.sources
        if self._data.apart:
            held_out = {name: texts[name].subjects if name in texts else None for name in SPLITS}
            subjects = {name: ids for name, ids in held_out.items() if ids is not None}
            if set(subjects) != set(SPLITS):
                raise SettingsError(
                    "data.apart needs the entity ids of a validation and of a test text; give data.text_test_ids"
                )
            graph = apart_by_head(graph, subjects["valid"], subjects["test"])
        self.notes += graph.notes
        return graph

    def names(self, kind: str) -> dict[str, str]:
        """Names of entities or relations; empty where none are given."""
        file = getattr(self._data, f"{kind}_names")
        if not file:
            return {}
        path = data_path(file, self._data.root)
        self.sources.append(path)
        return read_names(path)

    def triples(self, graph: Graph, lexicon: Lexicon, vocabulary: Vocabulary) -> Triples:
        """Triples, and what false ones are made of."""
        section = self._settings.negatives
        making = Making(section.kind, section.fewest, section.most, section.both)
        train = Facts.of(graph.train)
        whole = self._whole or graph
        known = Facts.join([Facts.of(part) for part in (*whole.splits.values(), *graph.splits.values())])
        negatives = Negatives(train, known, lexicon.spelling, lexicon.relation_numbers(section.same_relation))
        if "train" in graph.negatives:
            train = Facts.join([train, Facts.of(graph.negatives["train"], False)])
        if lexicon.nameless:
            self.notes.append(f"names: {lexicon.nameless:,} of {len(lexicon.entities):,} entities have none; read by their ids")
        measured = self._measured(graph, whole, negatives)
        if "valid" not in graph.splits:
            raise DataError("the graph has no valid triples to choose the best state by; give data.valid, or data.valid_share")
        chosen_by = self._chosen_by(graph, negatives, making)
        tables = Tables(_rows(graph.train[:, [0, 2]], len(lexicon.entities)), _rows(graph.train[:, 1], len(lexicon.relations)))
        self.notes.append(f"triples: {', '.join(f'{name} {len(part):,}' for name, part in graph.splits.items())}")
        return Triples(graph, lexicon, lexicon.texts(vocabulary), train, measured, chosen_by, negatives, making, tables)

    def _chosen_by(self, graph: Graph, negatives: Negatives, making: Making) -> Facts:
        """Validation triples with false ones such as those of training: given ones, or of the same kind."""
        valid = Facts.of(graph.splits["valid"])
        random = np.random.default_rng([self._settings.negatives.measured_seed, 0xC4])
        most = self._settings.validation.triples
        if most and most < len(valid):
            valid = valid.select(np.sort(random.permutation(len(valid))[:most]))
        if "train" in graph.negatives and "valid" in graph.negatives:
            return Facts.join([valid, Facts.of(graph.negatives["valid"], False)])
        return negatives.with_true(valid, Making(making.kind, 2, 2, making.both), random)

    def _measured(self, graph: Graph, whole: Graph, negatives: Negatives) -> dict[str, dict[str, Facts]]:
        section, found = self._settings.negatives, dict[str, dict[str, Facts]]()
        for name in (s for s in SPLITS if s in graph.splits):
            true = Facts.of(graph.splits[name])
            found[name] = {}
            for number, kind in enumerate(section.measured):
                random = np.random.default_rng([section.measured_seed, number, SPLITS.index(name)])
                found[name][kind] = negatives.with_true(true, Making(kind, 2, 2), random)
            if name in graph.negatives:
                found[name][PUBLISHED] = Facts.join([true, Facts.of(graph.negatives[name], False)])
        if self._data.apart and "valid" in whole.negatives and "valid" in whole.splits:
            published = [Facts.of(whole.splits["valid"]), Facts.of(whole.negatives["valid"], False)]
            found["test"][PUBLISHED] = Facts.join(published)
        return found


def _rows(used: np.ndarray, count: int) -> np.ndarray:
    """A row for each number that is used, -1 for the others. *Shape:* (count,), int64."""
    rows = np.full(count, -1, dtype=np.int64)
    present = np.unique(used)
    rows[present] = np.arange(len(present))
    return rows


def about(inputs: Inputs) -> dict[str, Any]:
    """What the first line of a trace tells about inputs."""
    return {"vocabulary": {"ids": len(inputs.vocabulary), "digest": inputs.vocabulary.digest}, "notes": list(inputs.notes)}
