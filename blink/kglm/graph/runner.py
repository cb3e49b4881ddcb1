"""Runs of kind graph: train, evaluate, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.files import atomic_open
from blink.kglm.graph.answers import Answers, answers_of
from blink.kglm.graph.classification import Labelled, classify, fit_thresholds, sample_negatives
from blink.kglm.graph.export import write_export
from blink.kglm.graph.learner import GraphLearner, load_model
from blink.kglm.graph.model import GraphModel, make_model
from blink.kglm.graph.ranking import Ranks, RelationFrequency, rank, report, summary
from blink.kglm.graph.readers import read_graph
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
        graph = read_graph(run.settings.data)
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
        run, graph, model = open_run(folder)
        metrics = measure(run, graph, model, split, progress)
        run.add_metrics(split, metrics)
        return metrics

    def export(self, folder: Path, out: Path) -> dict[str, Any]:
        """Write the embeddings of the best checkpoint; see `blink.kglm.graph.export`."""
        run, graph, model = open_run(folder)
        return write_export(out, model, graph, run.settings)


def open_run(folder: Path) -> tuple[KglmRun[GraphSettings], Graph, GraphModel]:
    """Open a run, its graph and its best checkpoint.

    Raises:
        SettingsError: the run is of another kind.
        MissingFileError, MismatchError, DataError: it has no best checkpoint, or files of its graph are missing or changed.
    """
    run = KglmRun.open(folder).of(GraphSettings)
    graph = read_graph(run.settings.data)
    model = make_model(run.settings, len(graph.entities), len(graph.relations))
    load_model(model, run, graph)
    return run, graph, model.to(device_for(run.settings)).eval()


def measure(
    run: KglmRun[GraphSections], graph: Graph, model: GraphModel, split: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Rank a split and, for test, classify its triples; writes all ranks to ``ranks-SPLIT.tsv``."""
    triples = graph.split(split)
    ranks = _ranks(model, run.settings, graph, split, progress or Progress())
    with atomic_open(run.path / f"ranks-{split}.tsv") as f:
        f.writelines(_rank_lines(ranks, triples, graph))
    metrics: dict[str, Any] = {"ranking": report(ranks, graph), "relation_frequency": _baseline(run.settings, graph, split)}
    if split == "test" and "valid" in graph.splits:
        metrics["classification"] = classification(model, graph, run.settings.data.split_seed)
    return metrics


def known_answers(graph: Graph, split: str) -> Answers:
    """True answers to filter when a split is ranked: those of all splits up to it."""
    names = list(graph.splits)[: list(graph.splits).index(split) + 1]
    return answers_of([torch.from_numpy(graph.splits[n]) for n in names], len(graph.entities), len(graph.relations))


def _ranks(model: GraphModel, settings: GraphSections, graph: Graph, split: str, progress: Progress) -> Ranks:
    triples = torch.from_numpy(graph.split(split)).to(model.device)
    progress.start(-(-2 * len(triples) // settings.eval.batch_size), 0)
    answers = known_answers(graph, split).to(model.device)
    sizes = settings.eval.to_dict()
    return rank(model.exact(), triples, answers, len(graph.entities), **sizes, progress=lambda done: progress.step({}))


def _baseline(settings: GraphSections, graph: Graph, split: str) -> dict[str, float | int]:
    """Ranking metrics of `RelationFrequency`."""
    scorer = RelationFrequency(torch.from_numpy(graph.train), len(graph.entities))
    answers, triples = known_answers(graph, split), torch.from_numpy(graph.split(split))
    ranks = rank(scorer, triples, answers, len(graph.entities), **settings.eval.to_dict())
    return summary(ranks.realistic)


def _rank_lines(ranks: Ranks, triples: np.ndarray, graph: Graph) -> Iterator[str]:
    yield "head\trelation\ttail\tasked\trank\toptimistic\tequal\n"
    columns = (ranks.realistic.tolist(), ranks.optimistic.tolist(), ranks.equal.tolist())
    for i, (realistic, optimistic, equal) in enumerate(zip(*columns, strict=True)):
        head, relation, tail = triples[i % len(triples)]
        names = f"{graph.entities[head]}\t{graph.relations[relation]}\t{graph.entities[tail]}"
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
