"""Long texts, linked a section at a time between batches of others, request by request in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from blink.data.records import Link, LinkedSection, LinkedText
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.serving.queueing import FairQueue, Job, QueuedText


@dataclass
class _LongJob:
    """The long texts of a job, in order; the first is being linked."""

    job: Job
    waiting: deque[QueuedText] = field(default_factory=deque)
    sections: Iterator[LinkedSection] | None = None
    links: list[Link] = field(default_factory=list)


class LongTexts:
    """The long texts that are being linked. They count as waiting in the queue until they are done.

    Args:
        queue: that they were taken from.
    """

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self._jobs: deque[_LongJob] = deque()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, queued: QueuedText) -> None:
        """Add a text that was taken from the queue."""
        self._queue.hold(queued.text)
        for of_job in self._jobs:
            if of_job.job is queued.job:
                return of_job.waiting.append(queued)
        self._jobs.append(_LongJob(queued.job, deque([queued])))

    def advance(self, linker: Linker, thresholds: Thresholds | None) -> LinkedText | None:
        """Link the next section of the first job, which then has its turn after the others.

        Args:
            linker: the linker.
            thresholds: of the links; None for the linker's own.

        Returns:
            the text, where that was its last section.

        Raises:
            Exception: whatever the linker raises; the job is dropped.
        """
        of_job = self._jobs.popleft()
        queued = of_job.waiting[0]
        try:
            if of_job.sections is None:
                of_job.sections = linker.stream(
                    [queued.text], where=queued.job.where, thresholds=thresholds, round_characters=1
                )
            section = next(of_job.sections)
        except BaseException:
            self.drop(of_job)
            raise
        of_job.links += section.links
        linked = None
        if section.is_last:
            linked = LinkedText(section.text, tuple(of_job.links))
            of_job.waiting.popleft()
            of_job.sections, of_job.links = None, []
            self._queue.release(queued.text)
        if of_job.waiting:
            self._jobs.append(of_job)
        return linked

    @property
    def next(self) -> QueuedText:
        """The text whose section is linked next."""
        return self._jobs[0].waiting[0]

    def drop(self, of_job: _LongJob | None = None) -> None:
        """Forget a job, by default the next one, whose client went away."""
        for queued in (self._jobs.popleft() if of_job is None else of_job).waiting:
            self._queue.release(queued.text)
