"""The loop of a run: steps, validations, the best state, checkpoints; killed anywhere, it goes on to the same numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from blink.errors import SettingsError
from blink.kglm.config import choice
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES, Schedule
from blink.kglm.lm.tasks import Task
from blink.kglm.run import Cost, Progress, RunFolder, require_finite, seed_for
from blink.runs.signals import Interrupted, stop_signals

RULES = ("loss", "perplexity", "accuracy")
OWNERS = {"words": (), "cells": (), "language": (LANGUAGE,), "classifier": (TRIPLES,), "tables": (TRIPLES,)}
"""Part of the network -> the task whose learning rate it has; parts that are shared have that of the step's tasks."""


@dataclass(frozen=True)
class Training:
    """How a run learns.

    Attributes:
        seed: of dropout and sampled words; orders have their own.
        epochs: of the schedule.
        rates: learning rate of each task; a summed step has their mean by the losses' weights, where parts are shared.
        clip: largest norm of a step's gradient; 0 clips nothing.
        save_steps: steps between two checkpoints.
        log_steps: steps between two rows of the trace.
        every: epochs between two validations.
        patience: validations without a better one that end the run; 0 never.
        delta: a score must be better by more than this.
        rule: what the best state is chosen by: ``loss`` (the weighted sum of the tasks' losses on the validation data, as
            ``alpha`` weighs them), ``perplexity`` or ``accuracy``.
        keep_both: keep the states of lowest perplexity and of highest accuracy too, as the original did.
    """

    seed: int = 0
    epochs: int = 30
    rates: Mapping[str, float] = field(default_factory=lambda: {LANGUAGE: 1e-3, TRIPLES: 1e-3})
    clip: float = 5.0
    save_steps: int = 500
    log_steps: int = 20
    every: int = 1
    patience: int = 0
    delta: float = 0.0
    rule: str = "loss"
    keep_both: bool = False

    def __post_init__(self) -> None:
        choice("validation.choose", self.rule, RULES)
        if min(self.epochs, self.save_steps, self.log_steps, self.every) < 1 or min(self.clip, self.patience, self.delta) < 0:
            raise SettingsError(
                "epochs and steps between saves, rows and validations must be at least 1; clip, patience, delta 0"
            )
        if min(self.rates.values()) <= 0:
            raise SettingsError(f"learning rates are {dict(self.rates)}; they must be above 0")


@dataclass(frozen=True)
class Scores:
    """What a validation found, of the tasks that learn.

    Attributes:
        nats: mean loss per word; None without text.
        loss: mean loss per triple; None without triples.
        accuracy: of the classifier; None without triples.
        row: all figures, for the trace.
    """

    nats: float | None
    loss: float | None
    accuracy: float | None
    row: Mapping[str, Any]


@dataclass
class Counters:
    """How far a run is; all of it is in the checkpoint.

    Attributes:
        step: steps taken.
        epoch: number of the epoch that steps are of, from 0.
        place: steps of that epoch that are taken.
        own: steps of each task.
        pending: the epoch is at its end and its validation is not done.
        best: by each rule that is kept, the score (lower is better) and the step of the best state.
        waited: validations since the best one.
        sums: of the epoch's losses by task, and how many.
    """

    step: int = 0
    epoch: int = 0
    place: int = 0
    own: dict[str, int] = field(default_factory=lambda: {LANGUAGE: 0, TRIPLES: 0})
    pending: bool = False
    best: dict[str, list[float]] = field(default_factory=dict)
    waited: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)


class Trainer:
    """Trains a model.

    Args:
        model: what learns, on its device.
        tasks: by name.
        schedule: which learns when.
        training: how.
        folder: of the run.
        validate: measures the model as it is.
        save_best: writes the model as it is to a folder of that name, with these figures.
        digest: of the vocabulary; a state of another is refused.

    Attributes:
        optimizer: one Adam over all parts; what has no gradient in a step stays as it is, moments included.
        at: how far the run is.
    """

    def __init__(
        self,
        model: KGLanguageModel,
        tasks: Mapping[str, Task],
        schedule: Schedule,
        training: Training,
        folder: RunFolder,
        *,
        validate: Callable[[], Scores],
        save_best: Callable[[str, Mapping[str, Any]], None],
        digest: str,
    ) -> None:
        self.model, self._tasks, self._schedule, self._how, self._folder = model, tasks, schedule, training, folder
        self._validate, self._save_best, self._digest = validate, save_best, digest
        self._parts = [name for name, _ in model.groups()]
        groups = [{"params": list(parameters)} for _, parameters in model.groups()]
        self.optimizer = torch.optim.Adam(groups, lr=training.rates[LANGUAGE], fused=True)
        self.at, self._cost, self._clock = Counters(), Cost(), _Clock()
        if training.rule == "perplexity" and LANGUAGE not in schedule.tasks:
            raise SettingsError("validation.choose is perplexity, and no text is learned; take accuracy or loss")
        if training.rule == "accuracy" and TRIPLES not in schedule.tasks:
            raise SettingsError("validation.choose is accuracy, and no triples are learned; take perplexity or loss")

    def state(self) -> dict[str, Any]:
        """All that the run goes on from."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "at": dict(vars(self.at)),
            "vocabulary": self._digest,
            "cost": self._cost.row(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave.

        Raises:
            SettingsError: it is of another vocabulary.
        """
        if state["vocabulary"] != self._digest:
            raise SettingsError(
                f"{self._folder.path} was begun with another vocabulary; bring its texts back, or begin a new run"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.at, self._cost = Counters(**state["at"]), Cost.from_row(state["cost"])

    def run(self, progress: Progress) -> dict[str, Any]:
        """Train to the end.

        Returns:
            what the run has cost, and its speeds since it was last begun.

        Raises:
            Interrupted: a signal ended the run; its state is saved.
            NotFinite: a loss is no number.
        """
        progress.start(self._schedule.steps(self._how.epochs), self.at.step)
        self._clock = _Clock()
        with stop_signals() as signals:
            if self.at.pending:
                self._close_epoch(progress)
            while not self.done:
                self._step(progress)
                ended = self.at.place == len(self._schedule.epoch(self.at.epoch))
                if ended:
                    self.at.pending = True
                    if not signals.received:
                        self._close_epoch(progress)
                elif self.at.step % self._how.save_steps == 0 and not signals.received:
                    self._save()
                if signals.received:
                    self._save()
                    raise Interrupted(f"interrupted after step {self.at.step}", signals.received)
        return {"cost": self._cost.row(), "speed": self._clock.speeds()}

    @property
    def done(self) -> bool:
        """Whether the run is at its end."""
        how = self._how
        return self.at.epoch >= how.epochs or bool(how.patience and self.at.waited >= how.patience and not self.at.pending)

    def _save(self) -> None:
        self._folder.save(self.at.step, self.state())

    def _step(self, progress: Progress) -> None:
        """One step of the plan: gradients of its tasks, clipped together, and the optimiser."""
        names = self._schedule.epoch(self.at.epoch)[self.at.place]
        began = time.perf_counter()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = {name: self._gradients(name) for name in names}
        if self._how.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._how.clip)
        rates = self._set_rates(names)
        self.optimizer.step()
        self._clock.end_step(time.perf_counter() - began)
        self.at.step, self.at.place = self.at.step + 1, self.at.place + 1
        for name, loss in losses.items():
            self.at.own[name] += 1
            total, count = self.at.sums.get(name, (0.0, 0))
            self.at.sums[name] = [total + loss, count + 1]
        speeds = self._clock.speeds()
        if self.at.step % self._how.log_steps == 0:
            row = {"step": self.at.step, "epoch": self.at.epoch, **losses, "rate": max(rates), **speeds}
            self._folder.trace.add("step", row)
        progress.step({**losses, **speeds})

    def _gradients(self, name: str) -> float:
        """Add the gradient of a task's loss. Chance follows from run, task and the task's own step, never from the other's."""
        began, device = time.perf_counter(), next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed_for(self._how.seed, "chance", name, self.at.own[name]))
            loss = self._tasks[name].loss(self.at.own[name])
            (loss.value * self._schedule.weight(name)).backward()
        value = float(loss.value.detach())
        require_finite(value, f"step {self.at.step + 1} ({name})")
        self._clock.note(self._tasks[name].unit, loss.units, time.perf_counter() - began)
        return value

    def _set_rates(self, names: tuple[str, ...]) -> list[float]:
        rates = []
        for part, group in zip(self._parts, self.optimizer.param_groups, strict=True):
            tasks = [name for name in OWNERS[part] if name in names] or names
            weights = [self._schedule.weight(name) for name in tasks]
            group["lr"] = sum(w * self._how.rates[n] for w, n in zip(weights, tasks, strict=True)) / sum(weights)
            rates.append(float(group["lr"]))
        return rates

    def _close_epoch(self, progress: Progress) -> None:
        """End an epoch: its mean losses, perhaps a validation, a checkpoint."""
        number = self.at.epoch
        means = {name: total / count for name, (total, count) in self.at.sums.items()}
        self._folder.trace.add("epoch", {"step": self.at.step, "epoch": number, **means})
        if (number + 1) % self._how.every == 0 or number + 1 == self._how.epochs:
            self._check(progress)
        self.at.epoch, self.at.place, self.at.sums, self.at.pending = number + 1, 0, {}, False
        self._save()

    def _check(self, progress: Progress) -> None:
        """Validate; keep the state if it is the best by a rule."""
        scores = self._validate()
        row = {"step": self.at.step, "epoch": self.at.epoch, "updates": dict(self.at.own), **scores.row}
        better = [rule for rule in self._kept_rules() if self._is_better(rule, scores)]
        self._folder.trace.add("validation", {**row, "best": self._how.rule in better})
        self.at.waited = 0 if self._how.rule in better else self.at.waited + 1
        for rule in better:
            self._save_best(rule, row)
        shown = "  ".join(f"{k} {v:.4g}" for k, v in scores.row.items() if isinstance(v, float))
        progress.say(f"epoch {self.at.epoch + 1}: {shown}{'  (best)' if self._how.rule in better else ''}")

    def _kept_rules(self) -> list[str]:
        both = [r for r, task in (("perplexity", LANGUAGE), ("accuracy", TRIPLES)) if task in self._schedule.tasks]
        return [self._how.rule, *(rule for rule in both if self._how.keep_both and rule != self._how.rule)]

    def _is_better(self, rule: str, scores: Scores) -> bool:
        value = self.value(rule, scores)
        before = self.at.best.get(rule)
        if before is not None and not value < before[0] - self._how.delta:
            return False
        self.at.best[rule] = [value, self.at.step]
        return True

    def value(self, rule: str, scores: Scores) -> float:
        """What a rule makes of scores; lower is better."""
        if rule == "perplexity" and scores.nats is not None:
            return scores.nats
        if rule == "accuracy" and scores.accuracy is not None:
            return -scores.accuracy
        alpha = 0.5 if len(self._schedule.tasks) == 1 else self._schedule.alpha
        return (1 - alpha) * (scores.nats or 0.0) + alpha * (scores.loss or 0.0)


class _Clock:
    """Speeds of the tasks since it was made; what a step takes beside its gradients is shared among its tasks."""

    def __init__(self) -> None:
        self._units: dict[str, list[float]] = {}
        self._step: list[tuple[str, int, float]] = []

    def note(self, unit: str, units: int, seconds: float) -> None:
        """Add a gradient of the step."""
        self._step.append((unit, units, seconds))

    def end_step(self, seconds: float) -> None:
        """The step took so long in all."""
        gradients = sum(taken for _, _, taken in self._step)
        for unit, units, taken in self._step:
            before = self._units.get(unit, (0.0, 0.0))
            self._units[unit] = [before[0] + units, before[1] + seconds * taken / gradients]
        self._step = []

    def speeds(self) -> dict[str, float]:
        """Such as ``{"words/s": 5200.0}``."""
        return {f"{unit}/s": round(total / max(taken, 1e-9), 1) for unit, (total, taken) in self._units.items()}
