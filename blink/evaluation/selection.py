"""Selection of a threshold on saved predictions, and results at it, without the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.evaluation.calibration import Calibration, calibration_of, format_calibration
from blink.evaluation.legacy import is_legacy, read_legacy
from blink.evaluation.matching import Matching
from blink.evaluation.nil import nil_report
from blink.evaluation.plots import RELIABILITY_FILE, draw_curves, draw_reliability
from blink.evaluation.results import Results, RunFigures, labelled_results, usage_results
from blink.evaluation.saved import FILE_NAME, Provenance, SavedPredictions, kb_hash, model_hash, read_predictions
from blink.evaluation.sweep import (
    PLATEAU,
    CurvePoint,
    SweepPoint,
    best_point,
    best_scores,
    curve,
    grid,
    link_outcomes,
    narrowed,
    predicted_at,
    question_at,
)
from blink.files import sha256
from blink.linking.decoder import Decoder, Thresholds, mode_named

WIDTHS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Numbers of candidates and of mentions that are evaluated, up to the numbers in the predictions."""
MAX_PRINTED = 24
"""Most thresholds in the report. The JSON figures have all."""


@dataclass(frozen=True)
class SweepRequest:
    """The options of ``blink eval --preds``; see its help."""

    preds: str
    file: str | None = None
    dev: str | None = None
    model: str | None = None
    kb: str | None = None
    threshold: float | None = None
    mention_threshold: float | None = None
    mode: str | None = None
    entities: int | None = None
    mentions: int | None = None
    choose_by: Matching = "weak"
    plots: str | None = None
    cluster: str = "none"
    nil: bool = False


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and its source."""

    threshold: float
    source: str
    same_file: bool = False
    f1: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this point in a report."""
        finite = self.threshold if math.isfinite(self.threshold) else None
        return {"threshold": finite, "source": self.source, "same_file": self.same_file, "f1": self.f1}


def evaluate_saved(request: SweepRequest) -> Results:
    """Score saved predictions at every threshold, select one, and return the results at it.

    Raises:
        BlinkError: the predictions cannot be used, or options contradict each other or the predictions.
    """
    _check(request)
    sweep = _Sweep.prepared(request)
    selected = _select(request, sweep)
    thresholds = replace(sweep.decoder.thresholds, score=selected.threshold)
    saved = sweep.saved
    seconds = saved.provenance.seconds
    run = RunFigures(selected.threshold, len(saved.samples) / seconds if seconds else None, saved.provenance.execution)
    more = {"choice": selected.to_json(), "predictions": _origin(saved.provenance)}
    pairs = zip(saved.analyses, saved.samples, strict=True)
    if saved.labelled:
        figures, text = _swept(request, sweep, selected)
        texts = [question_at(sweep.decoder, *pair, thresholds) for pair in pairs]
        nil, after = nil_report(texts, saved.analyses, saved.samples) if request.nil else ({}, "")
        return labelled_results(texts, saved.slices, run, request.cluster, more=more | figures | nil, before=text, after=after)
    if request.plots is not None or request.nil:
        raise DataError(f"{request.preds} has no gold to draw curves of or to score; leave --plots and --nil out")
    predictions = [predicted_at(sweep.decoder, analysis, thresholds) for analysis, _ in pairs]
    return usage_results(saved.samples, predictions, run, more=more, before=f"{_title(saved)}\n\n{_selection_line(selected)}")


@dataclass(frozen=True)
class _Sweep:
    """Predictions, and the thresholds to score them at.

    Attributes:
        saved: the predictions of the report.
        dev: predictions that the threshold is selected on; None for the same.
        decoder: of links.
        thresholds: in ascending order.
    """

    saved: SavedPredictions
    dev: SavedPredictions | None
    decoder: Decoder
    thresholds: tuple[float, ...]

    @classmethod
    def prepared(cls, request: SweepRequest) -> _Sweep:
        saved = _opened(request.preds, request)
        _require_current(saved.provenance, request)
        dev = None if request.dev is None else _opened(request.dev, request)
        if dev is not None:
            saved.provenance.require_like(request.preds, dev.provenance, str(request.dev))
        decoder, source = _decoder(saved.provenance, request), dev or saved
        thresholds = set(grid(source.analyses, decoder.mode, _lowest_threshold(source.provenance)))
        requested = () if request.threshold is None or not math.isfinite(request.threshold) else (request.threshold,)
        return cls(saved, dev, decoder, tuple(sorted(thresholds.union(requested))))


def _swept(request: SweepRequest, sweep: _Sweep, selected: OperatingPoint) -> tuple[dict[str, Any], str]:
    """Figures and text of all thresholds and widths; with plots if the request names a folder."""
    saved = sweep.saved
    points = curve(sweep.decoder, saved.analyses, saved.samples, sweep.thresholds)
    widths = list(_widths(request, sweep))
    if request.plots is not None:
        _draw(Path(request.plots), points, selected, sweep)
    sections = [_title(saved), _table(points, selected), _width_table(widths, request.choose_by), _selection_line(selected)]
    figures: dict[str, Any] = {"sweep": [p.to_json() for p in points], "top_k": widths}
    calibration = _calibration(request, sweep, selected)
    if calibration is not None:
        figures["calibration"] = calibration.to_json()
        sections.append(format_calibration(calibration))
    return figures, "\n\n".join(sections)


def _calibration(request: SweepRequest, sweep: _Sweep, selected: OperatingPoint) -> Calibration | None:
    """Calibration of the links at the selected threshold if scores are probabilities; with a plot if there is a folder."""
    saved = sweep.saved
    scores = [best_scores(analysis.spans, sweep.decoder.mode) for analysis in saved.analyses]
    if not all(((s >= 0) & (s <= 1)).all() for s in scores):
        return None
    thresholds = replace(sweep.decoder.thresholds, score=selected.threshold)
    probabilities, right = link_outcomes(sweep.decoder, saved.analyses, saved.samples, thresholds, request.choose_by)
    if not probabilities:
        return None
    calibration = calibration_of(probabilities, right)
    if request.plots is not None:
        title = f"{saved.provenance.data}, links above {selected.threshold:g}"
        draw_reliability(Path(request.plots) / RELIABILITY_FILE, calibration, title)
    return calibration


def _check(request: SweepRequest) -> None:
    """Raise for options that would fail, or have no effect, later."""
    if request.threshold is not None and request.dev is not None:
        raise SettingsError("--threshold and --dev both say which threshold counts; give one of them")
    if request.plots is not None and Path(request.plots).exists() and not Path(request.plots).is_dir():
        raise SettingsError(f"{request.plots} is a file; name a folder for the pictures")


def _opened(path: str, request: SweepRequest) -> SavedPredictions:
    """Read predictions, and limit candidates and mentions to the requested numbers."""
    file = Path(path) / FILE_NAME if Path(path).is_dir() else path
    saved = read_legacy(path) if is_legacy(path) else read_predictions(file)
    if request.entities is None and request.mentions is None:
        return saved
    _require_breadth(saved.provenance, "mentions", request.mentions)
    _require_breadth(saved.provenance, "entities", request.entities)
    return replace(saved, analyses=list(narrowed(saved.analyses, entities=request.entities, mentions=request.mentions)))


def _require_breadth(provenance: Provenance, name: str, requested: int | None) -> None:
    available = int(provenance.parameters.get(name, 0))
    if requested is not None and requested > available:
        limit = f"--{name} is {requested}, but {available} were read"
        raise SettingsError(f"{limit}; read again with --{name} {requested} --save-preds")


def _require_current(provenance: Provenance, request: SweepRequest) -> None:
    """Check the files of the request against those that the predictions were made from."""
    hashes: dict[str, tuple[str | None, Callable[[str], str]]] = {
        "data_sha256": (request.file, sha256),
        "model_sha256": (request.model, model_hash),
        "kb_sha256": (request.kb, kb_hash),
    }
    for name, (path, hash_of) in hashes.items():
        if path is not None:
            if not Path(path).exists():
                raise MissingFileError(f"{path} does not exist; leave it out, or name what {request.preds} was made with")
            provenance.require(request.preds, of=path, **{name: hash_of(path)})


def _decoder(provenance: Provenance, request: SweepRequest) -> Decoder:
    mode = request.mode or provenance.mode
    if mode != provenance.mode and provenance.min_mention_log_prob is not None and not mode.startswith("joint"):
        scope = f"mode {provenance.mode} may link above {provenance.min_mention_log_prob:g}"
        raise MismatchError(
            f"{request.preds} holds only mentions that {scope}; for another mode write it again with --mode {mode}"
        )
    score = provenance.threshold if request.threshold is None else request.threshold
    mention = provenance.mention_threshold if request.mention_threshold is None else request.mention_threshold
    if mode_named(mode).needs_mention_threshold and mention is None:
        raise SettingsError(f"mode {mode} needs a mention threshold (a raw mention score); give --mention-threshold")
    return Decoder(mode, Thresholds(-math.inf if score is None else score, mention))


def _lowest_threshold(provenance: Provenance) -> float:
    return -math.inf if provenance.min_mention_log_prob is None else provenance.min_mention_log_prob


def _select(request: SweepRequest, sweep: _Sweep) -> OperatingPoint:
    """The requested threshold, else the best one on the development predictions, else the best one on these."""
    if request.threshold is not None:
        return _requested(request, request.threshold, sweep.saved.provenance)
    source = sweep.dev or sweep.saved
    if not source.labelled:
        if sweep.dev is not None:
            raise DataError(
                f"{request.dev} has no gold, so no threshold can be chosen on it; give predictions of a labelled file"
            )
        if sweep.decoder.mode != sweep.saved.provenance.mode:
            raise SettingsError(f"there is no gold to choose a threshold of mode {request.mode} on; give --threshold, or --dev")
        return OperatingPoint(sweep.decoder.thresholds.score, "stored with the predictions")
    best = _best(sweep, source, request.choose_by)
    return OperatingPoint(best.threshold, request.dev or request.preds, sweep.dev is None, best.f1)


def _requested(request: SweepRequest, threshold: float, provenance: Provenance) -> OperatingPoint:
    if math.isnan(threshold):
        raise SettingsError("the threshold is not a number; give one such as -2.5")
    if threshold < _lowest_threshold(provenance):
        limit = (
            f"--threshold is {threshold:g}, but {request.preds} is complete only down to {provenance.min_mention_log_prob:g}"
        )
        raise SettingsError(f"{limit}; read again with --save-preds and that threshold")
    return OperatingPoint(threshold, "given")


def _best(sweep: _Sweep, source: SavedPredictions, matching: Matching) -> SweepPoint:
    points = curve(sweep.decoder, source.analyses, source.samples, sweep.thresholds)
    covered = points[0].covered.gold > 0
    return best_point([p.point(matching, covered=covered) for p in points], PLATEAU)


def _widths(request: SweepRequest, sweep: _Sweep) -> Iterator[dict[str, Any]]:
    """The best threshold, and the figures at it, for fewer candidates and for fewer mentions."""
    parameters = sweep.saved.provenance.parameters
    available = {name: int(getattr(request, name) or parameters[name]) for name in ("entities", "mentions")}
    for name, most in available.items():
        for number in [n for n in WIDTHS if n < most] + [most]:
            saved, source = (
                replace(side, analyses=list(narrowed(side.analyses, **{name: number})))
                for side in (sweep.saved, sweep.dev or sweep.saved)
            )
            best = _best(sweep, source, request.choose_by)
            (point,) = curve(sweep.decoder, saved.analyses, saved.samples, [best.threshold])
            yield {**available, name: number, **point.to_json()}


def _origin(provenance: Provenance) -> dict[str, Any]:
    names = ("data", "data_sha256", "model", "model_sha256", "kb", "kb_sha256", "parameters", "floor")
    values = provenance.to_json()
    return {name: values[name] for name in names}


def _title(saved: SavedPredictions) -> str:
    p = saved.provenance
    return f"{p.data} as read by {p.model} with {p.kb}, mode {p.mode}; the model did not run again"


def _selection_line(selected: OperatingPoint) -> str:
    if selected.f1 is None:
        return f"threshold {selected.threshold:g}: {selected.source}"
    if selected.same_file:
        return (
            f"threshold {selected.threshold:g}: chosen on the same file it is reported on, so the figures flatter; "
            "choose it on development predictions: --dev OTHER.npz"
        )
    return f"threshold {selected.threshold:g}: chosen on {selected.source}, where F1 is {selected.f1:.4f}"


_SECTIONS: tuple[tuple[bool, Matching], ...] = ((True, "weak"), (True, "strong"), (False, "weak"), (False, "strong"))


def _table(points: Sequence[CurvePoint], selected: OperatingPoint) -> str:
    """Precision, recall and F1 by threshold, with the selected threshold marked."""
    names = [f"{'covered' if covered else 'all'} {matching}" for covered, matching in _SECTIONS]
    lines = [f"{'':>11}" + "".join(f"  {name:^20}" for name in names)]
    lines.append(f"{'threshold':>11}" + f"  {'P':>6} {'R':>6} {'F1':>6}" * len(names))
    for point in _thinned(points, selected.threshold):
        scores = [point.point(matching, covered=covered) for covered, matching in _SECTIONS]
        cells = "".join(f"  {p.precision:>6.4f} {p.recall:>6.4f} {p.f1:>6.4f}" for p in scores)
        mark = "->" if point.threshold == selected.threshold else ""
        lines.append(f"{mark:<2}{point.threshold:>9g}{cells}")
    return "\n".join(lines)


def _thinned(points: Sequence[CurvePoint], selected: float) -> list[CurvePoint]:
    step = -(-len(points) // MAX_PRINTED)
    return [p for i, p in enumerate(points) if i % step == 0 or p.threshold == selected]


def _width_table(widths: Sequence[dict[str, Any]], matching: Matching) -> str:
    names = [f"{'covered' if covered else 'all'} {m}" for covered, m in _SECTIONS]
    head = "".join(f"  {name + ' F1':>17}" for name in names)
    lines = [f"{'candidates':>10}  {'mentions':>8}  {'threshold':>9}{head}   (each at its best threshold, by {matching} F1)"]
    for row in widths:
        cells = "".join(f"  {row['covered' if covered else 'all'][m]['f1']:>17.4f}" for covered, m in _SECTIONS)
        lines.append(f"{row['entities']:>10}  {row['mentions']:>8}  {row['threshold']:>9g}{cells}")
    return "\n".join(lines)


def _draw(folder: Path, points: Sequence[CurvePoint], selected: OperatingPoint, sweep: _Sweep) -> None:
    saved = sweep.saved
    (marked,) = curve(sweep.decoder, saved.analyses, saved.samples, [selected.threshold])
    folder.mkdir(parents=True, exist_ok=True)
    source = "same file" if selected.same_file else Path(selected.source).name
    draw_curves(folder, points, marked, f"{saved.provenance.data}, {saved.provenance.mode}", source)
