"""The training loop: steps, trace, checkpoints, validations, signals. A resumed run gives bitwise equal weights.

After each step, the loop writes its row to the trace, ends the epoch, writes a checkpoint and validates, as due. The
checkpoint before a validation marks it as pending, so that a run killed during validation repeats only the validation.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blink.runs.cost import Cost
from blink.runs.earlier import STATE_KEY, current_state
from blink.runs.finite import require_finite
from blink.runs.folder import RunFolder, locked_run
from blink.runs.learner import Learner, TrainerState
from blink.runs.processes import ProcessGroup, SingleProcess
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted, StopSignals, stop_signals

DRAW_INTERVAL_S = 30.0
"""Least time between two drawings of the curves during a run."""

RowLogger = Callable[[str, Mapping[str, Any]], None]
"""Called with the kind of a row (``step`` or ``validation``) and the row of the trace."""


class Loop:
    """Runs a learner to its end.

    Args:
        learner: model, steps and validation.
        folder: of the run.
        about: provenance, the first row of the trace, see `blink.runs.provenance`.
        progress: hooks for a progress bar.
        processes: process group of the run; None for a single process.
        loggers: called with the rows of the trace, such as those of a tracker.

    Attributes:
        state: progress of the run.
        cost: time and memory of the run.
    """

    def __init__(
        self,
        learner: Learner,
        folder: RunFolder,
        about: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        processes: ProcessGroup | None = None,
        loggers: Sequence[RowLogger] = (),
    ) -> None:
        self.learner, self.folder, self.about = learner, folder, about
        self.progress = progress or Progress()
        self.processes = processes or SingleProcess()
        self.state, self.cost = TrainerState(), Cost()
        self.loggers, self._drawn_at = loggers, time.monotonic()

    def run(self, *, resume: bool = False) -> TrainerState:
        """Train to the end.

        Args:
            resume: continue from the newest checkpoint, if there is one; the weights equal those of an uninterrupted run.

        Raises:
            Interrupted: a signal stopped the run; its state is saved.
            NotFinite: a loss is NaN or infinite; the message names the step.
            MismatchError: the folder's run has other settings or files.
            BusyError: another run has the folder.
        """
        with locked_run(self.folder.path):
            return self._run(resume)

    def _run(self, resume: bool) -> TrainerState:
        self._begin(resume)
        self.progress.start(self.learner.total_steps, self.state.step)
        with stop_signals() as signals:
            self._end_epoch()
            self._validate_pending(signals)
            while not self.done:
                self._step()
                self._after_step(signals)
        self.learner.finish()
        self._draw()
        return self.state

    @property
    def done(self) -> bool:
        """Whether the run has ended, by steps or patience."""
        patience = self.learner.patience
        return self.state.step >= self.learner.total_steps or 0 < patience <= self.state.stale

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _begin(self, resume: bool) -> None:
        saved = self.folder.load() if resume else {}
        if saved:
            self.folder.require_same(self.about)
            self._restore(current_state(saved, self.folder.trace.rows(), self.learner.due))
        if self.processes.is_main and saved:
            self.folder.resume(self.state.step, self.about, pending=self.state.pending)
        elif self.processes.is_main:
            self.folder.begin(self.about)
        self.processes.wait()

    def _restore(self, saved: Mapping[str, Any]) -> None:
        self.state = TrainerState(**saved[STATE_KEY])
        self.cost = Cost.from_row(saved.get("cost", {}))
        self.learner.load_state(saved, self.state)

    def _save(self) -> None:
        state = self.learner.state()
        if self.processes.is_main:
            progress = {STATE_KEY: dataclasses.asdict(self.state), "cost": self.cost.row()}
            self.folder.save(self.state.step, {**state, **progress})
        self.processes.wait()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        began, state, number = time.perf_counter(), self.state, self.state.step
        losses = self.learner.step(number)
        self._require_finite(losses, number)
        seconds = time.perf_counter() - began
        state.step += 1
        state.seconds += seconds
        for name, loss in losses.items():
            total, count = state.sums.get(name, (0.0, 0))
            state.sums[name] = [total + loss, count + 1]
        if self.learner.due(state.step).log:
            self._record("step", {"step": state.step, **self.learner.step_row(losses, seconds)})
        self.progress.step(self.learner.progress_row(state.step, losses, state.best))

    def _require_finite(self, losses: Mapping[str, float], number: int) -> None:
        for name, loss in losses.items():
            where = self.learner.describe_step(number) + (f" ({name})" if name != "loss" else "")
            require_finite(loss, where, self.learner.advice)

    def _after_step(self, signals: StopSignals) -> None:
        step = self.state.step
        due = self.learner.due(step)
        self._end_epoch()
        self.state.pending = due.validate
        stop = self.processes.maximum(signals.received)
        if stop or due.validate or due.save:
            self._save()
        if stop:
            raise Interrupted(f"stopped after step {step} of {self.learner.total_steps}, saved in {self.folder.path}", stop)
        self._validate_pending(signals)

    def _end_epoch(self) -> None:
        """Write the row of an epoch that has ended, once."""
        state = self.state
        if not (state.sums and self.learner.due(state.step).epoch_end):
            return
        means = {name: total / count for name, (total, count) in state.sums.items()}
        row = self.learner.epoch_row(state.step, means, state.seconds)
        if row is not None:
            self._record("epoch", row)
        state.sums, state.seconds = {}, 0.0

    # -- validation ----------------------------------------------------------------------------------------------------

    def _validate_pending(self, signals: StopSignals) -> None:
        if not self.state.pending:
            return
        # A single process may stop at once: its last step is saved. With several, the others would wait for it.
        signals.urgent = self.processes.count == 1
        try:
            self._validate()
        except Interrupted as stop:
            steps = f"step {self.state.step} of {self.learner.total_steps}"
            raise Interrupted(f"stopped while validating {steps}, saved in {self.folder.path}", stop.signal) from stop
        finally:
            signals.urgent = False

    def _validate(self) -> None:
        state, learner = self.state, self.learner
        row = {**learner.validate(state.step), "step": state.step}
        better = not state.best or learner.score(row) > learner.score(state.best) + learner.delta
        if better:
            state.best = row
        state.stale = 0 if better else state.stale + 1
        state.pending, state.validated = False, state.step
        displayed = learner.validated(row, better=better)
        if self.processes.is_main:
            learner.store(row, better=better)
        self._record("validation", displayed)
        if time.monotonic() - self._drawn_at > DRAW_INTERVAL_S:
            self._draw()
        self._save()
        self.progress.validated(displayed)
        if line := learner.summary(row, better=better):
            self.progress.say(line)

    # -- trace ---------------------------------------------------------------------------------------------------------

    def _record(self, kind: str, row: Mapping[str, Any]) -> None:
        if not self.processes.is_main:
            return
        self.folder.trace.add(kind, row)
        for log in self.loggers:
            log(kind, row)

    def _draw(self) -> None:
        if self.learner.curves is not None and self.processes.is_main:
            self.folder.draw(*self.learner.curves)
        self._drawn_at = time.monotonic()
