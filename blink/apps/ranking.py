"""What ``blink rank`` and ``blink calibrate`` do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar, say
from blink.apps.outputs import Outputs
from blink.apps.training import labelled_samples
from blink.data.records import Sample
from blink.errors import MismatchError, SettingsError
from blink.files import read_json, require_file
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import CONFIG_FILE, BiEncoder, store_settings
from blink.model.config import ModelConfig
from blink.training.settings import Fold, RankSettings, parse_fold, parse_mix

if TYPE_CHECKING:
    from blink.evaluation.calibration import Calibration
    from blink.training.fit.calibration import Calibrated
    from blink.training.fit.reranker import LabelledSpans
    from blink.training.synthetic import Synthesizer

MADE_SEED = 104_729
"""Made texts are drawn with another seed than those of training."""


@dataclass(frozen=True)
class RankRequest:
    """What ``blink rank`` was asked for, beside `RankSettings`; see its options."""

    models: Sequence[str]
    kb: str
    train_files: Sequence[str]
    folds: Sequence[str] = ()
    also: Sequence[str] = ()
    mix: str = "questions=1"
    triples: str | None = None
    damage: float = 0.15
    precision: str = "auto"


def rank_model(settings: RankSettings, request: RankRequest) -> None:
    """Fit a ranker and store it with each of the models."""
    from blink.training.fit.reranker import LabelledSpans, fit_reranker

    mix = _mix(request.mix)
    targets = [_model_folder(model) for model in request.models]
    base = KnowledgeBase.open(request.kb)
    # The folds read the texts, but the ranker is these models': that folds fit the knowledge base does not say that they do.
    for target in targets:
        base.require_model(read_json(target / CONFIG_FILE).get("candidate_fingerprint"))
    questions = [s for file in request.train_files for s in labelled_samples(file, base.catalogue)]
    makers = [_Maker.of(base, request, mix), *(_Maker.of(KnowledgeBase.open(kb), request, mix) for kb in request.also)]
    parts = []
    for folder, fold in _readers(request):
        mine = [s for s in questions if fold is None or s.id in fold]
        if not mine:
            raise SettingsError(f"{folder} left out no text of --train; give the files that it was trained on")
        parts += list(_gathered(folder, makers, mine, mix, request, settings))
    spans = LabelledSpans.concatenate(parts)
    say(f"{len(spans):,} spans, {int((spans.target >= 0).sum()):,} of them name an entity")
    with bar("fitting", settings.epochs * settings.members, "epoch") as shown:

        def fitted(loss: float) -> None:
            shown.advance()
            shown.note(f"loss {loss:.4f}")

        ranker = fit_reranker(spans, settings, fitted)
    for target in targets:
        ranker.save(target)
        config = ModelConfig.from_dict(read_json(target / CONFIG_FILE))
        store_settings(target, config.replace(cutoff=ModelConfig.cutoff))  # it was chosen for the ranker before
        say(f"the ranker is stored with {target}; next: blink calibrate {target} --on {request.kb} DEV.jsonl")


def _mix(text: str) -> dict[str, float]:
    """Made texts per question, and how often each question itself counts."""
    mix = parse_mix(text)
    if not mix.get("questions", 1.0).is_integer():
        raise SettingsError(
            f"--mix has questions={mix['questions']:g}; each counts a whole number of times, such as questions=1"
        )
    if "pseudo" in mix:
        raise SettingsError("blink rank takes no pseudo in --mix: a ranker learns from gold; leave pseudo out")
    return mix


def _readers(request: RankRequest) -> list[tuple[Path, Fold | None]]:
    """The models that read the questions, each with the part of them it was not trained on."""
    if not request.folds and len(request.models) > 1:
        raise SettingsError("several models are named and no --fold: who is to read the texts? Name the folds, or one model")
    if not request.folds:
        say("no --fold is named: the model reads the texts itself, which must not be those it was trained on")
        return [(Path(request.models[0]), None)]
    return [*fold_readers(request.folds)]


def fold_readers(folds: Sequence[str]) -> list[tuple[Path, Fold]]:
    """Models of run folders of `blink train --leave-out`, each with the part of the questions that it was not trained on.

    Raises:
        SettingsError: a run left nothing out.
    """
    readers = []
    for folder in map(Path, folds):
        settings = read_json(folder / "settings.json", f"{folder} must be the run folder of blink train --leave-out")
        fold = parse_fold(str(settings.get("leave_out", "")))
        if fold is None:
            raise SettingsError(f"{folder} left nothing out; train it with --leave-out, such as --leave-out 0/2")
        readers.append((folder / "best", fold))
    return readers


@dataclass(frozen=True)
class _Maker:
    """A knowledge base and what makes texts over it; None where the mixture asks for no made texts."""

    kb: KnowledgeBase
    synthesizer: Synthesizer | None

    @classmethod
    def of(cls, kb: KnowledgeBase, request: RankRequest, mix: Mapping[str, float]) -> _Maker:
        from blink.training.synthetic import Synthesizer, read_triples

        if not any(share for name, share in mix.items() if name != "questions"):
            return cls(kb, None)
        triples = read_triples(request.triples, kb.catalogue) if request.triples else []
        return cls(kb, Synthesizer(kb.catalogue, triples, (), damage=request.damage))

    def make(self, mix: Mapping[str, float], count: int, questions: Sequence[Sample]) -> list[Sample]:
        """Texts for ``count`` questions; where none of them are of this knowledge base, none with their entities swapped."""
        if self.synthesizer is None:
            return []
        sources = {name: share for name, share in mix.items() if name != "questions" and (questions or name != "swapped")}
        made = self.synthesizer.of_questions(questions)
        return [s for name, share in sources.items() for s in made.make(name, round(share * count), MADE_SEED)]


def _gathered(
    folder: Path,
    makers: Sequence[_Maker],
    questions: Sequence[Sample],
    mix: Mapping[str, float],
    request: RankRequest,
    settings: RankSettings,
) -> Iterator[LabelledSpans]:
    """What a model proposes in the questions, which are of the first knowledge base, and in texts made over each."""
    from blink.training.fit.reranker import labelled_spans

    model = BiEncoder.from_pretrained(_model_folder(folder))

    def read(kb: KnowledgeBase, texts: Sequence[Sample]) -> LabelledSpans:
        with bar(f"reading {kb.catalogue.path.parent.name}", len(texts), "text") as shown:
            return labelled_spans(model, kb, texts, floor=settings.floor, precision=request.precision, progress=shown.advance)

    for maker in makers:
        maker.kb.require_model(model.config.candidate_fingerprint)
    yield from [read(makers[0].kb, questions)] * int(mix.get("questions", 1.0))
    for maker in makers:
        if made := maker.make(mix, len(questions), questions if maker is makers[0] else []):
            yield read(maker.kb, made)


def calibrate_model(
    model: str, sets: Sequence[tuple[str, str]], precision: str, outputs: Outputs, plots: str | None = None
) -> None:
    """Calibrate a stored model's ranker on (knowledge base, mention file) pairs, and store cut-off and probabilities.

    Args:
        model: model folder.
        sets: folders of knowledge bases, and mention files.
        precision: of the encoder.
        outputs: where the figures go.
        plots: folder for pictures.
    """
    from blink.training.fit.calibration import DevSet, calibrate

    folder = _model_folder(model)
    outputs.check()
    if plots is not None and Path(plots).exists() and not Path(plots).is_dir():
        raise SettingsError(f"{plots} is a file; name a folder for the pictures")
    opened = {kb: KnowledgeBase.open(kb) for kb, _ in sets}
    chosen = [DevSet(opened[kb], labelled_samples(file, opened[kb].catalogue)) for kb, file in sets]
    loaded = BiEncoder.from_pretrained(folder)
    with bar("calibrating", sum(len(dev.samples) for dev in chosen), "text") as shown:
        found = calibrate(loaded, chosen, precision=precision, progress=shown.advance)
    if loaded.reranker is None:
        raise MismatchError(f"{folder} lost its ranker; fit it again: blink rank")
    loaded.reranker.save(folder)
    store_settings(folder, loaded.config)
    outputs.write(_figures(found), (), _report(found, len(sets)))
    if plots is not None:
        _draw(Path(plots), found.held_out, folder)


def _figures(found: Calibrated) -> dict[str, Any]:
    return {
        "scaling": {"scale": found.scaling.scale, "shift": found.scaling.shift},
        "cutoff": found.point.threshold,
        "weak_f1": found.point.f1,
        "held_out": found.held_out.to_json(),
        "held_out_links": found.held_out_links.to_json(),
    }


def _report(found: Calibrated, sets: int) -> str:
    held_out, point = found.held_out, found.point
    shown = found.held_out_links
    measured = (
        f"ECE {held_out.ece:.4f}, Brier {held_out.brier:.4f}, {held_out.count} links; "
        f"above the cut-off: ECE {shown.ece:.4f}, {shown.count} links"
    )
    mean = f" (mean of {sets} files)" if sets > 1 else ""
    return (
        f"scores are multiplied by {found.scaling.scale:.3f} and moved by {found.scaling.shift:+.3f}\n"
        f"fitted on one half, measured on the other: {measured}\n"
        f"cut-off {point.threshold:g}: weak F1 {point.f1:.4f}, mean of covered and all questions{mean}"
    )


def _draw(plots: Path, held_out: Calibration, model: Path) -> None:
    from blink.evaluation.plots import RELIABILITY_FILE, draw_reliability

    plots.mkdir(parents=True, exist_ok=True)
    draw_reliability(plots / RELIABILITY_FILE, held_out, f"Links of {model}, each half calibrated on the other")


def _model_folder(model: str | Path) -> Path:
    return require_file(Path(model) / CONFIG_FILE, f"{model} must be a model folder, as `blink train` writes it").parent
