"""Read the inputs of a run: vocabulary, co-occurrence counts, and the alignment of words and entities."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import DataError, SettingsError
from blink.kglm.config import data_path
from blink.kglm.glove.alignment import Alignment, align, link_word, mark_lines
from blink.kglm.glove.counts import Counts, count_pairs, hold_out
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.corpus import encode, read_words
from blink.kglm.lm.splits import read_subjects
from blink.kglm.lm.triples import read_names
from blink.kglm.lm.vocabulary import Vocabulary, build_vocabulary, count_words
from blink.kglm.settings import GloveData, GloveSettings
from blink.kglm.text_init.tables import ENTITY_COLUMNS, TextRow, first_columns, read_entities
from blink.progress import Bars, no_bars


@dataclass(frozen=True)
class Words:
    """The text of a run.

    Attributes:
        vocabulary: the vocabulary.
        fitted: training counts.
        held_out: held-out counts.
        marked: whether entity tokens were inserted into the text.
        notes: messages about the data, one line each.
        sources: files that were read.
    """

    vocabulary: Vocabulary
    fitted: Counts
    held_out: Counts
    marked: bool
    notes: tuple[str, ...]
    sources: tuple[Path, ...]

    def about(self) -> dict[str, Any]:
        """Sizes and hashes for the trace."""
        sizes = {"words": len(self.vocabulary.words), "pairs": len(self.fitted), "held_out_pairs": len(self.held_out)}
        return {**sizes, "vocabulary": self.vocabulary.digest, "counts": self.fitted.digest()}


def read_text(settings: GloveSettings, bars: Bars = no_bars) -> Words:
    """Read the text of the settings and count its pairs.

    Raises:
        SettingsError: ``data.text`` is not set.
        MissingFileError, DataError, MismatchError: a file is missing, empty or malformed.
    """
    data = settings.data
    if not data.text:
        raise SettingsError("data.text is not set; give a text file, or --joint.alpha 1 for the graph alone")
    path = data_path(data.text, data.root)
    lines, sources = read_words(path), [path] if path.is_file() else sorted(path.glob("*.sm"))
    ids = _subjects_file(path, data)
    marked: set[str] = set()
    if ids is not None:
        subjects = read_subjects(ids, len(lines))
        lines = mark_lines(lines, subjects, {row.id: row.name for row in read_named(settings)})
        marked, sources = {link_word(entity) for entity in subjects if entity}, [*sources, ids]
    if data.text_words:
        lines = _first_words(lines, data.text_words)
    vocabulary = _vocabulary(settings, count_words(lines), marked)
    corpus = encode(lines, vocabulary)
    with bars("counting pairs", corpus.words - corpus.unknown_words, "word") as progress:
        counts = count_pairs(corpus, settings.counts.window, progress.advance)
    fitted, held_out = hold_out(counts, settings.counts.held_out, settings.seed)
    if not len(fitted):
        raise DataError(
            f"counts.held_out {settings.counts.held_out} leaves no pair to train on; give more text, or set it to 0"
        )
    unknown = corpus.unknown_words / max(corpus.words, 1)
    notes = [
        f"text: {len(corpus):,} lines, {corpus.words:,} words, {unknown:.2%} of them not in the vocabulary",
        f"{len(vocabulary.words):,} words, {len(fitted):,} pairs, {len(held_out):,} held-out pairs",
    ]
    return Words(vocabulary, fitted, held_out, bool(marked), tuple(notes), tuple(sources))


def _subjects_file(text: Path, data: GloveData) -> Path | None:
    if data.text_ids == "auto":
        ids_file = text.with_suffix(".ids")
        return ids_file if text.is_file() and ids_file.is_file() else None
    return data_path(data.text_ids, data.root) if data.text_ids else None


def _first_words(lines: list[list[str]], most: int) -> list[list[str]]:
    """Truncate a text to its first ``most`` words."""
    selected: list[list[str]] = []
    for line in lines:
        if most <= 0:
            break
        selected.append(line[:most])
        most -= len(line)
    return selected


def _vocabulary(settings: GloveSettings, counts: Counter[str], marked: set[str]) -> Vocabulary:
    """The most frequent words and all entity tokens."""
    if settings.vocabulary.file:
        return Vocabulary.load(data_path(settings.vocabulary.file, settings.data.root))
    plain = Counter({word: count for word, count in counts.items() if word not in marked})
    frequent = build_vocabulary(plain, settings.vocabulary.size, settings.vocabulary.least_count)
    tokens = sorted((word for word in counts if word in marked), key=lambda word: (-counts[word], word))
    return Vocabulary((*frequent.words, *tokens), (*frequent.counts, *(counts[word] for word in tokens)))


def read_named(settings: GloveSettings) -> list[TextRow]:
    """Titles and aliases of entities, also of entities that are not in the graph; empty without ``data.entity_names``.

    Raises:
        MissingFileError, DataError: the file is missing or malformed.
    """
    if not settings.data.entity_names:
        return []
    path = data_path(settings.data.entity_names, settings.data.root)
    if path.suffix == ".jsonl" or set(ENTITY_COLUMNS) <= set(first_columns(path)):
        return read_entities(path)
    return [TextRow(i, entity, name) for i, (entity, name) in enumerate(read_names(path).items(), 1)]


def aligned(settings: GloveSettings, graph: Graph, words: Words) -> Alignment:
    """Align the entities of the graph with words; popularity is the number of training triples of an entity.

    Raises:
        SettingsError, DataError: see `align`.
    """
    degrees = dict(zip(graph.entities, graph.degrees.tolist(), strict=True))
    return align(graph.entities, words.vocabulary, read_named(settings), degrees, settings.joint.ways)
