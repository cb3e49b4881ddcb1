"""Training of language models and triple classifiers. A resumed run has the same results, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from blink.errors import SettingsError
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES, Schedule
from blink.kglm.lm.tasks import Task
from blink.kglm.settings import JointTrain, JointValidation, LanguageSections
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.runs.seeds import seed_for

OWNERS = {"words": (), "cells": (), "language": (LANGUAGE,), "classifier": (TRIPLES,), "tables": (TRIPLES,)}
"""Group of parameters -> the task of its learning rate; a shared group has the learning rate of the step's tasks."""


class LanguageLearner(Learner):
    """Trains a language model, a triple classifier, or both.

    Args:
        model: the model, on its device.
        tasks: tasks by name.
        schedule: schedule of the tasks.
        settings: settings of the run.
        validate: evaluates the model; returns metrics by name, with ``nats`` (mean loss per word) for text, and ``loss`` (mean
            per triple) and ``accuracy`` for triples.
        save_best: saves the model for a rule, with these metrics.
        digest: hash of the vocabulary; a state of another vocabulary is refused.

    Attributes:
        optimizer: Adam over all groups; parameters without gradient in a step are unchanged, moments included.
        task_steps: number of steps of each task.
        rules: value (lower is better) and step of the best checkpoint by rule.
    """

    curves = ((LANGUAGE, TRIPLES), ("nats", "loss", "accuracy"))
    advice = "lower the learning rate, and start again"

    def __init__(
        self,
        model: KGLanguageModel,
        tasks: Mapping[str, Task],
        schedule: Schedule,
        settings: LanguageSections,
        *,
        validate: Callable[[], Mapping[str, Any]],
        save_best: Callable[[str, Mapping[str, Any]], None],
        digest: str,
    ) -> None:
        self.model, self._tasks, self._schedule, self._settings = model, tasks, schedule, settings
        self._measure, self._save_best, self._digest = validate, save_best, digest
        train, self._rule = settings.train, settings.validation.choose
        self.patience, self.delta = settings.validation.patience, settings.validation.delta
        triple_rate = train.learning_rate_kge if isinstance(train, JointTrain) else train.learning_rate_lm
        self._rates = {LANGUAGE: train.learning_rate_lm, TRIPLES: triple_rate}
        self._groups = [name for name, _ in model.groups()]
        groups = [{"params": list(parameters)} for _, parameters in model.groups()]
        self.optimizer = torch.optim.Adam(groups, lr=train.learning_rate_lm, fused=True)
        self.task_steps = {LANGUAGE: 0, TRIPLES: 0}
        self.rules: dict[str, list[float]] = {}
        self._clock, self._epoch, self._rate = _Clock(), 0, 0.0
        if self._rule == "perplexity" and LANGUAGE not in schedule.tasks:
            raise SettingsError("validation.choose is perplexity, but there is no text; set it to accuracy or loss")
        if self._rule == "accuracy" and TRIPLES not in schedule.tasks:
            raise SettingsError("validation.choose is accuracy, but there are no triples; set it to perplexity or loss")

    @property
    def total_steps(self) -> int:
        """Steps of the schedule."""
        return self._schedule.steps(self._settings.train.epochs)

    def due(self, step: int) -> Due:
        """Validations after each ``every`` epochs and the last, checkpoints after each epoch and ``save_steps``."""
        train, (epoch, rest) = self._settings.train, self._schedule.locate(step)
        ended = step > 0 and rest == 0
        validate = ended and (epoch % self._settings.validation.every == 0 or epoch == train.epochs)
        return Due(every(step, train.log_steps), ended, validate, ended or every(step, train.save_steps))

    def speeds(self) -> dict[str, float]:
        """Speeds since the start of the process, such as ``{"words/s": 5200.0}``."""
        return self._clock.speeds()

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Weights, optimiser, and counters of tasks and rules."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "vocabulary": self._digest,
            "task_steps": dict(self.task_steps),
            "rules": dict(self.rules),
        }

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore the result of `state`.

        Raises:
            SettingsError: the state is of another vocabulary.
        """
        if state["vocabulary"] != self._digest:
            raise SettingsError("the run was started with another vocabulary; bring its texts back, or start a new run")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task_steps, self.rules = dict(state["task_steps"]), dict(state["rules"])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int) -> dict[str, float]:
        """Train one step of the schedule; returns the losses of its tasks."""
        self._epoch, rest = self._schedule.locate(number)
        names = self._schedule.epoch(self._epoch)[rest]
        began = time.perf_counter()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = {name: self._gradients(name) for name in names}
        if clip := self._settings.train.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self._rate = self._set_rates(names)
        self.optimizer.step()
        self._clock.end_step(time.perf_counter() - began)
        for name in names:
            self.task_steps[name] += 1
        return losses

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Epoch, losses, the highest learning rate and speeds."""
        return {"epoch": self._epoch, **losses, "rate": self._rate, **self.speeds()}

    def progress_row(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> dict[str, float]:
        """Losses and speeds."""
        return {**losses, **self.speeds()}

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Mean losses."""
        return {"step": step, "epoch": self._schedule.locate(step)[0] - 1, **means}

    def _gradients(self, name: str) -> float:
        """Add the gradients of a task's loss. Its random numbers depend only on seed, task and the task's step."""
        began, device = time.perf_counter(), next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed_for(self._settings.seed, "chance", name, self.task_steps[name]))
            loss = self._tasks[name].loss(self.task_steps[name])
            (loss.value * self._schedule.weight(name)).backward()
        self._clock.note(self._tasks[name].unit, loss.units, time.perf_counter() - began)
        return float(loss.value.detach())

    def _set_rates(self, names: tuple[str, ...]) -> float:
        """Set the learning rate of each group of parameters; returns the highest."""
        rates = []
        for group_name, group in zip(self._groups, self.optimizer.param_groups, strict=True):
            tasks = [name for name in OWNERS[group_name] if name in names] or names
            weights = [self._schedule.weight(name) for name in tasks]
            group["lr"] = sum(w * self._rates[n] for w, n in zip(weights, tasks, strict=True)) / sum(weights)
            rates.append(float(group["lr"]))
        return max(rates)

    # -- validation ----------------------------------------------------------------------------------------------------

    def validate(self, step: int) -> dict[str, Any]:
        """Measure the validation data."""
        epoch = self._schedule.locate(step)[0] - 1
        return {"epoch": epoch, "updates": dict(self.task_steps), **self._measure()}

    def score(self, row: Mapping[str, Any]) -> float:
        """The value of the run's rule below 0."""
        return -self.value(self._rule, row)

    def value(self, rule: str, row: Mapping[str, Any]) -> float:
        """Value of a validation by a rule; lower is better."""
        if rule == "perplexity" and "nats" in row:
            return float(row["nats"])
        if rule == "accuracy" and "accuracy" in row:
            return -float(row["accuracy"])
        alpha = 0.5 if len(self._schedule.tasks) == 1 else self._schedule.alpha
        return (1 - alpha) * float(row.get("nats", 0.0)) + alpha * float(row.get("loss", 0.0))

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Save the model for each rule by which it is the best."""
        for rule in self._saved_rules():
            value, best = self.value(rule, row), self.rules.get(rule)
            if best is None or value < best[0] - self.delta:
                self.rules[rule] = [value, row["step"]]
                self._save_best(rule, row)

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """The row with whether it is the best."""
        return {**row, "best": better}

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """Message about a validation."""
        figures = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        return f"epoch {row['epoch'] + 1}: {figures}{'  (best)' if better else ''}"

    def _saved_rules(self) -> list[str]:
        validation, both = self._settings.validation, (("perplexity", LANGUAGE), ("accuracy", TRIPLES))
        if not isinstance(validation, JointValidation) or not validation.keep_both:
            return [self._rule]
        return [self._rule, *(rule for rule, task in both if task in self._schedule.tasks and rule != self._rule)]


class _Clock:
    """Speeds of the tasks. The time of a step outside gradients is divided among its tasks in proportion to their gradients."""

    def __init__(self) -> None:
        self._units: dict[str, list[float]] = {}
        self._step: list[tuple[str, int, float]] = []

    def note(self, unit: str, units: int, seconds: float) -> None:
        """Add a gradient of the step."""
        self._step.append((unit, units, seconds))

    def end_step(self, seconds: float) -> None:
        """End a step of ``seconds``."""
        gradients = sum(task_seconds for _, _, task_seconds in self._step)
        for unit, units, task_seconds in self._step:
            before = self._units.get(unit, (0.0, 0.0))
            self._units[unit] = [before[0] + units, before[1] + seconds * task_seconds / gradients]
        self._step = []

    def speeds(self) -> dict[str, float]:
        """Units per second, such as ``{"words/s": 5200.0}``."""
        return {f"{unit}/s": round(total / max(seconds, 1e-9), 1) for unit, (total, seconds) in self._units.items()}
