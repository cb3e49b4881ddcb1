"""The run: steps, checkpoints, validation after each epoch, the best weights; it resumes to the same end after a kill."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from blink.errors import MismatchError
from blink.files import read_json, write_json
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, clear_checkpoints, load_checkpoint, save_checkpoint
from blink.runs.signals import Interrupted, StopSignals, stop_signals
from blink.runs.trace import Trace
from examples.luke.features import Feature
from examples.luke.loggers import Logger, Silent
from examples.luke.settings import FREE_TO_CHANGE, TuneSettings
from examples.luke.steps import Order, Stepper

TRACE_FILE = "trace.jsonl"
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Hooks:
    """What a run calls.

    Attributes:
        validate: scores on the development set, in all processes; None where there is no such set.
        store: writes the weights that are to be kept, in the first process.
        started: is told the steps in all, and those done already.
        stepped: is told the loss of each step, and inputs a second.
        validated: is told epoch and scores.
    """

    validate: Callable[[], dict[str, float]] | None
    store: Callable[[], None]
    started: Callable[[int, int], None] = lambda total, done: None
    stepped: Callable[[float, float], None] = lambda loss, rate: None
    validated: Callable[[int, dict[str, float]], None] = lambda epoch, scores: None


@dataclass
class Standing:
    """How far a run is.

    Attributes:
        step: steps done.
        pending: whether the end of the epoch after that step is still to be dealt with.
        epochs: scores of each epoch so far.
        best_epoch: the best of them; -1 before the first.
    """

    step: int = 0
    pending: bool = False
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1


class Trainer:
    """Fine-tunes a model.

    Args:
        stepper: takes the steps.
        features: what is learnt from.
        criterion: score by which the best epoch is known, greater is better.
        folder: of the run: settings, ``trace.jsonl``, checkpoints.
        about: where the run comes from, see `blink.runs.provenance`.
        identity: what a continuation must share beside the settings.
        logger: takes losses and scores too.
    """

    def __init__(
        self,
        stepper: Stepper,
        features: Sequence[Feature],
        criterion: str,
        folder: Path,
        *,
        about: dict[str, Any],
        identity: dict[str, Any],
        logger: Logger | None = None,
    ) -> None:
        self.stepper, self.folder, self.criterion = stepper, folder, criterion
        self.settings, self.accelerator = stepper.settings, stepper.accelerator
        self.standing = Standing()
        self._features, self._about, self._identity = features, about, identity
        self._order = make_order(len(features), self.settings, self.accelerator)
        self._trace = Trace(folder / TRACE_FILE, self.accelerator.is_main_process)
        self._logger = logger or Silent()

    def run(self, hooks: Hooks, *, resume: bool = False) -> Standing:
        """Train to the end.

        Args:
            hooks: what is called on the way.
            resume: go on from the newest checkpoint, to the weights an undisturbed run gives.

        Raises:
            Interrupted: a signal asked the run to stop; its state is saved.
            SettingsError: a loss is no number; the batch is named.
            MismatchError: the folder's run was begun with other settings or files.
        """
        self._begin(resume)
        hooks.started(self.stepper.total, self.standing.step)
        with stop_signals() as signals:
            self._end_epoch(hooks, signals)
            while self.standing.step < self.stepper.total:
                self._step(hooks)
                self._after_step(hooks, signals)
        return self.standing

    # -- the beginning -------------------------------------------------------------------------------------------

    def _begin(self, resume: bool) -> None:
        checkpoints = self.folder / CHECKPOINTS_FOLDER
        state = load_checkpoint(checkpoints) if resume else None
        if state is not None:
            self._require_same()
            self.stepper.load_state(state)
            self.standing = Standing(**state["standing"])
            self._trace.go_on(self.standing.step, self._about, pending=self.standing.pending)
        elif self.accelerator.is_main_process:
            clear_checkpoints(checkpoints)
            write_json(self.folder / SETTINGS_FILE, self._to_compare())
            self._trace.begin(self._about)
        self.accelerator.wait_for_everyone()

    def _to_compare(self) -> dict[str, Any]:
        processes = self.accelerator.num_processes
        return {**self.settings.to_dict(), **self._identity, "processes": processes}

    def _require_same(self) -> None:
        stored, own = read_json(self.folder / SETTINGS_FILE), self._to_compare()
        changed = [k for k, v in own.items() if k not in FREE_TO_CHANGE and stored.get(k) != v]
        begun, now = self._trace.first().get("files", {}), self._about["files"]
        changed += [name for name, digest in now.items() if digest not in begun.values()]
        if changed:
            found = f"{self.folder} was begun with other settings or files ({', '.join(changed)})"
            raise MismatchError(f"{found}; give the same ones, or another --output-dir")

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self, hooks: Hooks) -> None:
        started, step, processes = time.perf_counter(), self.standing.step, self.accelerator.num_processes
        chosen = self._order[step]
        loss = self.stepper.step(step, [self._features[i] for i in chosen[self.accelerator.process_index :: processes]])
        self.standing.step += 1
        seconds = time.perf_counter() - started
        rate = self.stepper.optimizer.param_groups[0]["lr"]
        self._trace.add("step", {"step": self.standing.step, "loss": loss, "rate": rate, "seconds": seconds})
        self._logger.log({"loss": loss, "learning_rate": rate}, self.standing.step)
        hooks.stepped(loss, len(chosen) / seconds)

    def _after_step(self, hooks: Hooks, signals: StopSignals) -> None:
        step, every = self.standing.step, self.settings.save_steps
        self.standing.pending = step % self._order.steps == 0 or step == self.stepper.total
        asked = self._asked_to_stop(signals)
        if asked or self.standing.pending or (every and step % every == 0):
            self._save()
        if asked:
            raise Interrupted(f"stopped after step {step} of {self.stepper.total}, saved in {self.folder}", asked)
        self._end_epoch(hooks, signals)

    def _asked_to_stop(self, signals: StopSignals) -> int:
        if self.accelerator.num_processes == 1:
            return signals.received
        return max(gather_object([signals.received]))

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {**self.stepper.state(), "standing": dataclasses.asdict(self.standing)}
            save_checkpoint(self.folder / CHECKPOINTS_FOLDER, self.standing.step, state)
        self.accelerator.wait_for_everyone()

    # -- the end of an epoch -------------------------------------------------------------------------------------

    def _end_epoch(self, hooks: Hooks, signals: StopSignals) -> None:
        if not self.standing.pending:
            return
        # The step before is saved; what is done here is done again. Of several processes, none may leave the others alone.
        signals.urgent = self.accelerator.num_processes == 1
        try:
            self._validate(hooks)
        except Interrupted as stop:
            found = f"stopped while validating step {self.standing.step} of {self.stepper.total}, saved in {self.folder}"
            raise Interrupted(found, stop.signal) from stop
        finally:
            signals.urgent = False

    def _validate(self, hooks: Hooks) -> None:
        standing, epoch = self.standing, len(self.standing.epochs)
        scores = hooks.validate() if hooks.validate is not None else {}
        best = standing.epochs[standing.best_epoch][self.criterion] if standing.best_epoch >= 0 and scores else -math.inf
        better = self.settings.keep == "last" or scores[self.criterion] > best
        if better and self.accelerator.is_main_process:
            hooks.store()
        standing.best_epoch = epoch if better else standing.best_epoch
        standing.epochs.append(scores)
        standing.pending = False
        self._trace.add("validation", {"epoch": epoch, "step": standing.step, **scores})
        self._logger.log({f"dev_{k}": v for k, v in scores.items()}, standing.step)
        self._save()
        hooks.validated(epoch, scores)


def make_order(count: int, settings: TuneSettings, accelerator: Accelerator) -> Order:
    """The order of a run's inputs: a step takes those of all processes and accumulated batches."""
    group = settings.train_batch_size * settings.gradient_accumulation_steps * accelerator.num_processes
    return Order(count, group, settings.seed)


def total_steps(count: int, settings: TuneSettings, accelerator: Accelerator) -> int:
    """Steps of a run over ``count`` inputs: at least one, however few."""
    return max(1, round(make_order(count, settings, accelerator).steps * settings.num_train_epochs))
