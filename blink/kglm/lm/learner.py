"""How the language side learns: text and triples by turns or summed; the run resumes anywhere to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from blink.errors import SettingsError
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES, Schedule
from blink.kglm.lm.tasks import Task
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.runs.seeds import seed_for

OWNERS = {"words": (), "cells": (), "language": (LANGUAGE,), "classifier": (TRIPLES,), "tables": (TRIPLES,)}
"""Group of parameters -> the task whose learning rate it has; a group that is shared has that of the step's tasks."""


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
        if min(self.epochs, self.save_steps, self.log_steps, self.every) < 1 or min(self.clip, self.patience, self.delta) < 0:
            raise SettingsError(
                "epochs and steps between saves, rows and validations must be at least 1; clip, patience, delta 0"
            )
        if min(self.rates.values()) <= 0:
            raise SettingsError(f"learning rates are {dict(self.rates)}; they must be above 0")


class LanguageLearner(Learner):
    """Learns a language model, a triple classifier, or both.

    Args:
        model: what learns, on its device.
        tasks: by name.
        schedule: which learns when.
        training: how.
        validate: measures the model as it is; figures by name, with ``nats`` (mean loss per word) where text is learned, and
            ``loss`` (mean per triple) and ``accuracy`` where triples are.
        save_best: writes the model as it is to a folder of that name, with these figures.
        digest: of the vocabulary; a state of another is refused.

    Attributes:
        optimizer: one Adam over all groups of parameters; what has no gradient in a step stays as it is, moments included.
        task_steps: steps of each task.
        rules: by each rule that is kept, the value (lower is better) and the step of the best state.
    """

    curves = ((LANGUAGE, TRIPLES), ("nats", "loss", "accuracy"))
    advice = "lower the learning rate, and begin again"

    def __init__(
        self,
        model: KGLanguageModel,
        tasks: Mapping[str, Task],
        schedule: Schedule,
        training: Training,
        *,
        validate: Callable[[], Mapping[str, Any]],
        save_best: Callable[[str, Mapping[str, Any]], None],
        digest: str,
    ) -> None:
        self.model, self._tasks, self._schedule, self._training = model, tasks, schedule, training
        self._measure, self._save_best, self._digest = validate, save_best, digest
        self.patience, self.delta = training.patience, training.delta
        self._groups = [name for name, _ in model.groups()]
        groups = [{"params": list(parameters)} for _, parameters in model.groups()]
        self.optimizer = torch.optim.Adam(groups, lr=training.rates[LANGUAGE], fused=True)
        self.task_steps = {LANGUAGE: 0, TRIPLES: 0}
        self.rules: dict[str, list[float]] = {}
        self._clock, self._epoch, self._rate = _Clock(), 0, 0.0
        if training.rule == "perplexity" and LANGUAGE not in schedule.tasks:
            raise SettingsError("validation.choose is perplexity, and no text is learned; take accuracy or loss")
        if training.rule == "accuracy" and TRIPLES not in schedule.tasks:
            raise SettingsError("validation.choose is accuracy, and no triples are learned; take perplexity or loss")

    @property
    def total_steps(self) -> int:
        """Steps of the schedule."""
        return self._schedule.steps(self._training.epochs)

    def due(self, step: int) -> Due:
        """Validations after every so many epochs and the last, checkpoints after each epoch and between."""
        training, (epoch, rest) = self._training, self._schedule.locate(step)
        ended = step > 0 and rest == 0
        validate = ended and (epoch % training.every == 0 or epoch == training.epochs)
        return Due(every(step, training.log_steps), ended, validate, ended or every(step, training.save_steps))

    def speeds(self) -> dict[str, float]:
        """Such as ``{"words/s": 5200.0}``, since the learner was made."""
        return self._clock.speeds()

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Weights, optimiser, and what the tasks and rules have counted."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "vocabulary": self._digest,
            "task_steps": dict(self.task_steps),
            "rules": dict(self.rules),
        }

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Return to a state.

        Raises:
            SettingsError: it is of another vocabulary.
        """
        if state["vocabulary"] != self._digest:
            raise SettingsError("the run was begun with another vocabulary; bring its texts back, or begin a new run")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task_steps, self.rules = dict(state["task_steps"]), dict(state["rules"])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int) -> dict[str, float]:
        """Take a step of the schedule: gradients of its tasks, clipped together, and the optimiser."""
        self._epoch, rest = self._schedule.locate(number)
        names = self._schedule.epoch(self._epoch)[rest]
        began = time.perf_counter()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = {name: self._gradients(name) for name in names}
        if self._training.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._training.clip)
        self._rate = self._set_rates(names)
        self.optimizer.step()
        self._clock.end_step(time.perf_counter() - began)
        for name in names:
            self.task_steps[name] += 1
        return losses

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Epoch, losses, the highest learning rate and speeds."""
        return {"epoch": self._epoch, **losses, "rate": self._rate, **self.speeds()}

    def displayed(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> dict[str, float]:
        """Losses and speeds."""
        return {**losses, **self.speeds()}

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Mean losses."""
        return {"step": step, "epoch": self._schedule.locate(step)[0] - 1, **means}

    def _gradients(self, name: str) -> float:
        """Add the gradient of a task's loss. Chance follows from run, task and the task's own step, never from the other's."""
        began, device = time.perf_counter(), next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed_for(self._training.seed, "chance", name, self.task_steps[name]))
            loss = self._tasks[name].loss(self.task_steps[name])
            (loss.value * self._schedule.weight(name)).backward()
        self._clock.note(self._tasks[name].unit, loss.units, time.perf_counter() - began)
        return float(loss.value.detach())

    def _set_rates(self, names: tuple[str, ...]) -> float:
        """Set the learning rate of each group of parameters; returns the highest."""
        rates = []
        for name_of_group, group in zip(self._groups, self.optimizer.param_groups, strict=True):
            tasks = [name for name in OWNERS[name_of_group] if name in names] or names
            weights = [self._schedule.weight(name) for name in tasks]
            group["lr"] = sum(w * self._training.rates[n] for w, n in zip(weights, tasks, strict=True)) / sum(weights)
            rates.append(float(group["lr"]))
        return max(rates)

    # -- validation ----------------------------------------------------------------------------------------------------

    def validate(self, step: int) -> dict[str, Any]:
        """Measure the validation data."""
        epoch = self._schedule.locate(step)[0] - 1
        return {"epoch": epoch, "updates": dict(self.task_steps), **self._measure()}

    def score(self, row: Mapping[str, Any]) -> float:
        """The value of the run's rule below 0."""
        return -self.value(self._training.rule, row)

    def value(self, rule: str, row: Mapping[str, Any]) -> float:
        """What a rule makes of a validation; lower is better."""
        if rule == "perplexity" and "nats" in row:
            return float(row["nats"])
        if rule == "accuracy" and "accuracy" in row:
            return -float(row["accuracy"])
        alpha = 0.5 if len(self._schedule.tasks) == 1 else self._schedule.alpha
        return (1 - alpha) * float(row.get("nats", 0.0)) + alpha * float(row.get("loss", 0.0))

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Write the state under each rule by which it is the best."""
        for rule in self._kept_rules():
            value, best = self.value(rule, row), self.rules.get(rule)
            if best is None or value < best[0] - self.delta:
                self.rules[rule] = [value, row["step"]]
                self._save_best(rule, row)

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """The row with whether it is the best."""
        return {**row, "best": better}

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """A line about a validation."""
        displayed = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        return f"epoch {row['epoch'] + 1}: {displayed}{'  (best)' if better else ''}"

    def _kept_rules(self) -> list[str]:
        both = [r for r, task in (("perplexity", LANGUAGE), ("accuracy", TRIPLES)) if task in self._schedule.tasks]
        rule = self._training.rule
        return [rule, *(r for r in both if self._training.keep_both and r != rule)]


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
        gradients = sum(spent for _, _, spent in self._step)
        for unit, units, spent in self._step:
            before = self._units.get(unit, (0.0, 0.0))
            self._units[unit] = [before[0] + units, before[1] + seconds * spent / gradients]
        self._step = []

    def speeds(self) -> dict[str, float]:
        """Such as ``{"words/s": 5200.0}``."""
        return {f"{unit}/s": round(total / max(spent, 1e-9), 1) for unit, (total, spent) in self._units.items()}
