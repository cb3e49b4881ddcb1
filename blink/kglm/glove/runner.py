"""Runs of kind glove: train, evaluate, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blink.data.arrays import save_array
from blink.errors import MismatchError, SettingsError
from blink.files import atomic_open
from blink.kglm.glove.inputs import Words, aligned, read_text
from blink.kglm.glove.joint import JointLearner
from blink.kglm.glove.learner import HELD_OUT, PREFIX, WordLearner, epoch_losses
from blink.kglm.glove.model import GloVe, Table, Weighting
from blink.kglm.graph.export import summary, write_embeddings
from blink.kglm.graph.learner import GraphLearner
from blink.kglm.graph.model import GraphModel, make_model
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.runner import measure, measure_file
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.vocabulary import VOCABULARY_FILE, Vocabulary
from blink.kglm.run import KglmRun, device_for, read_best, run_to_end
from blink.kglm.settings import GloveSettings, Settings
from blink.kglm.text_init.vectors import exporting, write_meta
from blink.runs.loop import Loop
from blink.runs.progress import Progress

WORD_VECTORS = "word_vectors.txt"
MAP_FILE = "word_map.npy"


class GloveRunner:
    """Runs of kind glove; see `blink.kglm.kinds.Runner`. ``joint.alpha`` determines the tasks: words, a graph, or both."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train to the end; ``metrics.json`` then has the best validation and the cost under ``train``."""
        progress, run = progress or Progress(), KglmRun(folder, GloveSettings.of(settings))
        if not resume:
            run.require_free()
        graph = read_graph(run.settings.data, progress.bars) if run.settings.joint.alpha > 0 else None
        words = read_text(run.settings, progress.bars) if run.settings.joint.alpha < 1 else None
        sources = [*(graph.sources if graph else ()), *(words.sources if words else ())]
        about = _about(graph, words)
        learner, notes = _learner(graph, words, run)
        for note in notes:
            progress.say(note)
        loop = Loop(learner, run, run.about(sources, about), progress=progress)
        metrics = {**run_to_end(loop, resume=resume), **about, "seed": settings.seed, "settings": settings.digest()}
        if graph is None:
            metrics |= epoch_losses(run)
        if isinstance(learner, JointLearner):
            metrics["alignment"] = learner.alignment.report()
        run.add_metrics("train", metrics)
        return metrics

    def evaluate(self, folder: Path, split: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Rank a split and classify its triples if there is a graph; compute the loss on held-out pairs for valid.

        Raises:
            SettingsError: a run without a graph has no test split.
        """
        run = KglmRun.open(folder).of(GloveSettings)
        graph, model = best_graph(run, progress)
        metrics: dict[str, Any] = {}
        if graph is not None and model is not None:
            metrics |= measure(run, graph, model, split, progress)
        elif split != "valid":
            raise SettingsError(f"{folder} is of words alone, which have held-out pairs but no {split}; give --split valid")
        if run.settings.joint.alpha < 1 and split == "valid":
            metrics[HELD_OUT] = _held_out_loss(run, progress or Progress())
        run.add_metrics(split, metrics)
        return metrics

    def evaluate_file(self, folder: Path, file: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Rank the triples of a file.

        Raises:
            SettingsError: the run has no graph.
        """
        run = KglmRun.open(folder).of(GloveSettings)
        graph, model = best_graph(run, progress)
        if graph is None or model is None:
            raise SettingsError(f"{folder} is of words alone, which no file can measure; give --split valid")
        return measure_file(run.settings, graph, model, file, progress)

    def export(self, folder: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Write the embeddings of the best checkpoint: entities and relations, and words in the format of GloVe's program."""
        run = KglmRun.open(folder).of(GloveSettings)
        graph, model = best_graph(run, progress)
        with exporting(out) as work:
            written, meta = {}, {"settings": run.settings.digest()}
            if graph is not None and model is not None:
                meta = write_embeddings(work, model, graph, run.settings)
                written = summary(meta)
            if run.settings.joint.alpha < 1:
                words = _write_words(work, run)
                meta |= {"kind": "glove", **words}
                written |= {key: words[key] for key in ("words", "word_dim")}
            write_meta(work, meta)
        return written


def write_word_vectors(path: Path, words: Sequence[str], vectors: np.ndarray) -> None:
    """Write word vectors in the format of GloVe's program, ``word value value ...`` lines. *Shape:* (n, width)."""
    with atomic_open(path) as f:
        for word, vector in zip(words, vectors.tolist(), strict=True):
            f.write(f"{word} {' '.join(f'{number:.6g}' for number in vector)}\n")


def _about(graph: Graph | None, words: Words | None) -> dict[str, Any]:
    of_graph = {} if graph is None else {
        "graph": graph.digest, "entities": len(graph.entities), "relations": len(graph.relations),
    }  # fmt: skip
    return {**of_graph, **({} if words is None else words.about())}


def _learner(
    graph: Graph | None, words: Words | None, run: KglmRun[GloveSettings]
) -> tuple[GraphLearner | WordLearner, list[str]]:
    """The learner for the inputs, and messages for the user."""
    notes = [*(words.notes if words else ()), *(graph.notes if graph else ())]
    if graph is None:
        assert words is not None
        return WordLearner(words, run), notes
    if words is None:
        alone = GraphLearner(graph, run)
        return alone, [note for note in (*notes, alone.start_note) if note]
    alignment = aligned(run.settings, graph, words)
    learner = JointLearner(graph, words, alignment, run)
    counts = ", ".join(f"{name} {value}" for name, value in alignment.report().items())
    tied = f"; {len(learner.tied):,} share a row with a word" if learner.tied is not None else ""
    return learner, [note for note in (*notes, learner.start_note, f"entities with words: {counts}{tied}") if note]


def best_graph(run: KglmRun[GloveSettings], progress: Progress | None = None) -> tuple[Graph | None, GraphModel | None]:
    """The graph and its best checkpoint; None for a run without a graph.

    Raises:
        MissingFileError, MismatchError, DataError: there is no best checkpoint, or files of the graph are missing or changed.
    """
    if run.settings.joint.alpha == 0:
        return None, None
    graph = read_graph(run.settings.data, (progress or Progress()).bars)
    model = make_model(run.settings, len(graph.entities), len(graph.relations))
    tensors = read_best(run.best, graph.digest)
    graph_state = model.state_dict()
    model.load_state_dict({name: value for name, value in tensors.items() if name in graph_state})
    return graph, model.to(device_for(run.settings)).eval()


def _word_rows(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Word and context embeddings of a checkpoint, with shared rows from the entity table. *Shapes:* (n, width) both."""
    words, contexts = tensors[f"{PREFIX}words.weight"], tensors[f"{PREFIX}contexts.weight"]
    if f"{PREFIX}words.place" not in tensors:
        return words, contexts
    rows_in_table, alone = tensors[f"{PREFIX}words.place"], tensors[f"{PREFIX}words.alone"]
    rows = torch.empty_like(contexts)
    rows[alone], rows[~alone] = words[rows_in_table[alone]], tensors["entity_tables.0"][rows_in_table[~alone]]
    return rows, contexts


def _held_out_loss(run: KglmRun[GloveSettings], progress: Progress) -> float:
    """Loss of the best checkpoint on held-out pairs, or on all pairs if none are held out.

    Raises:
        MismatchError: the text is not the text of the run.
    """
    settings, words = run.settings, read_text(run.settings, progress.bars)
    if words.vocabulary.digest != Vocabulary.load(run.path / VOCABULARY_FILE).digest:
        raise MismatchError(f"{run.path} was trained on another text; bring its files back, or train again")
    tensors = read_best(run.best)
    model = GloVe(len(words.vocabulary.words), settings.words.dim, Weighting(settings.words.x_max, settings.words.power))
    rows = dict(zip(("words", "contexts"), _word_rows(tensors), strict=True))
    rows |= {name: tensors[f"{PREFIX}{name}.weight"] for name in ("word_bias", "context_bias")}
    for name, table in rows.items():
        setattr(model, name, Table(table))
    return model.mean_loss(words.held_out if len(words.held_out) else words.fitted)


def _write_words(work: Path, run: KglmRun[GloveSettings]) -> dict[str, Any]:
    """Write the word vectors, and the learned map from entities to words, if any; returns what ``meta.json`` says of them."""
    tensors = read_best(run.best)
    words, contexts = _word_rows(tensors)
    vocabulary = Vocabulary.load(run.path / VOCABULARY_FILE)
    write_word_vectors(work / WORD_VECTORS, vocabulary.words, (words + contexts).numpy())
    about = {"words": len(words), "word_dim": int(words.shape[1]), "word_vectors": WORD_VECTORS}
    if "coupling.map" in tensors:
        save_array(work / MAP_FILE, tensors["coupling.map"].numpy())
        about["word_map"] = MAP_FILE
    return about
