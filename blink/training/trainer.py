"""Training of a linker: mention detection and retrieval, with frozen or trained entity vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.sweep import SweepPoint
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.runs.folder import RunFolder
from blink.runs.learner import TrainerState
from blink.runs.loop import Loop
from blink.runs.processes import AcceleratorGroup
from blink.runs.progress import Progress
from blink.runs.provenance import provenance
from blink.runs.trackers import NONE, tracking
from blink.training.data.epochs import Epochs, Rank
from blink.training.data.synthetic import Synthesizer
from blink.training.launch import make_accelerator, precision_note, with_precision
from blink.training.learner import LinkerLearner, point_of
from blink.training.settings import MUTABLE_ON_RESUME, TrainSettings
from blink.training.step.negatives import NegativeSource
from blink.training.step.stepper import Stepper, freeze_layers
from blink.training.step.towers import EntityVectors, LearningVectors, StoredVectors, prepare_towers
from blink.training.validation import Validation

CHANGED_BY_A_RUN = ("threshold", "candidate_fingerprint")
"""Settings of a model that training changes."""


class Trainer:
    """Trains a model on labelled questions against the entities of a knowledge base.

    Args:
        model: the model, trainable; changed in place.
        kb: knowledge base with vectors of the model's candidate encoder.
        questions: labelled texts, bound to the catalogue's rows; a `MentionStore` is read batch by batch.
        dev: sets of labelled texts, whose mean F1 selects the best epoch and the threshold.
        folder: the run's folder: settings, ``trace.jsonl``, curves, checkpoints, last and best model.
        settings: see `TrainSettings`; for the precision of a run to resume, see `with_precision`.
        synthesizer: generates the synthetic texts of ``settings.mix``.
        device: of the training; with several processes, each uses its own device of that type.
        sources: files of the texts. The trace holds their hashes, and a resumed run needs the same contents, in the same
            order.

    Attributes:
        learner: model, batches and validation.
        loop: runs the learner.

    Raises:
        SettingsError: the model, knowledge base or device does not support the settings.
        MismatchError: the vectors are those of another model.
    """

    def __init__(
        self,
        model: BiEncoder,
        kb: KnowledgeBase,
        questions: Sequence[Sample],
        dev: Sequence[Sequence[Sample]],
        folder: Path,
        settings: TrainSettings,
        *,
        synthesizer: Synthesizer | None = None,
        device: torch.device | None = None,
        sources: Sequence[Path] = (),
    ) -> None:
        self.learns_entities = settings.entity_tower != "frozen"
        _require_fit(model, kb, self.learns_entities)
        device = device or torch.device("cpu")
        settings = with_precision(settings, device)
        self.model, self.kb, self.folder, self.settings = model, kb, folder, settings
        identity = {**settings.to_dict(), "model": _without(model.config.to_dict(), CHANGED_BY_A_RUN)}
        self.accelerator = make_accelerator(settings, device, folder)
        self._prepare_model()
        epochs = Epochs(questions, settings, synthesizer, model.tokenizer, model.config.max_context_length)
        stepper = self._make_stepper(epochs.steps * settings.epochs)
        self.learner = LinkerLearner(
            stepper,
            epochs,
            self._make_negatives(stepper),
            Validation(model, kb, dev, folder, self.accelerator.device, self.learns_entities),
            Rank(self.accelerator.process_index, self.accelerator.num_processes, settings.accumulation),
            folder,
        )
        run = provenance(sources, self.accelerator.device, self.accelerator.num_processes)
        self.loop = Loop(
            self.learner,
            RunFolder(folder, identity, MUTABLE_ON_RESUME),
            {**run, "catalogue": kb.catalogue.sha256},
            processes=AcceleratorGroup(self.accelerator),
        )

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.learner.total_steps

    @property
    def state(self) -> TrainerState:
        """Progress of the run."""
        return self.loop.state

    @property
    def best(self) -> SweepPoint | None:
        """The best validation so far."""
        return point_of(self.state.best) if self.state.best else None

    def run(self, *, resume: bool = False, progress: Progress | None = None) -> SweepPoint:
        """Train to the end, and store the model that is best on ``dev``, with its threshold.

        Args:
            resume: continue from the folder's newest checkpoint; the weights equal those of an uninterrupted run.
            progress: hooks for a progress bar.

        Returns:
            precision, recall and F1 of the best validation at its threshold.

        Raises:
            Interrupted: a signal stopped the run; its state is saved.
            SettingsError: a loss is NaN or infinite; the message names the batch.
            MismatchError: the folder's run has other settings or files.
        """
        self.loop.progress = progress or Progress()
        self.loop.progress.say(precision_note(self.settings.precision, self.accelerator.device))
        tracker = self.settings.tracker if self.accelerator.is_main_process else NONE
        with tracking(tracker, self.folder, self.settings.flat(), resumed=resume, validation="dev_") as self.loop.loggers:
            state = self.loop.run(resume=resume)
        return point_of(state.best)

    def _prepare_model(self) -> None:
        assert self.model.context_encoder is not None
        self.model.to(self.accelerator.device)
        freeze_layers(self.model.context_encoder, self.settings.train_layers)
        prepare_towers(self.model, self.settings.entity_tower)
        self.model.to(self.accelerator.device)  # adapters are new
        if self.accelerator.device.type == "cpu":
            # The backward pass of the fused attention takes three times as long there.
            self.model.context_encoder.set_attn_implementation("eager")  # type: ignore[operator]
        if self.settings.dropout is not None:
            _set_dropout(self.model, self.settings.dropout)
        if self.settings.gradient_checkpointing:
            for tower in (self.model.context_encoder, self.model.candidate_encoder):
                if tower is not None and any(p.requires_grad for p in tower.parameters()):
                    _checkpoint_activations(tower)

    def _make_stepper(self, total_steps: int) -> Stepper:
        settings, device = self.settings, self.accelerator.device
        vectors: EntityVectors
        if self.learns_entities:
            chunk = settings.batch_size if settings.accumulation > 1 else 0
            vectors = LearningVectors(self.model, self.kb.catalogue, self.accelerator, chunk)
        else:
            assert self.kb.vectors is not None
            vectors = StoredVectors(np.asarray(self.kb.vectors), device)
        catalogue = None
        if not self.learns_entities and "catalogue" in settings.objective:
            dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
            with warnings.catch_warnings():  # torch warns about read-only maps, which are never written here
                warnings.simplefilter("ignore", UserWarning)
                catalogue = torch.from_numpy(np.asarray(self.kb.vectors, dtype=np.float32)).to(device, dtype)
        return Stepper(self.model, self.accelerator, settings, vectors, catalogue, total_steps)

    def _make_negatives(self, stepper: Stepper) -> NegativeSource | None:
        modes = [objective.mined for objective in stepper.objectives if objective.mined]
        if not modes:
            return None
        return NegativeSource(stepper, self.kb, modes[0], self.settings, learns_entities=self.learns_entities)


def _require_fit(model: BiEncoder, kb: KnowledgeBase, learns_entities: bool) -> None:
    if model.context_encoder is None or model.mention_scorer is None:
        raise SettingsError("training needs a context encoder and a mention head; give --model an encoder or a whole model")
    if learns_entities:
        if model.candidate_encoder is None:
            raise SettingsError(
                "the settings train the entity tower, and the model was loaded without it; load it with candidate=True"
            )
        return
    kb.require_model(model.config.candidate_fingerprint)
    if kb.vectors is None:
        raise SettingsError("training needs the vectors of a knowledge base; build one with `blink kb build`")


def _without(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    new = "activation_checkpointing_enable"  # older releases have the other name only
    enable = getattr(tower, new if hasattr(tower, new) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False})


def _set_dropout(model: torch.nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        elif hasattr(module, "dropout_prob"):
            setattr(module, "dropout_prob", probability)  # noqa: B010 - a plain attribute, which types of modules hide
