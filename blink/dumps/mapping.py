"""One pass over a dump: worker processes read segments and map their records; results are joined in order and committed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from blink.dumps.journal import Journal
from blink.dumps.segments import Dump, Segment
from blink.errors import DataError
from blink.progress import Bars, no_bars
from blink.workers import Hooks, WorkerPool, results_here

RECORDS, BROKEN = "records", "broken"
"""Keys of `Mapped.counts` that every mapper has."""
MAX_RECORD_BYTES = 1 << 25
"""A dump without the end of a record in so many bytes, 32 MiB, is none of its kind. Real records have at most a few MiB."""
MANY_RECORDS = 100
KINDS = "give latest-all.json of Wikidata, or pages-articles of Wikipedia, to the command for it"
_REMEDY = "out of memory, perhaps: give fewer --workers; the same command continues"


class WrongDumpError(DataError):
    """The file is no dump of the kind that the command reads."""


@dataclass
class Mapped:
    """What came of some records.

    Attributes:
        contents: what is appended to each stream.
        counts: of records, by what became of them.
        problems: broken records: number among these records, from 0, and what is wrong.
    """

    contents: dict[str, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)


class Mapper(Protocol):
    """Maps records to lines of streams. It is pickled for worker processes."""

    @property
    def separator(self) -> bytes:
        """What ends a record."""

    @property
    def record(self) -> str:
        """What a record is called in messages, such as ``line``."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""

    def __call__(self, text: bytes) -> Mapped:
        """Map a text of whole records."""


@dataclass(frozen=True)
class _MappedSegment:
    """A segment: the end of a record that began before it, what came of its whole records, and the beginning of the next."""

    head: bytes
    mapped: Mapped | None
    tail: bytes


def map_dump(
    dump: Dump,
    mapper: Mapper,
    journal: Journal,
    *,
    workers: int = 1,
    bars: Bars = no_bars,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Map a dump, from where an earlier call was killed.

    Args:
        dump: the dump.
        mapper: maps its records.
        journal: takes the results; it is open.
        workers: number of processes; 1 works in this one.
        bars: for the progress.
        warn: called with warnings.

    Raises:
        DataError: the dump is damaged, or is none of its kind. What came before that is kept.
        WorkerError: a worker failed.
    """
    state = journal.state
    if state.complete:
        return
    segments = dump.segments(state.segments)
    with bars("reading", _megabytes(dump.size - state.stored), "MB") as progress:
        before = state.stored
        for segment, result in _results(dump, mapper, segments, workers, Hooks(warn, _nothing, _nothing)):
            _commit(journal, mapper, segment, result)
            progress.advance(_megabytes(segment.end - before) - _megabytes(segment.start - before))
            progress.note(f"{state.counts[RECORDS]:,} {mapper.record}s")
            _require_records(journal, mapper, dump)
    last = mapper(state.carry)
    journal.commit(state.segments, dump.size, b"", last.contents, last.counts, _located([last], mapper, state.counts[RECORDS]))
    journal.complete()


def _results(
    dump: Dump, mapper: Mapper, segments: Iterator[Segment], workers: int, hooks: Hooks
) -> Iterator[tuple[Segment, _MappedSegment]]:
    opener = functools.partial(_open, dump, mapper)
    if workers == 1:
        return results_here(opener, segments, hooks)
    return WorkerPool(opener, workers, hooks, _describe, _REMEDY).results(segments)


def _open(dump: Dump, mapper: Mapper, warn: Callable[[str], None]) -> Callable[[Segment], _MappedSegment]:
    """Prepares a worker."""

    def work(segment: Segment) -> _MappedSegment:
        text, separator = dump.read(segment), mapper.separator
        first = text.find(separator)
        if first == -1:
            return _MappedSegment(text, None, b"")
        first, last = first + len(separator), text.rfind(separator) + len(separator)
        return _MappedSegment(text[:first], mapper(text[first:last]), text[last:])

    return work


def _describe(segment: Segment) -> str:
    return f"read bytes {segment.start:,} to {segment.end:,}"


def _commit(journal: Journal, mapper: Mapper, segment: Segment, result: _MappedSegment) -> None:
    state = journal.state
    carry = state.carry + result.head
    whole = carry.rfind(mapper.separator) + len(mapper.separator) if mapper.separator in carry else 0
    pieces = [mapper(carry[:whole])] if whole else []
    pieces += [result.mapped] if result.mapped is not None else []
    contents = {name: b"".join(piece.contents.get(name, b"") for piece in pieces) for name in mapper.streams}
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(piece.counts)
    problems = _located(pieces, mapper, state.counts[RECORDS])
    journal.commit(segment.number + 1, segment.end, carry[whole:] + result.tail, contents, counts, problems)


def _located(pieces: list[Mapped], mapper: Mapper, before: int) -> list[str]:
    """The broken records by their numbers in the dump, from 1."""
    problems = []
    for piece in pieces:
        problems += [f"{mapper.record} {before + number + 1:,}: {problem}" for number, problem in piece.problems]
        before += piece.counts[RECORDS]
    return problems


def _require_records(journal: Journal, mapper: Mapper, dump: Dump) -> None:
    """Stop early where the file is of another kind.

    Raises:
        WrongDumpError: it is.
    """
    state = journal.state
    if len(state.carry) > MAX_RECORD_BYTES:
        size, end = f"{MAX_RECORD_BYTES >> 20} MiB", mapper.separator.decode()
        raise WrongDumpError(f"{dump.path} has {size} without {end!r}: it is no dump of this kind; {KINDS}")
    if state.counts[RECORDS] >= MANY_RECORDS and 100 * state.counts[BROKEN] >= 99 * state.counts[RECORDS]:
        raise WrongDumpError(f"{dump.path} is no dump of this kind: {state.problems[0]}; {KINDS}")


def no_content(dump: Dump, problems: list[str]) -> WrongDumpError:
    """The error of a dump of which nothing is kept because nothing could be read."""
    return WrongDumpError(f"{dump.path} has no record that can be read{f' ({problems[0]})' if problems else ''}; {KINDS}")


def _megabytes(size: int) -> int:
    return size // 1_000_000


def _nothing() -> None:
    pass
