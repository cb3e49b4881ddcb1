"""``blink eval`` on a mention file: the model reads it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar, say
from blink.apps.linking import open_linker
from blink.apps.outputs import Outputs
from blink.data.mention_files import TEXT_KEY, bind, read_samples, require_rows
from blink.data.records import Sample
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import sha256

if TYPE_CHECKING:
    from blink.evaluation.counts import EvaluatedText, Prediction
    from blink.evaluation.saved import Provenance, SavedPredictions
    from blink.evaluation.strata import SampleStrata
    from blink.linking.linker import Analysis, Linker


def evaluate_file(
    file: str,
    outputs: Outputs,
    *,
    batch_size: int = 64,
    cluster: str = "none",
    save_preds: str | None = None,
    text_key: str = TEXT_KEY,
    **options: Any,
) -> None:
    """Link the texts of a mention file, compare with its gold, where it has any, and report.

    Args:
        file: the mention file.
        outputs: where results go.
        batch_size: texts that go through the model at once.
        cluster: what intervals draw, ``none`` or ``paraphrase``.
        save_preds: file or folder for the readings.
        text_key: key of the texts in the file, see `read_samples`.
        **options: those of `open_linker`; None is as if not given.
    """
    from blink.evaluation.saved import SavedPredictions
    from blink.evaluation.sweep import predicted_at, question_at

    samples = read_evaluated(file, text_key)
    outputs.check()
    saved_to = None if save_preds is None else _place(save_preds)
    linker = open_linker(**{"model": None, "kb": None} | {n: v for n, v in options.items() if v is not None})
    samples = list(bind(samples, linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    run = _read(linker, samples, batch_size, _floor(linker, saved_to is not None))
    slices = strata_in(linker, samples)
    if saved_to is not None:
        read_so = options if text_key == TEXT_KEY else options | {"text_key": text_key}
        _save(saved_to, SavedPredictions(samples, run.readings, _provenance(file, linker, run, read_so), slices))
    at = At(linker.cut.score, len(samples) / run.seconds)
    pairs = list(zip(run.readings, samples, strict=True))
    if any(s.labelled for s in samples):
        report_questions([question_at(linker, *pair) for pair in pairs], slices, outputs, at, cluster)
    else:
        report_usage(samples, [predicted_at(linker, reading) for reading, _ in pairs], outputs, at)


@dataclass(frozen=True)
class _Run:
    readings: list[Analysis]
    floor: float
    seconds: float


@dataclass(frozen=True)
class At:
    """The threshold that a report is for, and how fast texts were read."""

    threshold: float
    questions_per_s: float | None

    def lines(self) -> str:
        """What a report says of them."""
        speed = [] if self.questions_per_s is None else [f"questions per second = {self.questions_per_s:.1f}"]
        return "\n".join([f"threshold = {self.threshold:g}", *speed])


def read_evaluated(file: str, text_key: str = TEXT_KEY) -> list[Sample]:
    """The samples of a mention file, all with gold in characters, or all without any gold.

    Args:
        file: the mention file.
        text_key: key of its texts, see `read_samples`.

    Raises:
        DataError: some have gold and some have none, or it is in tokens.
    """
    samples = list(read_samples(file, text_key))
    unplaced = next((s.id for s in samples if s.mentions is None), None)
    if unplaced is not None and any(s.labelled for s in samples):
        raise DataError(
            f"{file}: {unplaced!r} has no gold mentions in characters and others have gold; "
            "evaluation needs 'mentions' with 'label_id' or 'wikidata_id' in every row, or in none"
        )
    return samples


def _read(linker: Linker, samples: Sequence[Sample], batch_size: int, floor: float) -> _Run:
    readings = []
    started = time.perf_counter()
    with bar("linking", len(samples), "question") as shown:
        for reading in linker.read([s.text for s in samples], batch_size=batch_size, floor=floor):
            readings.append(reading)
            shown.advance()
    return _Run(readings, floor, time.perf_counter() - started)


def _floor(linker: Linker, saving: bool) -> float:
    """The log probability of a mention below which nothing is read: the linker's, or low enough for a sweep."""
    from blink.evaluation.sweep import THRESHOLDS

    return min(linker.floor, min(THRESHOLDS)) if saving else linker.floor


def strata_in(linker: Linker, samples: Sequence[Sample]) -> list[SampleStrata]:
    """The slices of the samples' gold mentions; empty where the knowledge base has no surface forms."""
    from blink.evaluation.strata import strata_of

    forms = linker.kb.alias_table
    return [] if forms is None else [strata_of(sample, forms) for sample in samples]


def _place(out: str) -> Path:
    """The file for readings: what is named, or one in the folder that is named, which is made.

    Raises:
        MissingFileError: the folder it should lie in is not there.
    """
    from blink.evaluation.saved import FILE_NAME

    path = Path(out)
    if path.suffix != ".npz" or path.is_dir():
        if path.is_file():
            raise SettingsError(f"{path} is a file; name a folder, or a file that ends in .npz")
        path.mkdir(parents=True, exist_ok=True)
        return path / FILE_NAME
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")
    return path


def _save(path: Path, saved: SavedPredictions) -> None:
    from blink.evaluation.saved import write_predictions

    write_predictions(path, saved)
    say(f"wrote {path}; look again without the model: blink eval --preds {path}")


def _provenance(file: str, linker: Linker, run: _Run, options: Mapping[str, Any]) -> Provenance:
    from blink.apps.starter import starter_kb, starter_model
    from blink.evaluation.saved import Provenance, finite_or_none, kb_hash, model_hash

    model, kb = options.get("model") or starter_model(), options.get("kb") or starter_kb()
    return Provenance(
        data=Path(file).name,
        data_sha256=sha256(file),
        model=_short(model),
        model_sha256=model_hash(model),
        kb=_short(kb),
        kb_sha256=kb_hash(kb),
        parameters=_parameters(linker, options),
        threshold=finite_or_none(linker.cut.score),
        mention_threshold=linker.cut.mention,
        floor=finite_or_none(run.floor),
        seconds=round(run.seconds, 3),
    )


def _short(path: str | Path) -> str:
    """Enough of a path to know it by: folders are often called ``best``."""
    return "/".join(Path(path).parts[-2:])


def _parameters(linker: Linker, options: Mapping[str, Any]) -> dict[str, Any]:
    """Whatever decides what is read, but for model and knowledge base: options as given, or what they came to."""
    given = {name: value for name, value in options.items() if name not in _ELSEWHERE}
    # By what it says: it is weighed again under the same name.
    given |= {} if linker.prior_file is None else {"prior": sha256(linker.prior_file)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()} | {
        "mode": linker.mode,
        "entities": linker.options.entities,
        "mentions": linker.options.mentions,
        "whole_words": linker.options.whole_words,
        "dtype": str(linker.reader.dtype).removeprefix("torch."),
    }


_ELSEWHERE = ("model", "kb", "threshold", "mention_threshold", "precision", "device", "prior")
"""Options that readings do not depend on, or that are kept under other names."""


def report_questions(
    questions: Sequence[EvaluatedText],
    slices: Sequence[SampleStrata],
    outputs: Outputs,
    at: At,
    cluster: str = "none",
    *,
    more: Mapping[str, Any] | None = None,
    before: str = "",
) -> None:
    """Write and print what came out.

    Args:
        questions: with gold and predictions.
        slices: of their gold mentions, or nothing.
        outputs: where results go.
        at: the threshold that the predictions are for.
        cluster: what intervals draw, ``none`` or ``paraphrase``.
        more: further figures.
        before: printed above the report.
    """
    from blink.evaluation.report import evaluate, format_report, prediction_records
    from blink.evaluation.strata import format_strata, stratum_scores

    report = evaluate(questions, by_group=cluster == "paraphrase")
    by_slice = stratum_scores(questions, slices) if slices else {}
    figures = report.to_json(threshold=at.threshold, questions_per_s=at.questions_per_s)
    figures |= {"cluster": cluster, "slices": {name: found.to_json() for name, found in by_slice.items()}} | dict(more or {})
    parts = [before, format_report(report), format_strata(by_slice) if by_slice else "", at.lines()]
    outputs.write(figures, prediction_records(questions), "\n\n".join(part for part in parts if part))


def report_usage(
    samples: Sequence[Sample],
    predictions: Sequence[Sequence[Prediction]],
    outputs: Outputs,
    at: At,
    *,
    more: Mapping[str, Any] | None = None,
    before: str = "",
) -> None:
    """Write and print what can be said of links without gold. Arguments as of `report_questions`."""
    from blink.evaluation.usage import format_usage, usage_of

    usage = usage_of(predictions)
    figures = usage.to_json(threshold=at.threshold, questions_per_s=at.questions_per_s) | dict(more or {})
    rows = (_unlabelled_row(sample, found) for sample, found in zip(samples, predictions, strict=True))
    parts = [before, f"{format_usage(usage)}\n{at.lines()}"]
    outputs.write(figures, rows, "\n\n".join(part for part in parts if part))


def _unlabelled_row(sample: Sample, predictions: Sequence[Prediction]) -> dict[str, Any]:
    found = [
        {"id": p.id, "start": p.start, "end": p.end, "mention": sample.text[p.start : p.end], "score": p.score}
        for p in predictions
    ]
    return {"id": sample.id, "text": sample.text, "predicted": found}
