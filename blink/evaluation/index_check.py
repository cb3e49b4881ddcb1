"""What the index of a knowledge base costs in links: the same texts linked with it and with exact search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from blink.data.mention_files import bind, evaluation_samples, require_rows
from blink.data.records import Sample
from blink.errors import BlinkError, DataError
from blink.evaluation.counts import EvaluatedText
from blink.evaluation.report import evaluate
from blink.evaluation.speed.bench import texts_of_catalogue, texts_of_file
from blink.evaluation.sweep import question_at
from blink.kb.health import MIN_RECALL, Health, Problem, check_knowledge_base
from blink.kb.index import Index
from blink.kb.index.compared import ComparedIndex
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.linking.opening import open_candidate_encoder, open_linker
from blink.linking.starter import names_starter
from blink.progress import Bars, Progress, no_bars

CHOICE_TEXTS = 64
"""Texts that are linked for the cost of an index that was just made."""
MAX_F1_LOST = 0.005
"""Most weak F1 that an index may cost against exact search."""


@dataclass(frozen=True)
class IndexCost:
    """Links of texts with an index and with exact search.

    Attributes:
        recall: share of the nearest entities of the mentions that the index returns; None if there are no mentions.
        links: number of links with exact search.
        changed: links that only one of the two has.
        f1: weak F1 with the index, if the texts have gold.
        exact_f1: weak F1 with exact search.
        time_ratio: time of searches by that of exact search; None if there are no mentions.
    """

    recall: float | None
    links: int
    changed: int
    f1: float | None = None
    exact_f1: float | None = None
    time_ratio: float | None = None

    def add_to(self, health: Health, rebuild: str) -> None:
        """Add the figures, and what is wrong with them, to the result of a check."""
        health.figures |= {f"texts_{name}": value for name, value in vars(self).items() if value is not None}
        if self.recall is not None and self.recall < MIN_RECALL:
            expected = f"at least {MIN_RECALL:.0%} are expected"
            fault = f"the index returns {self.recall:.1%} of the nearest entities of mentions, {expected}"
            health.problems.append(Problem("index", f"{fault}; {rebuild}"))
        if self.f1 is not None and self.exact_f1 is not None and self.exact_f1 - self.f1 > MAX_F1_LOST:
            fault = f"the index costs {self.exact_f1 - self.f1:.4f} weak F1 ({self.exact_f1:.4f} with exact search)"
            health.problems.append(Problem("index", f"{fault}; {rebuild}"))


def check_with_texts(
    kb: str, model: str | None, file: str | None, *, sample: int, warn: Callable[[str], None], bars: Bars = no_bars
) -> Health:
    """Check a knowledge base, with its model and texts if they are given.

    Args:
        kb: folder of the knowledge base.
        model: the model, with which the vectors are compared; None links with the starter and compares nothing.
        file: mention file to link; None to link nothing.
        sample: see `check_knowledge_base`.
        warn: called with each warning.
        bars: for progress.
    """
    encoder, starter = None, model is None or names_starter(model)
    if model is not None:
        encoder = open_candidate_encoder(None if starter else model, "auto", None, 64)
    health = check_knowledge_base(kb, encoder=encoder, sample=sample, bars=bars)
    if file is not None and not health.problems:
        linker = open_linker(None if starter else model, kb, warn=warn, bars=bars, bulk=True)
        index_cost(linker, file, bars).add_to(health, f"build it again: blink kb build ENTITY.jsonl --out {kb}")
    elif file is not None:
        health.notes.append(f"{file} was not linked, since there are problems")
    return health


def index_cost(linker: Linker, file: str, bars: Bars = no_bars) -> IndexCost:
    """Link the texts of a mention file with the index of a linker and with exact search over the stored vectors.

    Raises:
        DataError: the file is malformed, or the knowledge base has no stored vectors.
    """
    samples = list(bind(evaluation_samples(file), linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    return cost_in_samples(linker, samples, bars)


def stated_cost(folder: str | Path, model: str | None = None, file: str | None = None, bars: Bars = no_bars) -> str:
    """One line: what the index of a knowledge base costs against exact search, or why it was not measured.

    Args:
        folder: of the knowledge base.
        model: that links; None for the starter.
        file: of texts, of which the first `CHOICE_TEXTS` are linked; None for texts about entities of the catalogue.
        bars: for progress.

    Raises:
        BlinkError: the knowledge base cannot be opened, or the file has no texts.
    """
    base = KnowledgeBase.open(folder)
    texts = texts_of_catalogue(base.catalogue, CHOICE_TEXTS) if file is None else texts_of_file(file, CHOICE_TEXTS)
    try:
        linker = open_linker(None if model is None or names_starter(model) else model, str(folder), bars=bars)
        cost = cost_in_samples(linker, [Sample(str(i), text) for i, text in enumerate(texts)], bars)
    except BlinkError as e:  # the index is complete, and an encoder alone does not link
        return f"against exact search: not measured, since {e}"
    if cost.recall is None or cost.time_ratio is None:
        return f"against exact search: not measured, there are no mentions in {len(texts)} texts; give others: --file TEXTS"
    source = f"{len(texts)} texts of {file}" if file else f"{len(texts)} texts about its entities (give yours: --file)"
    figures = f"recall@10 {cost.recall:.4f}, {cost.changed} of {cost.links} links changed"
    return f"against exact search: {figures}, {cost.time_ratio:.2f} of its time; {source}"


def cost_in_samples(linker: Linker, samples: Sequence[Sample], bars: Bars = no_bars) -> IndexCost:
    """As `index_cost`, of samples whose gold, if they have any, is bound to the catalogue.

    Raises:
        DataError: the knowledge base has no stored vectors.
    """
    vectors = linker.kb.vectors
    if vectors is None:
        raise DataError("the knowledge base has no stored vectors to compare its index with; build it again: blink kb build")
    links, f1, recall, time_ratio = [], [], None, None
    for exact in (False, True):
        compared = ComparedIndex(linker.kb.index, np.asarray(vectors), answers_exactly=exact)
        with bars("linking by exact search" if exact else "linking with the index", len(samples), "text") as progress:
            texts = list(_linked(_with_index(linker, compared), samples, progress))
        recall, time_ratio = compared.recall, compared.time_ratio  # of the second run, when the pages are in memory
        links.append({(i, p.id, p.start, p.end) for i, text in enumerate(texts) for p in text.predicted})
        f1.append(evaluate(texts, n_resamples=1).overall.weak.f1 if any(s.labelled for s in samples) else None)
    return IndexCost(recall, len(links[1]), len(links[0] ^ links[1]), f1[0], f1[1], time_ratio)


def _with_index(linker: Linker, index: Index) -> Linker:
    candidates = copy(linker.stages.candidates)
    candidates.index = index
    options = {f.name: getattr(linker.options, f.name) for f in fields(linker.options)}
    return Linker(linker.model, linker.kb, **options, stages={"candidates": candidates})


def _linked(linker: Linker, samples: Sequence[Sample], progress: Progress) -> Iterator[EvaluatedText]:
    analyses = linker.analyze([s.text for s in samples], min_mention_log_prob=linker.min_mention_log_prob)
    for analysis, sample in zip(analyses, samples, strict=True):
        yield question_at(linker.decoder, analysis, sample)
        progress.advance()
