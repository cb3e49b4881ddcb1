"""Runs of kind graph: train, evaluate, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.cells import safe_cell
from blink.files import atomic_open
from blink.kglm.graph.answers import Answers, answers_of
from blink.kglm.graph.classification import Labelled, classify, fit_thresholds, sample_negatives
from blink.kglm.graph.export import write_export
from blink.kglm.graph.layouts import Layout
from blink.kglm.graph.learner import GraphLearner, load_model, ranking_options
from blink.kglm.graph.model import GraphModel, make_model
from blink.kglm.graph.ranking import Ranks, RelationFrequency, rank, report, summary
from blink.kglm.graph.readers import read_graph, read_split
from blink.kglm.graph.triples import Graph
from blink.kglm.run import KglmRun, device_for, run_to_end
from blink.kglm.settings import GraphSections, GraphSettings, Settings
from blink.runs.loop import Loop
from blink.runs.progress import Progress

SCORING_BATCH = 4096


class GraphRunner:
    """Runs of kind graph; see `blink.kglm.kinds.Runner`."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train to the end; ``metrics.json`` then has the best validation and the cost under ``train``."""
        progress, run = progress or Progress(), KglmRun(folder, GraphSettings.of(settings))
        if not resume:
            run.require_free()
        graph = read_graph(run.settings.data, progress.bars)
        about = {"graph": graph.digest, "entities": len(graph.entities), "relations": len(graph.relations)}
        learner = GraphLearner(graph, run)
        for note in (*graph.notes, learner.start_note):
            if note:
                progress.say(note)
        loop = Loop(learner, run, run.about(graph.sources, about), progress=progress)
        metrics = {**run_to_end(loop, resume=resume), **about, "seed": settings.seed, "settings": settings.digest()}
        run.add_metrics("train", metrics)
        return metrics

    def evaluate(self, folder: Path, split: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Rank a split and, for test, classify its triples; also writes all ranks to ``ranks-SPLIT.tsv``."""
        run, graph, model = open_run(folder, progress)
        metrics = measure(run, graph, model, split, progress)
        run.add_metrics(split, metrics)
        return metrics

    def evaluate_file(self, folder: Path, file: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Rank the triples of a file; see `measure_file`."""
        run, graph, model = open_run(folder, progress)
        return measure_file(run.settings, graph, model, file, progress)

    def export(self, folder: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Write the embeddings of the best checkpoint; see `blink.kglm.graph.export`."""
        run, graph, model = open_run(folder, progress)
        return write_export(out, model, graph, run.settings)


def open_run(folder: Path, progress: Progress | None = None) -> tuple[KglmRun[GraphSettings], Graph, GraphModel]:
    """Open a run, its graph and its best checkpoint.

    Raises:
        SettingsError: the run is of another kind.
        MissingFileError, MismatchError, DataError: it has no best checkpoint, or files of its graph are missing or changed.
    """
    run = KglmRun.open(folder).of(GraphSettings)
    graph = read_graph(run.settings.data, (progress or Progress()).bars)
    model = make_model(run.settings, len(graph.entities), len(graph.relations))
    load_model(model, run, graph)
    return run, graph, model.to(device_for(run.settings)).eval()


def measure(
    run: KglmRun[GraphSections], graph: Graph, model: GraphModel, split: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Rank a split and, for test, classify its triples; writes all ranks to ``ranks-SPLIT.tsv``."""
    progress, settings = progress or Progress(), run.settings
    triples = sampled_triples(graph.split(split), settings)
    ranks, metrics = ranking(settings, graph, model, triples, known_answers(graph, split), progress)
    with atomic_open(run.path / f"ranks-{split}.tsv") as f:
        f.writelines(_rank_lines(ranks, triples, graph))
    if split == "test" and "valid" in graph.splits:
        with progress.bars("classifying", None, "triple"):
            metrics["classification"] = classification(model, graph, settings.data.split_seed)
    return metrics


def measure_file(
    settings: GraphSections, graph: Graph, model: GraphModel, file: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Rank the triples of a file; true answers of all splits and of the file are filtered.

    Raises:
        MissingFileError, DataError: the file is missing or malformed, or has entities or relations that the graph lacks.
    """
    given = read_split(file, graph, Layout.of(settings.data))
    splits = [torch.from_numpy(triples) for triples in (*graph.splits.values(), given)]
    answers = answers_of(splits, len(graph.entities), len(graph.relations))
    return ranking(settings, graph, model, sampled_triples(given, settings), answers, progress or Progress())[1]


def sampled_triples(triples: np.ndarray, settings: GraphSections) -> np.ndarray:
    """The triples to rank: all, or a seeded sample of ``eval.triples``. *Shapes:* (n, 3) and (m, 3)."""
    size = settings.eval.triples
    if not 0 < size < len(triples):
        return triples
    return triples[np.sort(np.random.default_rng([settings.seed, 0xE7]).permutation(len(triples))[:size])]


def known_answers(graph: Graph, split: str) -> Answers:
    """True answers to filter when a split is ranked: those of all splits up to it."""
    names = list(graph.splits)[: list(graph.splits).index(split) + 1]
    return answers_of([torch.from_numpy(graph.splits[n]) for n in names], len(graph.entities), len(graph.relations))


def ranking(
    settings: GraphSections, graph: Graph, model: GraphModel, triples: np.ndarray, answers: Answers, progress: Progress
) -> tuple[Ranks, dict[str, Any]]:
    """Ranks of triples, and their metrics with those of the baseline `RelationFrequency`.

    Args:
        settings: of the run.
        graph: its graph.
        model: its model.
        triples: what to rank. *Shape:* (n, 3).
        answers: true answers, which are filtered.
        progress: hooks.
    """
    options, n = ranking_options(settings, len(graph.entities), model.device), len(graph.entities)
    if (candidates := options["candidates"]) is not None:
        progress.say(f"ranks are among {len(candidates):,} sampled entities of {n:,}, so figures are higher than among all")
    given = torch.from_numpy(triples)
    with progress.bars("ranking", 2 * len(given), "query") as stage:
        ranks = rank(model.exact(), given.to(model.device), answers.to(model.device), n, **options, progress=stage.advance)
    baseline = RelationFrequency(torch.from_numpy(graph.train), n)
    options["candidates"] = None if candidates is None else candidates.cpu()
    with progress.bars("ranking by frequency", 2 * len(given), "query") as stage:
        frequency = rank(baseline, given, answers, n, **options, progress=stage.advance)
    sampled = {} if candidates is None else {"candidates": len(candidates)}
    return ranks, {
        "ranking": {**report(ranks, graph), **sampled},
        "relation_frequency": {**summary(frequency.realistic), **sampled},
    }


def _rank_lines(ranks: Ranks, triples: np.ndarray, graph: Graph) -> Iterator[str]:
    yield "head\trelation\ttail\tasked\trank\toptimistic\tequal\n"
    columns = (ranks.realistic.tolist(), ranks.optimistic.tolist(), ranks.equal.tolist())
    for i, (realistic, optimistic, equal) in enumerate(zip(*columns, strict=True)):
        head, relation, tail = triples[i % len(triples)]
        names = "\t".join(map(safe_cell, (graph.entities[head], graph.relations[relation], graph.entities[tail])))
        yield f"{names}\t{'head' if i >= len(triples) else 'tail'}\t{realistic:g}\t{optimistic}\t{equal}\n"


# -- classification ------------------------------------------------------------------------------------------------------


def classification(model: GraphModel, graph: Graph, seed: int) -> dict[str, Any]:
    """Triple classification of the test triples, with thresholds fitted on validation triples of the same kind.

    Negatives are those of the dataset (``hard``), or sampled: any other tail (``uniform``), or another tail of the relation
    (``same_relation``).
    """
    true_triples = np.concatenate(list(graph.splits.values()))
    result = {}
    for sort in ("hard", "uniform", "same_relation"):
        labelled = {}
        for split in ("valid", "test"):
            if sort == "hard":
                false = graph.negatives.get(split)
            else:
                false = sample_negatives(
                    graph.splits[split], true_triples, len(graph.entities), seed, same_relation=sort != "uniform"
                )
            if false is not None and len(false):
                labelled[split] = _labelled(model, graph.splits[split], false)
        if len(labelled) == 2:
            result[sort] = classify(labelled["test"], fit_thresholds(labelled["valid"]), graph.relations)
    return result


def _labelled(model: GraphModel, true: np.ndarray, false: np.ndarray) -> Labelled:
    triples = np.concatenate([true, false])
    return Labelled(triple_scores(model, triples), triples[:, 1], np.arange(len(triples)) < len(true))


@torch.no_grad()
def triple_scores(model: GraphModel, triples: np.ndarray) -> np.ndarray:
    """Scores of triples, as tail queries. *Shapes:* (n, 3) and (n,), float64."""
    exact = model.exact()
    chunks = torch.from_numpy(triples).to(model.device).split(SCORING_BATCH)
    return torch.cat([exact.score_hrt(*chunk.unbind(1)) for chunk in chunks]).cpu().numpy()
