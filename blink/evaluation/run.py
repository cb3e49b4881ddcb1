"""Evaluation of a linker on a mention file, with the option to save the predictions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.mention_files import TEXT_KEY, bind, evaluation_samples, require_rows
from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import DataError, MissingFileError, SettingsError
from blink.evaluation.nil import nil_report
from blink.evaluation.results import Results, RunFigures, labelled_results, usage_results
from blink.evaluation.saved import (
    FILE_NAME,
    Provenance,
    SavedPredictions,
    finite_or_none,
    kb_hash,
    model_hash,
    write_predictions,
)
from blink.evaluation.strata import SampleStrata, strata_of
from blink.evaluation.sweep import THRESHOLDS, predicted_at, question_at
from blink.files import sha256
from blink.kb.subset import Subset
from blink.linking.analysis import Analysis
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.starter import starter_kb, starter_model
from blink.model.execution import Execution
from blink.model.gold_checks import GoldChecker
from blink.progress import Bars, no_bars

logger = logging.getLogger(__name__)


def evaluate_file(
    file: str,
    *,
    batch_size: int = 64,
    cluster: str = "none",
    save_preds: str | None = None,
    text_key: str = TEXT_KEY,
    nil: bool = False,
    warn: Callable[[str], None] = logger.warning,
    bars: Bars = no_bars,
    **options: Any,
) -> Results:
    """Link the texts of a mention file, and score the links if the file has gold.

    Args:
        file: the mention file.
        batch_size: texts per forward pass.
        cluster: unit of resampling for the intervals, ``none`` or ``paraphrase``.
        save_preds: file or folder for the predictions, see `predictions_file`.
        text_key: key of the texts in the file, see `read_samples`.
        nil: score gold mentions outside the catalogue and detected spans too, see `blink.evaluation.nil`.
        warn: called with each warning.
        bars: progress bars.
        **options: of `open_linker`; None means the default.

    Raises:
        DataError: the file cannot be evaluated, or the model can get none of its gold mentions right.
    """
    samples = evaluation_samples(file, text_key)
    if nil and not any(s.labelled for s in samples):
        raise DataError(f"{file} has no gold mentions to score; leave --nil out")
    save_to = None if save_preds is None else predictions_file(save_preds)
    set_options = {name: value for name, value in options.items() if value is not None}
    linker = open_linker(**{"model": None, "kb": None} | set_options, warn=warn, bars=bars, bulk=True)
    samples = list(bind(samples, linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    samples = _within_filter(samples, linker)
    GoldChecker.of(linker.model, linker.catalogue, warn)(file, samples)
    run = _analyze(linker, samples, batch_size, _min_mention_log_prob(linker, save_to is not None), bars)
    strata = strata_in(linker, samples)
    if save_to is not None:
        parameters = options if text_key == TEXT_KEY else options | {"text_key": text_key}
        provenance = _provenance(file, linker, run, parameters)
        write_predictions(save_to, SavedPredictions(samples, run.analyses, provenance, strata))
    figures = RunFigures(linker.thresholds.score, len(samples) / run.seconds, execution_of(linker))
    pairs = list(zip(run.analyses, samples, strict=True))
    if any(s.labelled for s in samples):
        texts = [question_at(linker.decoder, *pair) for pair in pairs]
        more, after = nil_report(texts, run.analyses, samples) if nil else ({}, "")
        return labelled_results(texts, strata, figures, cluster, more=more, after=after)
    return usage_results(samples, [predicted_at(linker.decoder, analysis) for analysis, _ in pairs], figures)


def execution_of(linker: Linker) -> Execution:
    """How a linker's encoder runs."""
    return Execution.of(linker.stages.detector.backend)


def _within_filter(samples: list[Sample], linker: Linker) -> list[Sample]:
    """The samples, where gold entities that the linker may not link count as not in the catalogue."""
    selector = linker.kb.selector(linker.options.where)
    if selector is None:
        return samples
    filtered = Subset(linker.kb, np.where(selector.mask, np.arange(len(selector.mask)), NOT_IN_CATALOGUE))
    return [filtered.relabel(sample) for sample in samples]


@dataclass(frozen=True)
class _Run:
    analyses: list[Analysis]
    min_mention_log_prob: float
    seconds: float


def _analyze(linker: Linker, samples: Sequence[Sample], batch_size: int, min_mention_log_prob: float, bars: Bars) -> _Run:
    analyses = []
    started = time.perf_counter()
    with bars("linking", len(samples), "question") as progress:
        for analysis in linker.analyze(
            [s.text for s in samples], batch_size=batch_size, min_mention_log_prob=min_mention_log_prob
        ):
            analyses.append(analysis)
            progress.advance()
    return _Run(analyses, min_mention_log_prob, time.perf_counter() - started)


def _min_mention_log_prob(linker: Linker, saving: bool) -> float:
    """The linker's ``min_mention_log_prob``, or a lower one if the predictions are saved for a sweep."""
    return min(linker.min_mention_log_prob, min(THRESHOLDS)) if saving else linker.min_mention_log_prob


def strata_in(linker: Linker, samples: Sequence[Sample]) -> list[SampleStrata]:
    """The ambiguity strata of the samples' gold mentions; empty if the knowledge base has no alias table."""
    aliases = linker.kb.alias_table
    return [] if aliases is None else [strata_of(sample, aliases) for sample in samples]


def predictions_file(out: str) -> Path:
    """The file for predictions: ``out`` itself, or one in the folder ``out``, which is created.

    Raises:
        MissingFileError: the folder of the file does not exist.
        SettingsError: ``out`` is a file whose name does not end in ``.npz``.
    """
    path = Path(out)
    if path.suffix != ".npz" or path.is_dir():
        if path.is_file():
            raise SettingsError(f"{path} is a file; name a folder, or a file that ends in .npz")
        path.mkdir(parents=True, exist_ok=True)
        return path / FILE_NAME
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")
    return path


def _provenance(file: str, linker: Linker, run: _Run, options: Mapping[str, Any]) -> Provenance:
    model, kb = options.get("model") or starter_model(), options.get("kb") or starter_kb()
    return Provenance(
        data=Path(file).name,
        data_sha256=sha256(file),
        model=_short(model),
        model_sha256=model_hash(model),
        kb=_short(kb),
        kb_sha256=kb_hash(kb),
        parameters=_parameters(linker, options),
        threshold=finite_or_none(linker.thresholds.score),
        mention_threshold=linker.thresholds.mention,
        min_mention_log_prob=finite_or_none(run.min_mention_log_prob),
        seconds=round(run.seconds, 3),
        execution=execution_of(linker),
    )


def _short(path: str | Path) -> str:
    """The last two components of a path, since many folders are called ``best``."""
    return "/".join(Path(path).parts[-2:])


def _parameters(linker: Linker, options: Mapping[str, Any]) -> dict[str, Any]:
    """What predictions depend on, apart from model and knowledge base: options, and values of the linker."""
    parameters = {name: value for name, value in options.items() if name not in _ELSEWHERE}
    # By hash, since a prior that is tuned again keeps its file name.
    parameters |= {} if linker.options.prior_file is None else {"prior": sha256(linker.options.prior_file)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()} | {
        "mode": linker.mode,
        "entities": linker.options.entities,
        "mentions": linker.options.mentions,
        "whole_words": linker.stages.detector.options.whole_words,
        "dtype": _DTYPES.get(linker.stages.detector.backend.precision, linker.stages.detector.backend.precision),
    }


_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""As predictions name them."""
_ELSEWHERE = ("model", "kb", "threshold", "mention_threshold", "precision", "device", "prior", "backend")
"""Options that predictions do not depend on, or that other fields hold."""
