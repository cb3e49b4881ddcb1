"""The queue in front of the linker: bounded, and fair to requests whatever their size."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from blink.errors import BlinkError
from blink.kb.where import Where
from blink.linking.spans import CharacterSpan
from blink.serving.errors import OverloadedError, UnavailableError, WaitedTooLongError

TURN_CHARACTERS = 512
"""Characters that a request adds to a batch before the next one has its turn."""


@dataclass(eq=False)
class Job:
    """The texts of one request, and what becomes of them.

    Attributes:
        texts: to link.
        spans: the caller's own mentions of each; None where the model proposes them.
        where: which entities may be linked.
        threshold: of the links; None for the linker's own.
        explain: whether results hold explanations.
        deadline: time of `time.monotonic` after which nobody waits for it any more.
        done: called once from the linking thread, with the results or an error.
    """

    texts: Sequence[str]
    spans: Sequence[tuple[CharacterSpan, ...]] | None
    where: Where
    threshold: float | None
    explain: bool
    deadline: float
    done: Callable[[list[Any] | BaseException], None]
    results: list[Any] = field(default_factory=list)
    next_text: int = 0
    missing: int = 0
    is_cancelled: bool = False
    has_begun: bool = False

    def __post_init__(self) -> None:
        self.results, self.missing = [None] * len(self.texts), len(self.texts)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its results: it failed, or its client went away."""
        return self.is_cancelled or self.missing == 0

    def finish(self, number: int, result: Any) -> None:
        """Keep the result of a text; with the last one the job is done."""
        if self.is_over:
            return
        self.results[number] = result
        self.missing -= 1
        if not self.missing:
            self.done(self.results)

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        if not self.is_over:
            self.missing = 0
            self.done(error)


@dataclass(frozen=True)
class QueuedText:
    """A text of a job, by its number from 0."""

    job: Job
    number: int

    @property
    def text(self) -> str:
        """Its characters."""
        return self.job.texts[self.number]

    @property
    def spans(self) -> tuple[CharacterSpan, ...] | None:
        """The caller's own mentions in it."""
        return None if self.job.spans is None else self.job.spans[self.number]


class Room:
    """What may wait in all queues together, and what does.

    Args:
        max_texts: texts that may wait.
        max_characters: characters that may wait.
    """

    def __init__(self, max_texts: int, max_characters: int) -> None:
        self._limits = (max_texts, max_characters)
        self._lock = threading.Lock()
        self.n_texts, self.n_characters = 0, 0

    def reserve(self, n_texts: int, n_characters: int) -> None:
        """Count texts as waiting.

        Raises:
            OverloadedError: too much waits already.
        """
        with self._lock:
            sizes = (self.n_texts + n_texts, self.n_characters + n_characters)
            # Empty queues take any job that the limits of a request let through.
            if self.n_texts and any(size > limit for size, limit in zip(sizes, self._limits, strict=True)):
                raise OverloadedError(f"{self.n_texts:,} texts wait already; try again in a second")
            self.n_texts, self.n_characters = sizes

    def release(self, n_texts: int, n_characters: int) -> None:
        """Count texts as waiting no more; negative numbers count them again."""
        with self._lock:
            self.n_texts, self.n_characters = self.n_texts - n_texts, self.n_characters - n_characters


class FairQueue:
    """Jobs that wait, bounded in texts and characters. Each has its turn, so that a large one delays no small one.

    Args:
        room: what may wait.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._jobs: deque[Job] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, job: Job) -> None:
        """Add a job.

        Raises:
            OverloadedError: too much waits already.
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._is_closed:
                raise UnavailableError("the server is stopping; send the request to another")
            self._room.reserve(len(job.texts), sum(map(len, job.texts)))
            self._jobs.append(job)
            self._changed.notify()

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called by the linking thread before the next batch.

        Raises:
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._is_closed:
                raise UnavailableError("the server is stopping; send the request to another")
            self._calls.append(function)
            self._changed.notify()

    def hold(self, text: str) -> None:
        """Count a text that was taken as waiting still, until `release`."""
        self._room.release(-1, -len(text))

    def release(self, text: str) -> None:
        """Count a text of `hold` no more."""
        self._room.release(1, len(text))

    def close(self) -> None:
        """Take no more jobs; those that wait are still handed out."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, max_characters: int, *, wait: bool) -> tuple[list[QueuedText], list[Callable[[], None]]] | None:
        """Take texts of jobs in turn, until they have ``max_characters``, and all functions to call.

        Args:
            max_characters: of the batch; one longer text is taken too.
            wait: wait for something to do.

        Returns:
            texts and functions; None once the queue is closed and empty.
        """
        with self._changed:
            while wait and not (self._jobs or self._calls or self._is_closed):
                self._changed.wait()
            calls = list(self._calls)
            self._calls.clear()
            batch = self._taken(max_characters)
            return None if self._is_closed and not batch and not calls and not self._jobs else (batch, calls)

    def _taken(self, max_characters: int) -> list[QueuedText]:
        batch: list[QueuedText] = []
        size, now = 0, time.monotonic()
        while self._jobs and size < max_characters:
            job, turn = self._jobs.popleft(), 0
            if job.is_over or now > job.deadline:
                self._forget(job)
                job.fail(_late(job))
                continue
            while job.next_text < len(job.texts) and turn < TURN_CHARACTERS and size + turn < max_characters:
                batch.append(QueuedText(job, job.next_text))
                turn += max(1, len(job.texts[job.next_text]))
                self.release(job.texts[job.next_text])
                job.next_text += 1
            size += turn
            job.has_begun = True
            if job.next_text < len(job.texts):
                self._jobs.append(job)
        return batch

    def _forget(self, job: Job) -> None:
        for text in job.texts[job.next_text :]:
            self.release(text)
        job.next_text = len(job.texts)


def _late(job: Job) -> BlinkError:
    return WaitedTooLongError("the request waited longer than it may; try again, or send fewer texts at once")
