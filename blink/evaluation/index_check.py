"""What the index of a knowledge base costs in links: the same texts linked with it and with exact search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, fields

from blink.data.mention_files import bind, evaluation_samples, require_rows
from blink.data.records import Sample
from blink.errors import DataError
from blink.evaluation.counts import EvaluatedText
from blink.evaluation.report import evaluate
from blink.evaluation.sweep import question_at
from blink.kb.health import MIN_RECALL, CandidateEncoder, Health, Problem, check_knowledge_base
from blink.kb.index import Index
from blink.kb.index.compared import ComparedIndex
from blink.linking.linker import Linker
from blink.linking.opening import open_candidate_encoder, open_linker
from blink.linking.starter import names_starter
from blink.progress import Bars, Progress, no_bars

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
    """

    recall: float | None
    links: int
    changed: int
    f1: float | None = None
    exact_f1: float | None = None

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
        opened = open_candidate_encoder(None if starter else model, "auto", None, 64)
        encoder = CandidateEncoder(opened.encode, opened.fingerprint)
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
    vectors = linker.kb.vectors
    if vectors is None:
        raise DataError("the knowledge base has no stored vectors to compare its index with; build it again: blink kb build")
    samples = list(bind(evaluation_samples(file), linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    links, f1, recall = [], [], None
    for exact in (False, True):
        compared = ComparedIndex(linker.stages.candidates.index, vectors, answers_exactly=exact)
        with bars("linking by exact search" if exact else "linking with the index", len(samples), "text") as progress:
            texts = list(_linked(_with_index(linker, compared), samples, progress))
        recall = compared.recall
        links.append({(i, p.id, p.start, p.end) for i, text in enumerate(texts) for p in text.predicted})
        f1.append(evaluate(texts, n_resamples=1).overall.weak.f1 if any(s.labelled for s in samples) else None)
    return IndexCost(recall, len(links[1]), len(links[0] ^ links[1]), *f1)


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
