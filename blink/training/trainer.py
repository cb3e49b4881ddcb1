"""The training loop: a context encoder learns to propose mentions and to meet entity vectors, frozen or learning too."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object

from blink.data.records import Sample
from blink.errors import MismatchError, SettingsError
from blink.evaluation.sweep import SweepPoint
from blink.files import read_json, write_json
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, clear_checkpoints, load_checkpoint, save_checkpoint
from blink.runs.curves import CURVES_FILE, draw_curves
from blink.runs.provenance import provenance
from blink.runs.signals import Interrupted, StopSignals, stop_signals
from blink.runs.trace import Trace, read_trace
from blink.training.epochs import Epoch, Epochs, Share
from blink.training.launch import make_accelerator
from blink.training.negatives import NegativeSource
from blink.training.settings import FREE_TO_CHANGE, TrainSettings
from blink.training.steps import Stepper, freeze_layers
from blink.training.synthetic import Synthesizer
from blink.training.towers import EntityVectors, LearningVectors, StoredVectors, prepare_towers
from blink.training.validation import Validation

TRACE_FILE = "trace.jsonl"
SETTINGS_FILE = "settings.json"
BEST_FILE = "best.json"

NOT_OF_THE_START = ("threshold", "candidate_fingerprint")
"""Settings of a model that a run itself changes."""


@dataclass
class Progress:
    """Hooks for a progress bar: ``start`` gets the total steps and those already done, ``step`` the losses of each."""

    start: Callable[[int, int], None] = lambda total, done: None
    step: Callable[[dict[str, float]], None] = lambda losses: None
    evaluated: Callable[[int, SweepPoint], None] = lambda epoch, point: None


@dataclass
class Standing:
    """How far a run is.

    Attributes:
        step: steps done.
        pending: whether the validation after that step is still to be done.
        best: the best validation.
        stale: validations since it.
        sums: losses since the epoch began, and seconds.
    """

    step: int = 0
    pending: bool = False
    best: SweepPoint | None = None
    stale: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)

    def to_state(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Standing:
        """What `to_state` gave."""
        best = values["best"]
        return cls(**{**values, "best": None if best is None else SweepPoint(**best)})


class Trainer:
    """Trains a model on labelled questions against the entities of a knowledge base.

    Args:
        model: the model, trainable; changed in place.
        kb: knowledge base whose vectors the model's candidate encoder made.
        questions: labelled texts, bound to the catalogue's rows; a `MentionStore` is read batch by batch.
        dev: labelled texts on which the best epoch and the threshold are chosen.
        folder: the run's folder: settings, ``trace.jsonl``, curves, checkpoints, last and best model.
        settings: see `TrainSettings`.
        synthesizer: makes the texts that ``settings.mix`` asks for beside the questions.
        device: where to train; of several processes, each has a device of its own of that kind.
        sources: files that the texts come from; the trace notes their hashes, and a resumed run needs the same contents,
            in the same order.

    Raises:
        SettingsError: what the settings ask for is not to be had with this model, knowledge base or device.
        MismatchError: the vectors were made by another model.
    """

    def __init__(
        self,
        model: BiEncoder,
        kb: KnowledgeBase,
        questions: Sequence[Sample],
        dev: Sequence[Sample],
        folder: Path,
        settings: TrainSettings,
        *,
        synthesizer: Synthesizer | None = None,
        device: torch.device | None = None,
        sources: Sequence[Path] = (),
    ) -> None:
        self.learns_entities = settings.entity_tower != "frozen"
        _require_fit(model, kb, self.learns_entities)
        self.model, self.kb, self.sources = model, kb, sources
        self.folder, self.settings = folder, settings
        self._started_as = {k: v for k, v in model.config.to_dict().items() if k not in NOT_OF_THE_START}
        self.accelerator = make_accelerator(settings, device or torch.device("cpu"), folder)
        self._prepare_model()
        self.epochs = Epochs(questions, settings, synthesizer, model.tokenizer, model.config.max_context_length)
        self.stepper = self._make_stepper()
        self._share = Share(self.accelerator.process_index, self.accelerator.num_processes, settings.accumulation)
        self.validation = Validation(model, kb, dev, folder, self.accelerator.device, self.learns_entities)
        self._negatives = self._make_negatives()
        self._trace = Trace(folder / TRACE_FILE, self.accelerator.is_main_process)
        self.standing = Standing()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs.steps * self.settings.epochs

    @property
    def best(self) -> SweepPoint | None:
        """The best validation so far."""
        return self.standing.best

    def run(self, *, resume: bool = False, progress: Progress | None = None) -> SweepPoint:
        """Train to the end; keep the state that is best on ``dev``, with its threshold.

        Args:
            resume: go on from the folder's newest checkpoint, to the weights an undisturbed run gives.
            progress: hooks for a progress bar.

        Returns:
            the best validation's point on the threshold sweep.

        Raises:
            Interrupted: a signal asked the run to stop; its state is saved.
            SettingsError: a loss is no number; the batch is named.
            MismatchError: the folder's run was begun with other settings or files.
        """
        progress = progress or Progress()
        self._begin(resume)
        progress.start(self.total_steps, self.standing.step)
        with stop_signals() as signals:
            self._validate_pending(progress, signals)
            while self.standing.step < self.total_steps and not self._out_of_patience():
                epoch, number = divmod(self.standing.step, self.epochs.steps)
                self._train_step(self.epochs[epoch], epoch, number, progress)
                self._after_step(epoch, progress, signals)
        self._draw()
        if self.settings.tracker != "none":
            self.accelerator.end_training()
        assert self.standing.best is not None  # a run that is over has been validated
        return self.standing.best

    # -- setting up ----------------------------------------------------------------------------------------------

    def _prepare_model(self) -> None:
        assert self.model.context_encoder is not None
        self.model.to(self.accelerator.device)
        freeze_layers(self.model.context_encoder, self.settings.train_layers)
        prepare_towers(self.model, self.settings.entity_tower)
        self.model.to(self.accelerator.device)  # adapters are new
        if self.settings.dropout is not None:
            _set_dropout(self.model, self.settings.dropout)
        if self.settings.gradient_checkpointing:
            for tower in (self.model.context_encoder, self.model.candidate_encoder):
                if tower is not None and any(p.requires_grad for p in tower.parameters()):
                    _keep_few_layers(tower)

    def _make_stepper(self) -> Stepper:
        settings, device = self.settings, self.accelerator.device
        vectors: EntityVectors
        if self.learns_entities:
            chunk = settings.batch_size if settings.accumulation > 1 else 0
            vectors = LearningVectors(self.model, self.kb.catalogue, self.accelerator, chunk)
        else:
            assert self.kb.vectors is not None
            vectors = StoredVectors(self.kb.vectors, device)
        catalogue = None
        if not self.learns_entities and "catalogue" in settings.objective:
            kind = torch.bfloat16 if settings.precision == "bf16" else torch.float32
            catalogue = torch.from_numpy(np.asarray(self.kb.vectors, dtype=np.float32)).to(device, kind)
        return Stepper(self.model, self.accelerator, settings, vectors, catalogue, self.total_steps)

    def _make_negatives(self) -> NegativeSource | None:
        modes = [o.mined for o in self.stepper.objectives if o.mined]
        if not modes:
            return None
        return NegativeSource(self.stepper, self.kb, modes[0], self.settings, learns_entities=self.learns_entities)

    def _begin(self, resume: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        about = provenance(self.sources, self.kb.catalogue.sha256, self.accelerator.device, self.accelerator.num_processes)
        state = load_checkpoint(self.folder / CHECKPOINTS_FOLDER) if resume else None
        if state is not None:
            self._require_same(about)
            self._restore(state)
            self._trace.go_on(self.standing.step, about, pending=self.standing.pending)
        elif self.accelerator.is_main_process:
            clear_checkpoints(self.folder / CHECKPOINTS_FOLDER)
            write_json(self.folder / SETTINGS_FILE, self._to_compare())
            self._trace.begin(about)
        self.accelerator.wait_for_everyone()
        if self.settings.tracker != "none":
            plain = {k: v for k, v in self.settings.to_dict().items() if v is not None}
            self.accelerator.init_trackers("tensorboard", config=plain)

    def _to_compare(self) -> dict[str, Any]:
        return {**self.settings.to_dict(), "model": self._started_as}

    def _require_same(self, about: dict[str, Any]) -> None:
        stored, own = read_json(self.folder / SETTINGS_FILE), self._to_compare()
        changed = [k for k, v in own.items() if k not in FREE_TO_CHANGE and stored.get(k) != v]
        if "model" in changed:
            changed += [f"model.{k}" for k, v in own["model"].items() if stored.get("model", {}).get(k) != v]
        changed += _other_data(self._trace.first(), about)
        if changed:
            found = f"{self.folder} was begun with other settings or files ({', '.join(changed)})"
            raise MismatchError(f"{found}; give the same ones, or another folder")

    def _restore(self, state: dict[str, Any]) -> None:
        self.stepper.load_state(state)
        self.standing = Standing.from_state(state["standing"])
        if self._negatives is not None:
            self._negatives.load_state(state["negatives"])
        if self.standing.best is not None:
            self.model.config = self.model.config.replace(threshold=self.standing.best.threshold)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _train_step(self, epoch: Epoch, place: int, number: int, progress: Progress) -> None:
        started, step = time.perf_counter(), self.standing.step
        self.model.train()
        parts = epoch.parts(number, self._share)
        if self._negatives is not None:
            parts = self._negatives.add(parts, step, number, lambda n: epoch.parts(n, self._share), len(epoch))
        losses = self.stepper.step(step, parts, f"epoch {place + 1}, step {number + 1}")
        self.standing.step += 1
        spent = {**losses, "seconds": time.perf_counter() - started}
        self.standing.sums = {k: self.standing.sums.get(k, 0.0) + v for k, v in spent.items()}
        if step % self.settings.log_steps == 0 or self.standing.step == self.total_steps:
            row = {**losses, "rate": self.settings.learning_rate * self.stepper.rate(step)}
            self._trace.add("step", {"step": self.standing.step, **row})
            if self.settings.tracker != "none":
                self.accelerator.log(row, step=self.standing.step)
        progress.step(losses)

    def _after_step(self, epoch: int, progress: Progress, signals: StopSignals) -> None:
        step, every = self.standing.step, self.settings
        ended = step % self.epochs.steps == 0
        if ended:
            self._note_epoch(epoch)
        self.standing.pending = ended or bool(every.eval_steps and step % every.eval_steps == 0)
        asked = self._asked_to_stop(signals)
        if asked or self.standing.pending or (every.save_steps and step % every.save_steps == 0):
            self._save()
        if asked:
            raise Interrupted(f"stopped after step {step} of {self.total_steps}, saved in {self.folder}", asked)
        self._validate_pending(progress, signals)

    def _note_epoch(self, epoch: int) -> None:
        sums, steps = self.standing.sums, self.epochs.steps
        means = {f"{name}_loss": sums[name] / steps for name in ("entity", "span")}
        row = {"epoch": epoch, "step": self.standing.step, "steps": steps, "seconds": sums["seconds"]}
        self._trace.add("epoch", {**row, **means})
        self.standing.sums = {}

    def _asked_to_stop(self, signals: StopSignals) -> int:
        if self.accelerator.num_processes == 1:
            return signals.received
        return max(gather_object([signals.received]))

    def _save(self) -> None:
        negatives = None if self._negatives is None else self._negatives.state()  # of all processes
        if self.accelerator.is_main_process:
            state = {**self.stepper.state(), "standing": self.standing.to_state(), "negatives": negatives}
            save_checkpoint(self.folder / CHECKPOINTS_FOLDER, self.standing.step, state)
        self.accelerator.wait_for_everyone()

    # -- validation ----------------------------------------------------------------------------------------------

    def _validate_pending(self, progress: Progress, signals: StopSignals) -> None:
        if not self.standing.pending:
            return
        signals.urgent = True  # the step before is saved; a validation is done again
        try:
            self._validate(progress)
        except Interrupted as stop:
            message = f"stopped while validating step {self.standing.step} of {self.total_steps}, saved in {self.folder}"
            raise Interrupted(message, stop.signal) from stop
        finally:
            signals.urgent = False

    def _validate(self, progress: Progress) -> None:
        standing = self.standing
        point = self._scored()
        better = standing.best is None or point.f1 > standing.best.f1
        if better:
            standing.best = point
            self.model.config = self.model.config.replace(threshold=point.threshold)
        standing.pending, standing.stale = False, 0 if better else standing.stale + 1
        row = {"epoch": (standing.step - 1) // self.epochs.steps, "step": standing.step, **dataclasses.asdict(point)}
        if self.accelerator.is_main_process:
            ends = self.settings.keep_epochs and standing.step % self.epochs.steps == 0
            self.validation.store(best=better, epoch=self.settings.first_epoch + row["epoch"] if ends else None)
            if better:
                write_json(self.folder / BEST_FILE, row)
        self._trace.add("validation", row)
        self._draw()
        if self.settings.tracker != "none":
            self.accelerator.log({f"dev_{k}": v for k, v in dataclasses.asdict(point).items()}, step=standing.step)
        self._save()
        progress.evaluated(row["epoch"], point)

    def _scored(self) -> SweepPoint:
        points = [self.validation.score() if self.accelerator.is_main_process else None]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(points)
        assert points[0] is not None
        return points[0]

    def _out_of_patience(self) -> bool:
        return bool(self.settings.patience) and self.standing.stale >= self.settings.patience

    def _draw(self) -> None:
        if self.accelerator.is_main_process:
            draw_curves(
                read_trace(self._trace.path), ("entity", "span"), ("f1", "precision", "recall"), self.folder / CURVES_FILE
            )


def _require_fit(model: BiEncoder, kb: KnowledgeBase, learns_entities: bool) -> None:
    if model.context_encoder is None or model.mention_scorer is None:
        raise SettingsError("training needs a context encoder and a mention head; give --model an encoder or a whole model")
    if learns_entities:
        if model.candidate_encoder is None:
            raise SettingsError(
                "the entity tower is to learn, and the model was loaded without it; load it with candidate=True"
            )
        return
    kb.require_model(model.config.candidate_fingerprint)
    if kb.vectors is None:
        raise SettingsError("training needs the vectors of a knowledge base; build one with `blink kb build`")


def _other_data(first: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """What a run and its continuation read differently: files, which may have moved but keep their places, and the entities.

    Traces of older releases lack one or the other, which is then not compared.
    """
    own: dict[str, str] = about["files"]
    stored: dict[str, str] = first.get("files", own)
    common = set(stored.values()) & set(own.values())
    names = [name for files in (stored, own) for name, digest in files.items() if digest not in common]
    if not names:  # the same files; each has its part by its place
        moved = zip_longest(stored.items(), own.items(), fillvalue=("", ""))
        names = [f"{name or before} in another place" for (before, was), (name, digest) in moved if was != digest]
    other = first.get("catalogue", about["catalogue"]) != about["catalogue"]
    return [*dict.fromkeys(names), *(["the catalogue of the knowledge base"] if other else [])]


def _keep_few_layers(tower: torch.nn.Module) -> None:
    new = "activation_checkpointing_enable"  # older releases have the other name only
    enable = getattr(tower, new if hasattr(tower, new) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False})


def _set_dropout(model: torch.nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        elif hasattr(module, "dropout_prob"):
            setattr(module, "dropout_prob", probability)  # noqa: B010 - a plain attribute, which types of modules hide
