"""The engine: threads that link, and gather what concurrent requests wait for into batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from blink.data.text_lines import check_text
from blink.errors import DataError
from blink.kb.where import Where, WhereLike
from blink.linking.linker import Linker
from blink.linking.opening import twin_of
from blink.linking.sections import SECTION_CHARACTERS
from blink.linking.spans import CharacterSpan, SpanLike, character_spans
from blink.serving.errors import TimeLimitError, TooLargeError, UnavailableError, WaitedTooLongError
from blink.serving.lane import Lane, TextResult
from blink.serving.metrics import Metrics
from blink.serving.queueing import Job, Room
from blink.serving.settings import ServerSettings

T = TypeVar("T")
WINDOW_CHARACTERS = 256
"""Characters for which a window around one of the caller's spans counts."""
NICENESS = 5
"""Of the thread of long texts: the system gives it a third of the time of one that is not nice, where they wait for a core."""


class Engine:
    """Links the texts of concurrent requests in two lanes: one thread for short texts, and one for long ones, which thus delay
    short ones no more than by their smaller share of the cores.

    Args:
        linker: the linker, or what opens it, which is called by a thread.
        settings: limits of the queue, of batches and of time.
        metrics: what is counted.
    """

    def __init__(self, linker: Linker | Callable[[], Linker], settings: ServerSettings, metrics: Metrics) -> None:
        self._open = linker if callable(linker) and not isinstance(linker, Linker) else None
        self._settings, self._metrics = settings, metrics
        self.room = Room(settings.queue_texts, settings.queue_characters)
        self._short = Lane("short", self.room, settings.batch_characters, settings.batch_size, metrics)
        self._long = Lane("long", self.room, 1, settings.batch_size, metrics, NICENESS)
        self._lanes = (self._short, self._long)
        self._jobs: set[Job] = set()
        self._starter = threading.Thread(target=self._start, name="blink-opening", daemon=True)
        self.failure: BaseException | None = None
        """What ended the opening of the linker."""
        if isinstance(linker, Linker):
            self._take(linker)

    @property
    def linker(self) -> Linker:
        """The linker of short texts, which the functions of `call` may use.

        Raises:
            UnavailableError: it is not loaded yet.
        """
        return self._linker_of(self._short)

    @property
    def long_linker(self) -> Linker:
        """The linker of long texts, which the functions of `call` with ``long`` may use. Raises as `linker` does."""
        return self._linker_of(self._long)

    def _linker_of(self, lane: Lane) -> Linker:
        if not self.is_ready:
            raise UnavailableError("the linker is being loaded; try again in a second")
        return lane.linker

    @property
    def is_ready(self) -> bool:
        """Whether the linker is loaded."""
        return all(lane.has_linker for lane in self._lanes)

    def start(self, on_opened: Callable[[BaseException | None], None] = lambda failure: None) -> None:
        """Start the threads, one of which opens the linker, and calls ``on_opened`` with None or what ended that."""
        self._on_opened = on_opened
        self._starter.start()

    def _start(self) -> None:
        if self._open is not None:
            try:
                self._take(self._open())
            except BaseException as error:
                self.failure = error
                self._on_opened(error)
                return
        for lane in self._lanes:
            lane.start()
        self._on_opened(None)

    def _take(self, linker: Linker) -> None:
        self._long.take_linker(twin_of(linker))
        self._short.take_linker(linker)

    def abandon(self) -> None:
        """Answer all requests that are not linked yet with an error, since their time is over."""
        for job in list(self._jobs):
            job.fail(UnavailableError("the server stopped before the request was linked; send it to another"))

    def stop(self, timeout_s: float) -> None:
        """Link what waits, for so many seconds, and end the threads."""
        end = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.stop(end - time.monotonic())

    async def link(
        self,
        texts: Sequence[str],
        *,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        where: WhereLike = None,
        threshold: float | None = None,
        explain: bool = False,
    ) -> list[TextResult]:
        """Link texts, together with those of other requests; results are those of `Linker.link`.

        Args:
            texts: to link.
            spans: for each text the caller's own mentions, characters ``[start, end)``.
            where: which entities may be linked.
            threshold: of the links; by default the linker's own.
            explain: return explanations too.

        Raises:
            DataError, SettingsError: a text, a span or the filter is invalid.
            TooLargeError: a text is too long to be explained.
            OverloadedError: too much waits already.
            WaitedTooLongError, TimeLimitError: the time of the request is over.
            UnavailableError: the linker is not loaded, or the server stops.
        """
        parsed = None if spans is None else [character_spans(of_text) for of_text in spans]
        self._check(texts, parsed, explain)
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[TextResult]] = loop.create_future()
        deadline = time.monotonic() + self._settings.request_seconds
        done = _to_future(loop, future)
        job = Job(texts, parsed, Where.parse(where), threshold, explain, deadline, done)
        self._lane_of(texts, parsed).queue.put(job)
        self._jobs.add(job)
        try:
            return await asyncio.wait_for(future, self._settings.request_seconds)
        except asyncio.TimeoutError:
            limit = f"the limit of {self._settings.request_seconds:g} seconds"
            if not job.has_begun:
                raise WaitedTooLongError(f"the request waited longer than {limit}; try again later") from None
            raise TimeLimitError(f"linking took longer than {limit}; send fewer or shorter texts") from None
        finally:
            job.is_cancelled = True
            self._jobs.discard(job)

    async def call(self, function: Callable[[], T], *, long: bool = False) -> T:
        """Call a function in a linking thread, between two batches, for what uses `linker` itself.

        Args:
            function: is called.
            long: whether it uses `long_linker` instead, since it takes long.

        Raises:
            UnavailableError: the server stops.
            TimeLimitError: the time of a request is over.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        done = _to_future(loop, future)

        def run() -> None:
            if future.cancelled():
                return
            try:
                done(function())
            except Exception as error:
                done(error)

        (self._long if long else self._short).queue.call(run)
        try:
            return await asyncio.wait_for(future, self._settings.request_seconds)
        except asyncio.TimeoutError:
            limit = f"the limit of {self._settings.request_seconds:g} seconds"
            raise TimeLimitError(f"the request took longer than {limit}; send less at once") from None

    def _check(self, texts: Sequence[str], spans: Sequence[tuple[CharacterSpan, ...]] | None, explain: bool) -> None:
        _ = self.linker
        if spans is not None and len(spans) != len(texts):
            raise DataError(f"there are {len(texts)} texts and {len(spans)} lists of spans; give one list for each text")
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number}")
            if explain and len(text) > SECTION_CHARACTERS:
                allowed = f"texts of up to {SECTION_CHARACTERS:,} characters can be explained"
                raise TooLargeError(f"text {number} has {len(text):,} characters; {allowed}")
        for text, of_text in zip(texts, spans or (), strict=False):
            for start, end in of_text:
                if not 0 <= start < end <= len(text):
                    raise DataError(
                        f"span [{start}, {end}) is empty or outside the text of {len(text)} characters; count characters"
                    )

    def _lane_of(self, texts: Sequence[str], spans: Sequence[tuple[CharacterSpan, ...]] | None) -> Lane:
        """The lane of a request: by its longest text, where each of the caller's spans counts as a window."""
        of_spans = max(map(len, spans or ()), default=0) * WINDOW_CHARACTERS
        longest = max(max(map(len, texts)), of_spans)
        return self._long if longest > self._settings.batch_characters else self._short


def _to_future(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> Callable[[Any], None]:
    """What sets a future from another thread, to a result or an error."""

    def resolve(result: Any) -> None:
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    def done(result: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(resolve, result)

    return done
