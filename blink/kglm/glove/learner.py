"""Training of GloVe without a graph. Resumed runs have the same results, bit for bit; runs end with the best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blink.errors import MismatchError
from blink.kglm.glove.inputs import Words
from blink.kglm.glove.learning import WordSide
from blink.kglm.lm.vocabulary import VOCABULARY_FILE
from blink.kglm.run import EpochLearner, KglmRun, read_best, write_best
from blink.kglm.settings import GloveSettings, Settings
from blink.runs.learner import TrainerState

PREFIX = "glove."
"""Prefix of the word model's tensors in a checkpoint, which may also have those of a graph."""
HELD_OUT = "held_out_loss"


class WordLearner(EpochLearner):
    """Trains GloVe. The best checkpoint has the lowest loss on held-out pairs, or on all pairs if none are held out.

    Args:
        words: the text.
        folder: the run.

    Raises:
        SettingsError: a setting is not allowed.
    """

    settings: GloveSettings
    curves = (("loss",), (HELD_OUT,))
    advice = "lower words.lr, and start again"

    def __init__(self, words: Words, folder: KglmRun[GloveSettings]) -> None:
        super().__init__(folder)
        self.words, self.side = words, WordSide(words, self.settings, self.device)
        self.epoch_steps = self.side.steps

    def finish(self) -> None:
        """Load the best checkpoint into the model."""
        tensors = read_best(self.folder.best)
        self.side.model.load_state_dict({name.removeprefix(PREFIX): value for name, value in tensors.items()})

    def state(self) -> dict[str, Any]:
        """Vectors and optimiser."""
        return {"words": self.words.vocabulary.digest, "side": self.side.state()}

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore the result of `state`.

        Raises:
            MismatchError: the state is of another text.
            SettingsError: the end of the run was not a regular validation, so a longer run would differ.
        """
        if state["words"] != self.words.vocabulary.digest:
            raise MismatchError(f"{self.folder.path} was started with another text; bring its files back, or start a new run")
        self.require_scheduled(progress)
        self.side.load_state(state["side"])

    def step(self, number: int) -> dict[str, float]:
        """Train one step; returns its loss."""
        loss = self.side.gradients(number)
        self.side.move()
        return {"loss": loss}

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Loss and learning rate."""
        return {**losses, "rate": self.settings.words.lr}

    def progress_row(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> dict[str, float]:
        """Epoch and loss."""
        return {"epoch": 1 + (step - 1) // self.epoch_steps, **losses}

    def validate(self, step: int) -> dict[str, Any]:
        """Loss on held-out pairs, or on all pairs if none are held out."""
        held_out = self.side.held_out_loss()
        loss = self.side.model.mean_loss(self.words.fitted) if held_out is None else held_out
        return {HELD_OUT: loss, "epoch": step // self.epoch_steps}

    def score(self, row: Mapping[str, Any]) -> float:
        """The loss below 0."""
        return -float(row[HELD_OUT])

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Save the best checkpoint and its vocabulary."""
        if better:
            self.words.vocabulary.save(self.folder.path / VOCABULARY_FILE)
            tensors = {f"{PREFIX}{name}": value for name, value in self.side.model.state_dict().items()}
            write_best(self.folder.best, tensors, {"words": self.words.vocabulary.digest, **row})

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """The row with the learning rate."""
        return {**row, "rate": self.settings.words.lr}

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """Message about a validation."""
        return f"epoch {row['epoch']}: held-out loss {row[HELD_OUT]:.5f}" + (" (best)" if better else "")


def epoch_losses(folder: KglmRun[Settings]) -> dict[str, float]:
    """Mean losses of the first and of the last epoch, and their ratio."""
    rows = [row["loss"] for row in folder.trace.rows() if row["kind"] == "epoch"]
    return {"first_epoch_loss": rows[0], "last_epoch_loss": rows[-1], "loss_ratio": rows[-1] / rows[0]} if rows else {}
