"""The training loop: a context encoder learns to propose mentions and to meet frozen entity vectors."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blink.data.records import Sample
from blink.errors import MismatchError, SettingsError
from blink.evaluation.sweep import THRESHOLDS, SweepPoint, best_point, sweep
from blink.files import atomic_open, read_json, write_json
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.heads import SpanScores
from blink.training.examples import Batch, Example, batches, examples_from
from blink.training.losses import catalogue_loss, span_loss
from blink.training.settings import TrainSettings, parse_mix
from blink.training.synthetic import Synthesizer, mixed

TRACE_FILE = "trace.jsonl"
STATE_FILE = "training_state.pt"
SETTINGS_FILE = "settings.json"
BEST_FOLDER = "best"
LAST_FOLDER = "last"


@dataclass
class Progress:
    """Hooks for a progress bar: ``start`` gets the total steps and those already done, ``step`` the losses of each."""

    start: Callable[[int, int], None] = lambda total, done: None
    step: Callable[[dict[str, float]], None] = lambda losses: None
    evaluated: Callable[[int, SweepPoint], None] = lambda epoch, point: None


class Trainer:
    """Trains a model on labelled questions against the vectors of a knowledge base.

    Args:
        model: the model, trainable; changed in place.
        kb: knowledge base whose vectors the model's candidate encoder made.
        questions: labelled texts, bound to the catalogue's rows.
        dev: labelled texts on which the best epoch and the threshold are chosen.
        folder: the run's folder: settings, ``trace.jsonl``, last and best model.
        settings: see `TrainSettings`.
        synthesizer: makes the texts that ``settings.mix`` asks for beside the questions.
        device: where to train.
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
    ) -> None:
        kb.require_model(model.config.candidate_fingerprint)
        if kb.vectors is None:
            raise SettingsError("training needs the vectors of a knowledge base; build one with `blink kb build`")
        self.model, self.kb, self.questions, self.dev = model, kb, questions, dev
        self.folder, self.settings, self.synthesizer = folder, settings, synthesizer
        self.device = device or torch.device("cpu")
        model.to(self.device)
        self.entities = torch.from_numpy(np.asarray(kb.vectors, dtype=np.float32)).to(self.device, torch.bfloat16)
        if settings.dropout is not None:
            _set_dropout(model, settings.dropout)
        self.mix = parse_mix(settings.mix)
        self.steps_per_epoch = math.ceil(len(self._epoch(0)) / settings.batch_size)
        self.optimizer = self._make_optimizer()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.best: SweepPoint | None = None

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    def run(self, *, resume: bool = False, progress: Progress | None = None) -> SweepPoint:
        """Train to the end; keep the epoch that is best on ``dev``, with its threshold.

        Args:
            resume: go on from the folder's last finished epoch, to the weights an undisturbed run gives.
            progress: hooks for a progress bar.

        Returns:
            the best epoch's point on the threshold sweep.
        """
        progress = progress or Progress()
        self.folder.mkdir(parents=True, exist_ok=True)
        done = self._resume() if resume else 0
        if not done:
            write_json(self.folder / SETTINGS_FILE, dataclasses.asdict(self.settings))
            (self.folder / TRACE_FILE).unlink(missing_ok=True)
        progress.start(self.total_steps, done * self.steps_per_epoch)
        for epoch in range(done, self.settings.epochs):
            self._train_epoch(epoch, progress)
            self._finish_epoch(epoch, progress)
        assert self.best is not None  # there is at least one epoch, or the state that was resumed holds a best one
        return self.best

    def _train_epoch(self, epoch: int, progress: Progress) -> None:
        self.model.train()
        examples = self._epoch(epoch)
        order = np.random.default_rng([self.settings.seed, epoch])
        started, sums = time.perf_counter(), {"entity": 0.0, "span": 0.0}
        for number, batch in enumerate(batches(examples, self.settings.batch_size, self.model.pieces.pad_id, order)):
            # Dropout follows from the step alone, so a resumed run draws what an undisturbed one draws.
            torch.manual_seed(self.settings.seed * 1_000_003 + epoch * self.steps_per_epoch + number)
            losses = self._step(batch.to(self.device))
            sums = {k: sums[k] + v for k, v in losses.items()}
            progress.step(losses)
        mean = {f"{k}_loss": v / self.steps_per_epoch for k, v in sums.items()}
        self._trace({"epoch": epoch, "steps": self.steps_per_epoch, "seconds": time.perf_counter() - started, **mean})

    def _step(self, batch: Batch) -> dict[str, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
            hidden = self.model.encode_context(batch.ids, batch.mask)
        scores: SpanScores = self.model.score_spans(hidden.float(), batch.mask)
        mentions = self.model.embed_mentions(hidden.float(), batch.text, batch.start, batch.end)
        entity, span = catalogue_loss(mentions, batch.rows, self.entities), span_loss(scores, batch)
        loss = entity + span
        if not torch.isfinite(loss):
            raise SettingsError(
                f"the loss is {loss.item()} at a batch that begins {batch.ids[0, :12].tolist()}; lower --learning_rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trainable(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        return {"entity": entity.item(), "span": span.item()}

    def _finish_epoch(self, epoch: int, progress: Progress) -> None:
        point = self.validate()
        if self.best is None or point.f1 > self.best.f1:
            self.best = point
            self.model.config = self.model.config.replace(threshold=point.threshold)
            self.model.save_pretrained(self.folder / BEST_FOLDER)
        self.model.save_pretrained(self.folder / LAST_FOLDER)
        self._save_state(epoch + 1)
        self._trace({"epoch": epoch, **dataclasses.asdict(point)})
        progress.evaluated(epoch, point)

    def validate(self) -> SweepPoint:
        """Covered weak F1 on ``dev`` at the threshold that is best there."""
        self.model.eval()
        linker = Linker(self.model, self.kb, precision="fp32", device=str(self.device))
        readings = list(linker.read([s.text for s in self.dev], floor=min(THRESHOLDS)))
        return best_point(sweep(linker, readings, self.dev))

    def _epoch(self, epoch: int) -> list[Example]:
        samples = mixed(self.questions, self.mix, self.synthesizer, self.settings.seed + epoch)
        return examples_from(samples, self.model.pieces, self.model.config.max_context_length)

    def _trainable(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                rate = self.settings.learning_rate if name.startswith("context_encoder.") else self.settings.head_learning_rate
                decay = self.settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW([{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()])

    def _rate(self, step: int) -> float:
        # Counted from 1, so that neither the first step nor the last has a rate of 0, however short the run.
        warm = max(1, round(self.settings.warmup * self.total_steps))
        return min((step + 1) / warm, (self.total_steps - step) / max(1, self.total_steps - warm + 1), 1.0)

    def _save_state(self, epochs_done: int) -> None:
        state = {
            "epochs_done": epochs_done,
            "model": {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"last_epoch": self.scheduler.last_epoch},
            "best": None if self.best is None else dataclasses.asdict(self.best),
        }
        with atomic_open(self.folder / STATE_FILE, "wb") as f:
            torch.save(state, f)

    def _resume(self) -> int:
        path = self.folder / STATE_FILE
        if not path.is_file():
            return 0
        stored = read_json(self.folder / SETTINGS_FILE)
        if stored != dataclasses.asdict(self.settings):
            changed = ", ".join(k for k, v in dataclasses.asdict(self.settings).items() if stored.get(k) != v)
            raise MismatchError(
                f"{self.folder} was begun with other settings ({changed}); give the same ones, or another folder"
            )
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.last_epoch = state["scheduler"]["last_epoch"]
        for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["lr"] = base * self._rate(self.scheduler.last_epoch)
        self.best = None if state["best"] is None else SweepPoint(**state["best"])
        return int(state["epochs_done"])

    def _trace(self, row: dict[str, Any]) -> None:
        with (self.folder / TRACE_FILE).open("a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")


def _set_dropout(model: torch.nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        elif hasattr(module, "dropout_prob"):
            setattr(module, "dropout_prob", probability)  # noqa: B010 - a plain attribute, which types of modules hide
