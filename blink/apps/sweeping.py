"""``blink eval --preds``: readings of an earlier run, evaluated again without the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.evaluating import At, report_questions, report_usage
from blink.apps.outputs import Outputs
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import sha256

if TYPE_CHECKING:
    from blink.evaluation.calibration import Calibration
    from blink.evaluation.matching import Matching
    from blink.evaluation.saved import Provenance, SavedPredictions
    from blink.evaluation.sweep import CurvePoint, Replay, SweepPoint

NUMBERS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Numbers of candidates and of mentions that are tried, as far as they were read."""
ROWS = 24
"""Thresholds that are printed at most; the JSON has all."""


@dataclass(frozen=True)
class Asked:
    """What the command was asked for; see its help."""

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


@dataclass(frozen=True)
class Choice:
    """A threshold and where it comes from."""

    threshold: float
    source: str
    same_file: bool = False
    f1: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that stands for the choice in a report."""
        finite = self.threshold if math.isfinite(self.threshold) else None
        return {"threshold": finite, "source": self.source, "same_file": self.same_file, "f1": self.f1}


def evaluate_saved(asked: Asked, outputs: Outputs) -> None:
    """Sweep thresholds over readings, choose one, and report at it."""
    from blink.evaluation.sweep import predicted_at, question_at

    outputs.check()
    _check(asked)
    sweep = _Sweep.prepared(asked)
    choice = _choose(asked, sweep)
    cut = replace(sweep.linker.cut, score=choice.threshold)
    saved = sweep.saved
    at = At(choice.threshold, len(saved.samples) / saved.provenance.seconds if saved.provenance.seconds else None)
    more = {"choice": choice.to_json(), "predictions": _origin(saved.provenance)}
    pairs = zip(saved.readings, saved.samples, strict=True)
    if saved.labelled:
        figures, text = _swept(asked, sweep, choice)
        questions = [question_at(sweep.linker, *pair, cut) for pair in pairs]
        report_questions(questions, saved.slices, outputs, at, asked.cluster, more=more | figures, before=text)
    elif asked.plots is not None:
        raise DataError(f"{asked.preds} has no gold to draw curves of; leave --plots out")
    else:
        found = [predicted_at(sweep.linker, reading, cut) for reading, _ in pairs]
        before = f"{_title(saved)}\n\n{_choice_line(choice)}"
        report_usage(saved.samples, found, outputs, at, more=more, before=before)


@dataclass(frozen=True)
class _Sweep:
    """What thresholds are tried on.

    Attributes:
        saved: what is reported on.
        dev: what thresholds are chosen on, where that is something else.
        linker: chooses links.
        thresholds: what is tried.
    """

    saved: SavedPredictions
    dev: SavedPredictions | None
    linker: Replay
    thresholds: tuple[float, ...]

    @classmethod
    def prepared(cls, asked: Asked) -> _Sweep:
        from blink.evaluation.sweep import grid

        saved = _opened(asked.preds, asked)
        _require_current(saved.provenance, asked)
        dev = None if asked.dev is None else _opened(asked.dev, asked)
        if dev is not None:
            saved.provenance.require_like(asked.preds, dev.provenance, str(asked.dev))
        linker, chooser = _replay(saved.provenance, asked), dev or saved
        tried = set(grid(chooser.readings, linker.mode, _floor_of(chooser.provenance)))
        given = () if asked.threshold is None or not math.isfinite(asked.threshold) else (asked.threshold,)
        return cls(saved, dev, linker, tuple(sorted(tried.union(given))))


def _swept(asked: Asked, sweep: _Sweep, choice: Choice) -> tuple[dict[str, Any], str]:
    """Figures and text of all thresholds and widths; draws them too if asked to."""
    from blink.evaluation.calibration import format_calibration
    from blink.evaluation.sweep import curve

    saved = sweep.saved
    points = curve(sweep.linker, saved.readings, saved.samples, sweep.thresholds)
    widths = list(_widths(asked, sweep))
    if asked.plots is not None:
        _draw(Path(asked.plots), points, choice, sweep)
    parts = [_title(saved), _table(points, choice), _width_table(widths, asked.choose_by), _choice_line(choice)]
    figures: dict[str, Any] = {"sweep": [p.to_json() for p in points], "top_k": widths}
    calibration = _calibration(asked, sweep, choice)
    if calibration is not None:
        figures["calibration"] = calibration.to_json()
        parts.append(format_calibration(calibration))
    return figures, "\n\n".join(parts)


def _calibration(asked: Asked, sweep: _Sweep, choice: Choice) -> Calibration | None:
    """Of the links at the chosen threshold, where the mode ranks by probabilities; a picture too if asked for."""
    from blink.evaluation.calibration import calibration_of
    from blink.evaluation.plots import RELIABILITY_FILE, draw_reliability
    from blink.evaluation.sweep import best_scores, link_outcomes

    saved = sweep.saved
    scores = [best_scores(reading.spans, sweep.linker.mode) for reading in saved.readings]
    if not all(((s >= 0) & (s <= 1)).all() for s in scores):
        return None
    cut = replace(sweep.linker.cut, score=choice.threshold)
    probabilities, right = link_outcomes(sweep.linker, saved.readings, saved.samples, cut, asked.choose_by)
    if not probabilities:
        return None
    found = calibration_of(probabilities, right)
    if asked.plots is not None:
        title = f"{saved.provenance.data}, links above {choice.threshold:g}"
        draw_reliability(Path(asked.plots) / RELIABILITY_FILE, found, title)
    return found


def _check(asked: Asked) -> None:
    """Say now what would fail, or be passed over, later."""
    if asked.threshold is not None and asked.dev is not None:
        raise SettingsError("--threshold and --dev both say which threshold counts; give one of them")
    if asked.plots is not None and Path(asked.plots).exists() and not Path(asked.plots).is_dir():
        raise SettingsError(f"{asked.plots} is a file; name a folder for the pictures")


def _opened(path: str, asked: Asked) -> SavedPredictions:
    """Readings, narrowed to the candidates and mentions that are asked for."""
    from blink.evaluation.legacy import is_legacy, read_legacy
    from blink.evaluation.saved import FILE_NAME, read_predictions
    from blink.evaluation.sweep import narrowed

    file = Path(path) / FILE_NAME if Path(path).is_dir() else path
    saved = read_legacy(path) if is_legacy(path) else read_predictions(file)
    if asked.entities is None and asked.mentions is None:
        return saved
    _require_breadth(saved.provenance, "mentions", asked.mentions)
    _require_breadth(saved.provenance, "entities", asked.entities)
    return replace(saved, readings=list(narrowed(saved.readings, entities=asked.entities, mentions=asked.mentions)))


def _require_breadth(provenance: Provenance, name: str, wanted: int | None) -> None:
    read = int(provenance.parameters.get(name, 0))
    if wanted is not None and wanted > read:
        raise SettingsError(f"--{name} is {wanted}, but {read} were read; read again with --{name} {wanted} --save-preds")


def _require_current(provenance: Provenance, asked: Asked) -> None:
    """Hold what the command names against what the readings were made from."""
    from blink.evaluation.saved import kb_hash, model_hash

    hashes: dict[str, tuple[str | None, Callable[[str], str]]] = {
        "data_sha256": (asked.file, sha256),
        "model_sha256": (asked.model, model_hash),
        "kb_sha256": (asked.kb, kb_hash),
    }
    for name, (path, hash_of) in hashes.items():
        if path is not None:
            if not Path(path).exists():
                raise MissingFileError(f"{path} does not exist; leave it out, or name what {asked.preds} was made with")
            provenance.require(asked.preds, of=path, **{name: hash_of(path)})


def _replay(provenance: Provenance, asked: Asked) -> Replay:
    from blink.evaluation.sweep import Replay
    from blink.linking.scoring import Thresholds, mode_named

    mode = asked.mode or provenance.mode
    if mode != provenance.mode and provenance.floor is not None and not mode.startswith("joint"):
        found = f"{asked.preds} holds only mentions that mode {provenance.mode} may link above {provenance.floor:g}"
        raise MismatchError(f"{found}; for another mode write it again with --mode {mode}")
    score = provenance.threshold if asked.threshold is None else asked.threshold
    mention = provenance.mention_threshold if asked.mention_threshold is None else asked.mention_threshold
    if mode_named(mode).needs_mention_threshold and mention is None:
        raise SettingsError(f"mode {mode} needs a mention threshold (a raw mention score); give --mention-threshold")
    return Replay(mode, Thresholds(-math.inf if score is None else score, mention))


def _floor_of(provenance: Provenance) -> float:
    return -math.inf if provenance.floor is None else provenance.floor


def _choose(asked: Asked, sweep: _Sweep) -> Choice:
    """The threshold that was given; else the best one on development readings; else the best one on these."""
    if asked.threshold is not None:
        return _given(asked, asked.threshold, sweep.saved.provenance)
    source = sweep.dev or sweep.saved
    if not source.labelled:
        if sweep.dev is not None:
            raise DataError(f"{asked.dev} has no gold, so no threshold can be chosen on it; give readings of a labelled file")
        if sweep.linker.mode != sweep.saved.provenance.mode:
            raise SettingsError(f"there is no gold to choose a threshold of mode {asked.mode} on; give --threshold, or --dev")
        return Choice(sweep.linker.cut.score, "stored with the readings")
    best = _best(sweep, source, asked.choose_by)
    return Choice(best.threshold, asked.dev or asked.preds, sweep.dev is None, best.f1)


def _given(asked: Asked, threshold: float, provenance: Provenance) -> Choice:
    if math.isnan(threshold):
        raise SettingsError("the threshold is not a number; give one such as -2.5")
    if threshold < _floor_of(provenance):
        found = f"--threshold is {threshold:g}, but {asked.preds} is complete only down to {provenance.floor:g}"
        raise SettingsError(f"{found}; read again with --save-preds and that threshold")
    return Choice(threshold, "given")


def _best(sweep: _Sweep, source: SavedPredictions, matching: Matching) -> SweepPoint:
    from blink.evaluation.sweep import PLATEAU, best_point, curve

    points = curve(sweep.linker, source.readings, source.samples, sweep.thresholds)
    covered = points[0].covered.gold > 0
    return best_point([p.point(matching, covered=covered) for p in points], PLATEAU)


def _widths(asked: Asked, sweep: _Sweep) -> Iterator[dict[str, Any]]:
    """For fewer candidates, and for fewer mentions: the best threshold where thresholds are chosen, and the figures there."""
    from blink.evaluation.sweep import curve, narrowed

    parameters = sweep.saved.provenance.parameters
    read = {name: int(getattr(asked, name) or parameters[name]) for name in ("entities", "mentions")}
    for name, most in read.items():
        for number in [n for n in NUMBERS if n < most] + [most]:
            saved, source = (
                replace(side, readings=list(narrowed(side.readings, **{name: number})))
                for side in (sweep.saved, sweep.dev or sweep.saved)
            )
            best = _best(sweep, source, asked.choose_by)
            (point,) = curve(sweep.linker, saved.readings, saved.samples, [best.threshold])
            yield {**read, name: number, **point.to_json()}


def _origin(provenance: Provenance) -> dict[str, Any]:
    names = ("data", "data_sha256", "model", "model_sha256", "kb", "kb_sha256", "parameters", "floor")
    return {name: getattr(provenance, name) for name in names}


def _title(saved: SavedPredictions) -> str:
    p = saved.provenance
    return f"{p.data} as read by {p.model} with {p.kb}, mode {p.mode}; the model did not run again"


def _choice_line(choice: Choice) -> str:
    if choice.f1 is None:
        return f"threshold {choice.threshold:g}: {choice.source}"
    if choice.same_file:
        return (
            f"threshold {choice.threshold:g}: chosen on the same file it is reported on, so the figures flatter; "
            "choose it on development readings: --dev OTHER.npz"
        )
    return f"threshold {choice.threshold:g}: chosen on {choice.source}, where F1 is {choice.f1:.4f}"


_SECTIONS: tuple[tuple[bool, Matching], ...] = ((True, "weak"), (True, "strong"), (False, "weak"), (False, "strong"))


def _table(points: Sequence[CurvePoint], choice: Choice) -> str:
    """Precision, recall and F1 by threshold; the chosen one is marked."""
    names = [f"{'covered' if covered else 'all'} {matching}" for covered, matching in _SECTIONS]
    lines = [f"{'':>11}" + "".join(f"  {name:^20}" for name in names)]
    lines.append(f"{'threshold':>11}" + f"  {'P':>6} {'R':>6} {'F1':>6}" * len(names))
    for point in _thinned(points, choice.threshold):
        found = [point.point(matching, covered=covered) for covered, matching in _SECTIONS]
        cells = "".join(f"  {p.precision:>6.4f} {p.recall:>6.4f} {p.f1:>6.4f}" for p in found)
        mark = "->" if point.threshold == choice.threshold else ""
        lines.append(f"{mark:<2}{point.threshold:>9g}{cells}")
    return "\n".join(lines)


def _thinned(points: Sequence[CurvePoint], kept: float) -> list[CurvePoint]:
    step = -(-len(points) // ROWS)
    return [p for i, p in enumerate(points) if i % step == 0 or p.threshold == kept]


def _width_table(widths: Sequence[dict[str, Any]], matching: Matching) -> str:
    names = [f"{'covered' if covered else 'all'} {m}" for covered, m in _SECTIONS]
    head = "".join(f"  {name + ' F1':>17}" for name in names)
    lines = [f"{'candidates':>10}  {'mentions':>8}  {'threshold':>9}{head}   (each at its best threshold, by {matching} F1)"]
    for row in widths:
        cells = "".join(f"  {row['covered' if covered else 'all'][m]['f1']:>17.4f}" for covered, m in _SECTIONS)
        lines.append(f"{row['entities']:>10}  {row['mentions']:>8}  {row['threshold']:>9g}{cells}")
    return "\n".join(lines)


def _draw(folder: Path, points: Sequence[CurvePoint], choice: Choice, sweep: _Sweep) -> None:
    from blink.evaluation.plots import draw_curves
    from blink.evaluation.sweep import curve

    saved = sweep.saved
    (chosen,) = curve(sweep.linker, saved.readings, saved.samples, [choice.threshold])
    folder.mkdir(parents=True, exist_ok=True)
    source = "same file" if choice.same_file else Path(choice.source).name
    draw_curves(folder, points, chosen, f"{saved.provenance.data}, {saved.provenance.mode}", source)
