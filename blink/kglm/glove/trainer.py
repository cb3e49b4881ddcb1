"""The training loop of words alone: it stops and goes on anywhere, and ends with the best state."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from blink.errors import MismatchError, SettingsError
from blink.files import write_json
from blink.kglm.config import at_least
from blink.kglm.glove.inputs import Words
from blink.kglm.glove.learning import WordSide
from blink.kglm.graph.trainer import MODEL_ABOUT, MODEL_FILE, Standing
from blink.kglm.run import Cost, Progress, RunFolder, device_for, read_tensors, require_finite, write_tensors
from blink.runs.signals import Interrupted, StopSignals, stop_signals
from blink.runs.trace import read_trace

PREFIX = "glove."
"""Begins the names of a word model's tensors in a best state, which may hold those of a graph too."""
HELD_OUT = "held_out_loss"
DRAWN_EVERY_S = 20.0


class WordTrainer:
    """Trains GloVe. The best state is that of the lowest loss on held-out pairs, or without such, on all pairs.

    Args:
        words: the text.
        folder: the run.
        progress: hooks for a progress bar.

    Raises:
        SettingsError: a setting is not allowed.
    """

    def __init__(self, words: Words, folder: RunFolder, progress: Progress | None = None) -> None:
        self.words, self.folder, self.settings = words, folder, folder.settings
        self._progress = progress or Progress()
        at_least(self.settings, "stop", every=1, patience=0, delta=0.0)
        at_least(self.settings, "train", epochs=1, save_epochs=1, log_steps=1)
        self.side = WordSide(words, self.settings, torch.device(device_for(self.settings)))
        self.standing, self.cost = Standing(rate=self.settings.words.lr), Cost()
        self._drawn = time.monotonic()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, if it does not end early."""
        return self.side.steps * int(self.settings.train.epochs)

    def run(self, *, resume: bool = False) -> dict[str, Any]:
        """Train to the end, with the best state in ``best/`` and in the model.

        Args:
            resume: go on from the newest checkpoint, to what an undisturbed run gives, bit for bit.

        Returns:
            the best validation, losses of the first and last epoch, and what the run cost.

        Raises:
            Interrupted: a signal asked the run to stop; its state is saved.
            NotFinite: a loss is no number; the step is named.
        """
        if resume:
            self._restore()
        self._progress.start(self.total_steps, self.standing.step)
        with stop_signals() as signals:
            self._validate_pending()
            while self.standing.step < self.total_steps and not self._out_of_patience():
                self._train_step()
                self._after_step(signals)
        tensors = read_tensors(self.folder.best / MODEL_FILE)
        self.side.model.load_state_dict({name.removeprefix(PREFIX): value for name, value in tensors.items()})
        self._draw()
        return {**self.standing.best, **self._epoch_losses(), "steps": self.standing.step, **self.cost.row()}

    def _restore(self) -> None:
        state = self.folder.load()
        if not state:
            return
        if state["words"] != self.words.vocabulary.digest:
            raise MismatchError(f"{self.folder.path} was begun with another text; bring its files back, or begin a new run")
        self.side.load_state(state["side"])
        self.standing, self.cost = Standing(**state["standing"]), Cost.from_row(state["cost"])
        every = self.settings.stop.every
        if self.standing.pending and self.standing.step < self.total_steps and not self._scheduled():
            found = f"the run ended between two validations of stop.every {every}, with one more that a longer run lacks"
            raise SettingsError(f"{found}; begin a new run, or end runs that are to be made longer at a multiple of {every}")

    def _train_step(self) -> None:
        started, standing = time.perf_counter(), self.standing
        loss = self.side.gradients(standing.step)
        require_finite(loss, f"step {standing.step + 1}")
        self.side.move()
        standing.step += 1
        standing.loss += loss
        standing.seconds += time.perf_counter() - started
        if standing.step % self.settings.train.log_steps == 0:
            self.folder.trace.add("step", {"step": standing.step, "loss": loss, "rate": standing.rate})
        self._progress.step({"epoch": 1 + (standing.step - 1) // self.side.steps, "loss": loss})

    def _after_step(self, signals: StopSignals) -> None:
        standing, options = self.standing, self.settings
        epoch, rest = divmod(standing.step, self.side.steps)
        if rest == 0:
            row = {"epoch": epoch, "step": standing.step, "loss": standing.loss / self.side.steps}
            self.folder.trace.add("epoch", {**row, "seconds": round(standing.seconds, 3)})
            standing.loss = standing.seconds = 0.0
            standing.pending = self._scheduled() or standing.step == self.total_steps
        if signals.received or standing.pending or (rest == 0 and epoch % options.train.save_epochs == 0):
            self._save()
        if signals.received:
            message = f"stopped after step {standing.step} of {self.total_steps}, saved in {self.folder.path}"
            raise Interrupted(message, signals.received)
        self._validate_pending()

    def _scheduled(self) -> bool:
        return self.standing.step % (self.side.steps * self.settings.stop.every) == 0

    def _save(self) -> None:
        state = {
            "words": self.words.vocabulary.digest,
            "side": self.side.state(),
            "standing": dataclasses.asdict(self.standing),
            "cost": self.cost.row(),
        }
        self.folder.save(self.standing.step, state)

    def _out_of_patience(self) -> bool:
        return 0 < self.settings.stop.patience <= self.standing.stale

    def _validate_pending(self) -> None:
        standing = self.standing
        if not standing.pending:
            return
        held_out = self.side.held_out_loss()
        found = {HELD_OUT: self.side.model.mean_loss(self.words.fitted) if held_out is None else held_out}
        epoch = standing.step // self.side.steps
        better = not standing.best or found[HELD_OUT] < standing.best[HELD_OUT] - self.settings.stop.delta
        if better:
            standing.best = {**found, "step": standing.step, "epoch": epoch}
            tensors = {f"{PREFIX}{name}": value for name, value in self.side.model.state_dict().items()}
            write_tensors(self.folder.best / MODEL_FILE, tensors)
            write_json(self.folder.best / MODEL_ABOUT, {"words": self.words.vocabulary.digest, **standing.best})
        standing.stale = 0 if better else standing.stale + 1
        standing.pending = False
        self.folder.trace.add("validation", {"epoch": epoch, "step": standing.step, **found, "rate": standing.rate})
        self._progress.say(f"epoch {epoch}: held-out loss {found[HELD_OUT]:.5f}" + " (best)" * better)
        if time.monotonic() - self._drawn > DRAWN_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        self.folder.draw(["loss"], [HELD_OUT])
        self._drawn = time.monotonic()

    def _epoch_losses(self) -> dict[str, float]:
        """Mean losses of the first and of the last epoch, and their ratio."""
        rows = [row["loss"] for row in read_trace(self.folder.trace.path) if row["kind"] == "epoch"]
        return {"first_epoch_loss": rows[0], "last_epoch_loss": rows[-1], "loss_ratio": rows[-1] / rows[0]} if rows else {}
