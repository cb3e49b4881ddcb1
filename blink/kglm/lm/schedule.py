"""Which task learns in which step: by turns, or both in one step."""

from __future__ import annotations

from dataclasses import dataclass

from blink.errors import SettingsError
from blink.runs.settings import choice

LANGUAGE, TRIPLES = "language", "triples"
MODES = ("alternate", "sum")
ORDERS = ("interleaved", "blocks")

Step = tuple[str, ...]
"""The tasks that learn in a step."""


@dataclass(frozen=True)
class Schedule:
    """How the tasks share a run.

    A run of one task alone is a schedule whose ``alpha`` is 0 (text) or 1 (triples): the other task takes no step, and no
    random number is drawn for it, so that the result is that of the single-task run, bit for bit.

    Attributes:
        language: steps of the language model in an epoch.
        triples: steps of the classifier in an epoch.
        alpha: weight of the triples' loss where losses are summed; the text has the rest. Where tasks take turns, 0 and 1
            switch one off, and anything between leaves the share to the numbers of steps.
        mode: ``alternate``: each step is of one task. ``sum``: a step adds up the weighted losses of both; the task of fewer
            steps takes part in some of the other's, evenly spread.
        order: of steps that alternate: ``interleaved`` evenly, or in ``blocks``, first all triples, then all text, as in the
            original.
        every: the text is read only in each such epoch, counted from 0; in all where there are no triples.
    """

    language: int
    triples: int
    alpha: float = 0.5
    mode: str = "alternate"
    order: str = "interleaved"
    every: int = 1

    def __post_init__(self) -> None:
        choice("joint.mode", self.mode, MODES)
        choice("joint.order", self.order, ORDERS)
        if not 0 <= self.alpha <= 1:
            raise SettingsError(f"joint.alpha is {self.alpha}; it must be from 0 (text alone) to 1 (triples alone)")
        if min(self.language, self.triples) < 0 or self.every < 1:
            raise SettingsError("steps per epoch must not be negative, and joint.every at least 1")
        if not self.tasks:
            raise SettingsError("no task has a step; set train.steps_per_epoch_lm or train.steps_per_epoch_kge above 0")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that learn at all."""
        wanted = ((LANGUAGE, self.language and self.alpha < 1), (TRIPLES, self.triples and self.alpha > 0))
        return tuple(name for name, on in wanted if on)

    def weight(self, task: str) -> float:
        """What a task's loss is multiplied by."""
        if self.mode == "alternate" or len(self.tasks) == 1:
            return 1.0
        return self.alpha if task == TRIPLES else 1 - self.alpha

    def epoch(self, number: int) -> list[Step]:
        """The steps of an epoch, counted from 0; there may be none."""
        text = self.language if LANGUAGE in self.tasks and number % self._rhythm == 0 else 0
        triples = self.triples if TRIPLES in self.tasks else 0
        if self.mode == "sum":
            return _together(triples, text)
        if self.order == "blocks":
            return [*(((TRIPLES,),) * triples), *(((LANGUAGE,),) * text)]
        places = [((i + 0.5) / triples, 0, TRIPLES) for i in range(triples)] + [
            ((i + 0.5) / text, 1, LANGUAGE) for i in range(text)
        ]
        return [(task,) for _, _, task in sorted(places)]

    def steps(self, epochs: int) -> int:
        """Steps of a run."""
        with_text = -(-epochs // self._rhythm)
        return with_text * len(self.epoch(0)) + (epochs - with_text) * len(self.epoch(1))

    @property
    def _rhythm(self) -> int:
        return self.every if TRIPLES in self.tasks else 1


def _together(triples: int, text: int) -> list[Step]:
    counts = {TRIPLES: triples, LANGUAGE: text}
    steps = max(triples, text)
    joins = {task: {int((i + 0.5) * steps / count) for i in range(count)} for task, count in counts.items() if count}
    return [tuple(task for task in joins if step in joins[task]) for step in range(steps)]
