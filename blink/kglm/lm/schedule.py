"""Schedule of the two tasks: alternating steps, or both losses in one step."""

from __future__ import annotations

from dataclasses import dataclass

from blink.errors import SettingsError

LANGUAGE, TRIPLES = "language", "triples"

Step = tuple[str, ...]
"""The tasks that are trained in a step."""


@dataclass(frozen=True)
class Schedule:
    """Steps of the tasks in an epoch.

    With ``alpha`` 0 (text only) or 1 (triples only), the other task has no steps and draws no random numbers, so the result is
    that of a single-task run, bit for bit.

    Attributes:
        language: steps of the language model per epoch.
        triples: steps of the classifier per epoch.
        alpha: weight of the triple loss in summed losses; the language loss has weight ``1 - alpha``. In alternating steps, 0
            and 1 disable a task, and other values have no effect.
        mode: ``alternate``: each step trains one task. ``sum``: a step adds the weighted losses of both. The task with fewer
            steps is spread evenly over the steps of the other.
        order: order of alternating steps: ``interleaved`` evenly, or ``blocks``, all triples first, then all text, as in the
            original.
        every: train the language model in every n-th epoch only, from epoch 0; in all epochs if there are no triples.
    """

    language: int
    triples: int
    alpha: float = 0.5
    mode: str = "alternate"
    order: str = "interleaved"
    every: int = 1

    def __post_init__(self) -> None:
        if not self.tasks:
            raise SettingsError("no task has a step; set train.steps_per_epoch_lm or train.steps_per_epoch_kge above 0")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have steps."""
        enabled = ((LANGUAGE, self.language and self.alpha < 1), (TRIPLES, self.triples and self.alpha > 0))
        return tuple(name for name, on in enabled if on)

    def weight(self, task: str) -> float:
        """Weight of a task's loss."""
        if self.mode == "alternate" or len(self.tasks) == 1:
            return 1.0
        return self.alpha if task == TRIPLES else 1 - self.alpha

    def epoch(self, number: int) -> list[Step]:
        """The steps of an epoch, counted from 0; may be empty."""
        text = self.language if LANGUAGE in self.tasks and number % self._text_interval == 0 else 0
        triples = self.triples if TRIPLES in self.tasks else 0
        if self.mode == "sum":
            return _summed_steps(triples, text)
        if self.order == "blocks":
            return [*(((TRIPLES,),) * triples), *(((LANGUAGE,),) * text)]
        positions = [((i + 0.5) / triples, 0, TRIPLES) for i in range(triples)] + [
            ((i + 0.5) / text, 1, LANGUAGE) for i in range(text)
        ]
        return [(task,) for _, _, task in sorted(positions)]

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch that step ``step`` of the run is of, and its number there, both counted from 0."""
        first, other = len(self.epoch(0)), len(self.epoch(1))
        cycle = first + (self._text_interval - 1) * other  # from one epoch with text to the next
        cycles, rest = divmod(step, cycle)
        if rest < first:
            return cycles * self._text_interval, rest
        epochs, rest = divmod(rest - first, other)
        return cycles * self._text_interval + 1 + epochs, rest

    def steps(self, epochs: int) -> int:
        """Number of steps of a run."""
        with_text = -(-epochs // self._text_interval)
        return with_text * len(self.epoch(0)) + (epochs - with_text) * len(self.epoch(1))

    @property
    def _text_interval(self) -> int:
        return self.every if TRIPLES in self.tasks else 1


def _summed_steps(triples: int, text: int) -> list[Step]:
    counts = {TRIPLES: triples, LANGUAGE: text}
    steps = max(triples, text)
    joins = {task: {int((i + 0.5) * steps / count) for i in range(count)} for task, count in counts.items() if count}
    return [tuple(task for task in joins if step in joins[task]) for step in range(steps)]
