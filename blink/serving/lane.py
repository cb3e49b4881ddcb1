"""A lane: a thread with a linker of its own that links what waits in its queue, in batches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blink.data.records import LinkedText
from blink.errors import BlinkError
from blink.explaining.explanation import Explanation, explanation_of
from blink.kb.where import Where
from blink.linking.linker import Linker
from blink.linking.sections import SECTION_CHARACTERS
from blink.machine import raise_niceness
from blink.serving.long_texts import LongTexts
from blink.serving.metrics import Metrics
from blink.serving.queueing import FairQueue, QueuedText, Room

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextResult:
    """A linked text, with its explanation where the request asked for one.

    Attributes:
        linked: the text and its links.
        explanation: why it has them, or None.
    """

    linked: LinkedText
    explanation: Explanation | None = None


class Lane:
    """Links texts in a thread.

    What waits is linked at once, together; nothing waits for more to come. A text of several sections is linked a section at a
    time, between batches of others.

    Args:
        name: of the thread.
        room: what may wait.
        batch_characters: of a batch, unless one text has more.
        batch_size: windows of texts that go through the model at once.
        metrics: what is counted.
        niceness: of the thread, above that of the process.
    """

    def __init__(
        self, name: str, room: Room, batch_characters: int, batch_size: int, metrics: Metrics, niceness: int = 0
    ) -> None:
        self.queue, self._niceness = FairQueue(room), niceness
        self._batch_characters, self._batch_size, self._metrics = batch_characters, batch_size, metrics
        self._long = LongTexts(self.queue)
        self._thread = threading.Thread(target=self._run, name=f"blink-{name}", daemon=True)
        self._linker: Linker | None = None

    @property
    def linker(self) -> Linker:
        """The linker of this lane, which its thread alone uses."""
        assert self._linker is not None
        return self._linker

    @property
    def has_linker(self) -> bool:
        """Whether it has a linker."""
        return self._linker is not None

    def take_linker(self, linker: Linker) -> None:
        """Give it the linker that it uses from now on."""
        self._linker = linker

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Link what waits, for so many seconds, and end the thread."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join(max(0.0, timeout_s))

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        raise_niceness(self._niceness)
        while (taken := self.queue.take(self._batch_characters, wait=not self._long)) or self._long:
            batch, calls = taken or ([], [])
            for function in calls:
                function()
            self._link_batch([queued for queued in batch if not _has_sections(queued)])
            for queued in batch:
                if _has_sections(queued):
                    self._long.add(queued)
            if self._long:
                self._advance()

    def _advance(self) -> None:
        """Link the next section of a long text."""
        queued = self._long.next
        if queued.job.is_over:
            return self._long.drop()
        begin = time.perf_counter()
        try:
            linked = self._long.advance(self.linker, self.linker.thresholds.at(queued.job.threshold))
        except Exception as error:
            return self._fail(queued, error)
        self._metrics.batch(1, min(len(queued.text), SECTION_CHARACTERS), time.perf_counter() - begin)
        if linked is not None:
            queued.job.finish(queued.number, TextResult(linked))

    def _link_batch(self, batch: Sequence[QueuedText]) -> None:
        """Link texts, those of like requests together."""
        groups: dict[tuple[Where, bool, bool], list[QueuedText]] = {}
        for queued in batch:
            if not queued.job.is_over:
                key = (queued.job.where, queued.job.spans is None, queued.job.explain)
                groups.setdefault(key, []).append(queued)
        for group in groups.values():
            begin = time.perf_counter()
            self._link_group(group)
            self._metrics.batch(len(group), sum(len(queued.text) for queued in group), time.perf_counter() - begin)

    def _link_group(self, group: Sequence[QueuedText]) -> None:
        try:
            results = list(self._results(group))
        except Exception as error:
            jobs = {id(queued.job): queued.job for queued in group}
            if len(jobs) == 1:
                return self._fail(group[0], error)
            for job in jobs.values():  # an error of one request is not that of others
                self._link_group([queued for queued in group if queued.job is job])
            return
        for queued, result in zip(group, results, strict=True):
            queued.job.finish(queued.number, result)

    def _fail(self, queued: QueuedText, error: Exception) -> None:
        if not isinstance(error, BlinkError):
            logger.error("linking failed", exc_info=error)
        queued.job.fail(error)

    def _results(self, group: Sequence[QueuedText]) -> Iterator[TextResult]:
        linker, first = self.linker, group[0].job
        thresholds = [linker.thresholds.at(queued.job.threshold) for queued in group]
        how: dict[str, Any] = {"batch_size": self._batch_size, "where": first.where}
        how |= {"spans": None if first.spans is None else [queued.spans or () for queued in group]}
        if first.explain:
            how |= {"keep": linker.explained_outputs}
        else:
            how |= {"min_mention_log_prob": min(linker.min_mention_log_prob_at(each) for each in thresholds)}
        analyses = linker.analyze([queued.text for queued in group], **how)
        for analysis, each in zip(analyses, thresholds, strict=True):
            if not first.explain:
                yield TextResult(linker.decode(analysis, each))
                continue
            explanation = explanation_of(linker, analysis, each)
            yield TextResult(explanation.linked, explanation)


def _has_sections(queued: QueuedText) -> bool:
    return queued.spans is None and not queued.job.explain and len(queued.text) > SECTION_CHARACTERS
