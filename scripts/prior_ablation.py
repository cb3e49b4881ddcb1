"""Measures the gain from a knowledge graph's prior: popularity, KG-LM vectors, coherence, and controls.

Gold mentions are given to the linker, so that entities alone are in question, and counted where they are ambiguous: the
mention is a name of several entities of the knowledge base, the right one among them. Two kinds of scores are tried: the
bi-encoder's own (text only) and the reranker's, which knows names and popularity already.

Questions of WebQSP train are read by models that were not trained on them (--fold). They are cut into five parts; for each,
projections are learned on three others and the weights of the terms fitted on the fourth. For the other files, projections are
learned on all of them and weights fitted on WebQSP dev, as `blink kglm tune-prior` does. Every arm has the same candidates.
Differences are paired: questions are drawn 10,000 times (paraphrases together), hits averaged over the seeds.

Then whole texts, mentions found by the model: cut-offs of every arm, text alone included, are selected on WebQSP dev.

    python scripts/prior_ablation.py --kb experiments/starter/kb \\
        --fold experiments/starter/half-0 --fold experiments/starter/half-1 \\
        --prior kglm=FILE --prior graph=FILE --prior description=FILE --prior signature=FILE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import bar, say
from blink.data.mention_files import labelled_samples
from blink.data.prior_file import PriorTable, PriorWeights, read_prior
from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.bootstrap import cluster_sums, middle, resample, two_sided_p
from blink.evaluation.counts import group_of
from blink.evaluation.sweep import curve
from blink.files import read_json, sample_hash, sha256
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.coherence import PriorStages
from blink.linking.graph_prior import EntityAlignment
from blink.linking.linker import Linker
from blink.model.loading import load_model
from blink.runs.provenance import git_revision
from blink.training.fit.graph_prior import (
    DevPredictions,
    LabelledText,
    fit_coherence,
    fit_weights,
    learn_vectors,
    read_labelled,
    select_cutoff,
)
from blink.training.fit.reranker_texts import out_of_fold_models
from blink.training.settings import Fold, PriorTuneSettings
from scripts.harness import ROOT, as_help, data_option, parse_seeds, run_script, write_results
from scripts.prior_ablation_page import ARMS, FILES, SCORES, Arm, table_of

N_FOLDS = 5
DRAWS = 10_000


@dataclass(frozen=True)
class Mentions:
    """Gold mentions of texts, read with given bounds.

    Attributes:
        texts: as read.
        clusters: resampling unit of each text.
        groups: masks over all mentions, by name: ``ambiguous`` and its parts. *Shapes:* (mentions,), bool.
    """

    texts: Sequence[LabelledText]
    samples: Sequence[Sample]
    clusters: Sequence[str]
    groups: Mapping[str, np.ndarray]

    def hits(self, prior: PriorStages | None, texts: Sequence[int] | None = None) -> np.ndarray:
        """Which mentions get the right entity. *Shape:* (mentions,), bool; of some texts only, where they are named."""
        selection = self.texts if texts is None else [self.texts[i] for i in texts]
        hits = []
        for text in selection:
            spans = text.spans if prior is None else prior.rescore(text.spans, text.mention_vectors)
            hits.append((spans.rows[:, 0] == text.gold) & (text.gold >= 0))
        return np.concatenate(hits) if hits else np.zeros(0, bool)


@dataclass(frozen=True)
class Bench:
    """All that is measured on, for one kind of scores."""

    ranked: bool
    gold_mentions: Mapping[str, Mentions]
    training: Sequence[LabelledText]
    dev: Sequence[LabelledText]
    tables: Mapping[str, PriorTable]
    joined: EntityAlignment
    fitted: dict[Any, tuple[PriorTable, PriorWeights]] = field(default_factory=dict)

    def table(self, arm: Arm, seed: int) -> PriorTable:
        """The table of an arm."""
        table = self.tables[arm.table]
        if not arm.shuffled or table.vectors is None:
            return table
        return replace(table, vectors=table.vectors[np.random.default_rng(seed).permutation(len(table))])

    def weights(
        self, arm: Arm, seed: int, learned_on: Sequence[LabelledText], fitted_on: Sequence[LabelledText]
    ) -> PriorStages | None:
        """The prior of an arm with fitted weights; None for the arm without one."""
        if not arm.terms:
            return None
        # What arms share is made once: coherence comes on top of the same vectors.
        key = (arm.terms, arm.table, arm.shuffled, seed if "vector" in arm.terms else 0, id(learned_on), id(fitted_on))
        if key not in self.fitted:
            self.fitted[key] = self._without_coherence(arm, seed, learned_on, fitted_on)
        table, weights = self.fitted[key]
        if arm.relatedness:
            weights = fit_coherence(fitted_on, table, weights, [arm.relatedness])
        return PriorStages.from_prior(table, weights, self.joined)

    def _without_coherence(
        self, arm: Arm, seed: int, learned_on: Sequence[LabelledText], fitted_on: Sequence[LabelledText]
    ) -> tuple[PriorTable, PriorWeights]:
        table, weights = self.table(arm, seed), PriorWeights("", self.ranked)
        if "vector" in arm.terms:
            weights = learn_vectors(learned_on, table, PriorTuneSettings(seed=seed), weights)
        return table, fit_weights(fitted_on, table, weights, arm.terms)

    @cached_property
    def folds(self) -> list[tuple[list[int], list[LabelledText], list[LabelledText]]]:
        """Of WebQSP train, for each part: its texts, and what projections are learned and weights fitted on."""
        samples = self.gold_mentions["train"].samples
        groups = [[i for i, s in enumerate(samples) if s.id in Fold(number, N_FOLDS)] for number in range(N_FOLDS)]
        folds = []
        for number, tested in enumerate(groups):
            fitted = groups[(number + 1) % N_FOLDS]
            learned = [i for other in groups for i in other if other is not tested and other is not fitted]
            folds.append((tested, [self.training[i] for i in learned], [self.training[i] for i in fitted]))
        return folds


@click.command(help=as_help(__doc__))
@data_option()
@click.option("--model", default="models/starter", show_default=True, metavar="DIR", help="Model with a reranker.")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base.")
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="RUN",
    help="Run of blink train --leave-out; give all. Without: the model was not trained on them.",
)
@click.option(
    "--prior", "priors", multiple=True, required=True, metavar="NAME=FILE", help="kglm=, graph=, description=, signature=."
)
@click.option("--seeds", default="0,1,2", show_default=True, metavar="LIST", help="Of projections and shuffling.")
@click.option("--out", default="benchmarks/results/prior", show_default=True, metavar="STEM", help="STEM.md and STEM.json.")
def ablation(data: str, model: str, kb: str, folds: tuple[str, ...], priors: tuple[str, ...], seeds: str, out: str) -> None:
    """Measure all arms, and write the table."""
    files = dict(item.split("=", 1) for item in priors if "=" in item)
    missing = sorted({arm.table for arm in ARMS} - set(files))
    if missing or len(files) != len(priors):
        raise SettingsError(
            f"--prior lacks {missing or 'a name'}; give NAME=FILE for each of kglm, graph, description, signature"
        )
    tables = {name: read_prior(file).table for name, file in files.items()}
    if any(table.ids != tables["kglm"].ids for table in tables.values()):
        raise SettingsError("the priors are of several graphs; make all with the same --graph, so that only vectors differ")
    base, numbers = KnowledgeBase.open(kb), parse_seeds(seeds)
    joined = EntityAlignment(tables["kglm"], base.catalogue)
    samples = {name: labelled_samples(str(Path(data) / file), base.catalogue) for name, file in FILES.items()}
    results = _resumed(Path(f"{out}.json"), _provenance(data, model, kb, folds, files, numbers))
    kinds = SCORES if load_model(model).reranker else ("text",)
    for scores in kinds:
        if scores in results["scores"]:
            say(f"{SCORES[scores]}: measured already")
            continue
        bench, linker, graph = _bench(model, base, folds, samples, tables, joined, scores == "ranker")
        texts = _whole_texts(linker, samples, bench, {"dev": bench.dev, "graph": graph})
        results["scores"][scores] = {"mentions": _measure(bench, numbers), "texts": texts}
        results["groups"] = {name: {g: int(m.sum()) for g, m in of.groups.items()} for name, of in bench.gold_mentions.items()}
        write_results(Path(out), results, table_of(results))
    say(f"wrote {out}.md and {out}.json")


def _resumed(file: Path, provenance: dict[str, Any]) -> dict[str, Any]:
    """What a run that was killed has measured of the same inputs, with the same code; else nothing yet."""
    results: dict[str, Any] = read_json(file) if file.is_file() else {}
    same = results.get("made") == provenance and provenance["git"] is not None and "+" not in provenance["git"]
    return results if same and results["scores"].keys() != SCORES.keys() else {"made": provenance, "scores": {}}


def _provenance(
    data: str, model: str, kb: str, folds: Sequence[str], priors: Mapping[str, str], seeds: Sequence[int]
) -> dict[str, Any]:
    return {
        "git": git_revision(ROOT),
        "data": {name: sha256(Path(data) / file) for name, file in FILES.items()},
        "model": sha256(Path(model) / "adapters.safetensors"),
        "kb": sample_hash(Path(kb) / "vectors.npy"),
        "folds": [Path(fold).name for fold in folds],
        "priors": {name: {"sha256": sha256(file), **read_prior(file).table.about} for name, file in priors.items()},
        "seeds": list(seeds),
    }


# --- scoring ------------------------------------------------------------------------------------------------------------


def _bench(
    model: str,
    kb: KnowledgeBase,
    folds: Sequence[str],
    samples: Mapping[str, Sequence[Sample]],
    tables: Mapping[str, PriorTable],
    joined: EntityAlignment,
    ranked: bool,
) -> tuple[Bench, Linker, list[LabelledText]]:
    """Read everything once, with gold mentions given and with those that models propose; and the linker, and GraphQuestions."""
    whole = load_model(model)
    main = Linker(whole, kb, rank=ranked)
    readers: list[tuple[Linker, Fold | None]] = []
    for folder, fold in out_of_fold_models(folds):
        half = load_model(folder)
        half.reranker = whole.reranker
        readers.append((Linker(half, kb, rank=ranked), fold))

    def read(linker: Linker, texts: Sequence[Sample], gold: bool) -> list[LabelledText]:
        with bar("scoring", len(texts), "text") as progress:
            return read_labelled(linker, texts, joined, gold_spans=gold, progress=progress.advance)

    readers = readers or [(main, None)]
    folds_read = [(linker, [s for s in samples["train"] if fold is None or s.id in fold]) for linker, fold in readers]
    short = {name: of for name, of in samples.items() if name != "train"}
    degrees = tables["kglm"].degrees
    of_parts = [s for _, of in folds_read for s in of], [t for p in folds_read for t in read(*p, True)]
    gold_mentions = {"train": _mentions(*of_parts, kb, joined, degrees)}
    gold_mentions |= {name: _mentions(of, read(main, of, True), kb, joined, degrees) for name, of in short.items()}
    training = [text for fold_read in folds_read for text in read(*fold_read, False)]
    bench = Bench(ranked, gold_mentions, training, read(main, short["dev"], False), tables, joined)
    return bench, main, read(main, short["graph"], False)


def _mentions(
    samples: Sequence[Sample], texts: Sequence[LabelledText], kb: KnowledgeBase, joined: EntityAlignment, degrees_of: np.ndarray
) -> Mentions:
    """Gold mentions with the groups they belong to."""
    forms = kb.alias_table
    assert forms is not None
    marks = []
    for sample, text in zip(samples, texts, strict=True):
        for mention, gold in zip(sample.mentions or (), text.gold.tolist(), strict=True):
            named = [match.row for match in forms.lookup(sample.text[mention.start : mention.end])]
            marks.append((gold, gold in named and len(named) > 1, len(text.gold) > 1))
    gold = np.array([mark[0] for mark in marks], dtype=np.int64)
    ambiguous, several = (np.array([mark[i] for mark in marks], dtype=bool) for i in (1, 2))
    rows = joined[gold]
    degrees = np.where(rows >= 0, degrees_of[rows], 0)
    groups = {"ambiguous": ambiguous, "several mentions": ambiguous & several, "one mention": ambiguous & ~several}
    groups |= {"gold in the graph": ambiguous & (degrees > 0), "gold not in the graph": ambiguous & (degrees <= 0)}
    low, high = np.quantile(degrees[ambiguous], [1 / 3, 2 / 3]) if ambiguous.any() else (0, 0)
    groups |= {"tail (degree)": ambiguous & (degrees <= low), "middle": ambiguous & (degrees > low) & (degrees <= high)}
    groups |= {"head": ambiguous & (degrees > high), "all": gold >= 0}
    return Mentions(texts, samples, [group_of(s) for s in samples], groups)


# --- measuring ----------------------------------------------------------------------------------------------------------


def _measure(bench: Bench, seeds: Sequence[int]) -> dict[str, Any]:
    """Hits of every arm on given mentions."""
    hits: dict[str, dict[str, np.ndarray]] = {}
    with bar("arms", len(ARMS) * len(seeds), "arm") as progress:
        for arm in ARMS:
            of_seeds: list[dict[str, np.ndarray]] = []
            for seed in seeds:
                # Without vectors nothing is drawn.
                of_seeds.append(_hits_of(bench, arm, seed) if "vector" in arm.terms or not of_seeds else of_seeds[0])
                progress.advance()
            hits[arm.name] = {name: np.stack([of[name] for of in of_seeds]) for name in FILES}
    return {arm.name: {name: _figures(bench, hits, arm.name, name) for name in FILES} for arm in ARMS}


def _hits_of(bench: Bench, arm: Arm, seed: int) -> dict[str, np.ndarray]:
    whole = bench.weights(arm, seed, bench.training, bench.dev)
    hits = {name: of.hits(whole) for name, of in bench.gold_mentions.items() if name != "train"}
    train = bench.gold_mentions["train"]
    by_text: dict[int, np.ndarray] = {}
    for tested, learned_on, fitted_on in bench.folds:
        prior = bench.weights(arm, seed, learned_on, fitted_on)
        by_text |= {i: train.hits(prior, [i]) for i in tested}
    return hits | {"train": np.concatenate([by_text[i] for i in range(len(train.texts))])}


def _figures(bench: Bench, hits: Mapping[str, Mapping[str, np.ndarray]], arm: str, name: str) -> dict[str, Any]:
    of, hits_of_arm = bench.gold_mentions[name], hits[arm][name]
    figures: dict[str, Any] = {group: _share(hits_of_arm, mask) for group, mask in of.groups.items()}
    for against in ("none", "degree", "shuffled"):
        other = hits[against][name] if against in hits else hits_of_arm
        figures[f"against {against}"] = _difference(of, hits_of_arm, other)
    return figures


def _share(hits: np.ndarray, mask: np.ndarray) -> float | None:
    return round(float(hits[:, mask].mean()), 4) if mask.any() else None


def _difference(of: Mentions, hits: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Of accuracies on ambiguous mentions: paired, with the interval of resampled questions."""
    mask = of.groups["ambiguous"]
    text = np.repeat(np.arange(len(of.texts)), [len(t.gold) for t in of.texts])
    counts = np.zeros((len(of.texts), 2), dtype=np.int64)
    np.add.at(counts, text[mask], np.stack([(hits.astype(int) - other).sum(0), np.full(hits.shape[1], len(hits))], 1)[mask])
    sums = resample(cluster_sums(counts, list(of.clusters)), DRAWS, 0)
    differences = sums[:, 0] / np.maximum(sums[:, 1], 1)
    low, high = middle(differences)
    return {
        "difference": round(float(counts[:, 0].sum() / max(counts[:, 1].sum(), 1)), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "p": round(two_sided_p(differences), 4),
        "fixed": int((hits[0] & ~other[0] & mask).sum()),
        "broken": int((~hits[0] & other[0] & mask).sum()),
    }


def _whole_texts(
    linker: Linker, samples: Mapping[str, Sequence[Sample]], bench: Bench, read: Mapping[str, Sequence[LabelledText]]
) -> dict[str, dict[str, Any]]:
    """Weak F1 of whole texts, each arm at the cut-off that is best for it on WebQSP dev."""
    figures = {}
    for arm in ARMS:
        prior = bench.weights(arm, 0, bench.training, bench.dev) or _unchanged(bench)
        texts = {
            name: DevPredictions(linker.decoder, samples[name], [t.with_prior(prior) for t in of]) for name, of in read.items()
        }
        cutoff, _ = select_cutoff([texts["dev"]], bench.ranked)
        figures[arm.name] = {"cutoff": cutoff, "weights": _numbers(prior.graph_prior.weights)}
        for name, of in texts.items():
            point = curve(of.decoder, of.analyses, of.samples, [cutoff])[0]
            figures[arm.name][name] = {
                "covered": round(point.point("weak", covered=True).f1, 4),
                "all": round(point.point("weak", covered=False).f1, 4),
            }
    return figures


def _unchanged(bench: Bench) -> PriorStages:
    """A prior that changes nothing, so that the arm without one takes the same way."""
    return PriorStages.from_prior(bench.tables["kglm"], PriorWeights("", bench.ranked), bench.joined)


def _numbers(weights: PriorWeights) -> dict[str, Any]:
    names = ("scale", "shift", "popularity", "vector", "coherence")
    return {name: round(float(getattr(weights, name)), 4) for name in names}


if __name__ == "__main__":
    run_script(ablation, "prior_ablation")
