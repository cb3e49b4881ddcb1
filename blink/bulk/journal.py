"""The output of a bulk run while it grows: chunks are committed in a journal, so that a kill neither loses nor repeats a row.

``OUT.part`` holds the rows, ``OUT.run.json`` the settings, the inputs, and how many bytes of the former are committed. A chunk
is written, then forced to the disk, then committed by replacing the journal; bytes behind the committed ones are cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from blink.bulk.outputs import OutputFormat, output_format
from blink.bulk.rows import Counts
from blink.bulk.sources import Input, Position
from blink.checksums import hash_of_beginning, read_hashed_json, write_hashed_json
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import disk_full_named, locked
from blink.progress import Bars, no_bars
from blink.work_folders import require_plain

FORMAT = 1
PARTIAL_SUFFIX, JOURNAL_SUFFIX = ".part", ".run.json"


@dataclass(frozen=True)
class State:
    """What is committed.

    Attributes:
        settings: what the rows depend on, as plain values.
        inputs: the inputs.
        position: behind the last committed chunk.
        size: committed bytes of the output.
        counts: of the committed rows.
        seconds: time that they took.
        complete: whether these are all rows.
        content_sha256: of the committed bytes; ``""`` in journals of earlier versions.
    """

    settings: Mapping[str, Any]
    inputs: tuple[Input, ...]
    position: Position = field(default_factory=Position)
    size: int = 0
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    complete: bool = False
    content_sha256: str = ""


class BulkOutput:
    """The file of rows of one run, locked against other processes.

    Attributes:
        state: what is committed.

    Args:
        out: the file to write.
        settings: what the rows depend on, as plain values.
        inputs: the inputs.

    Raises:
        MissingFileError: the folder of ``out`` does not exist.
        SettingsError: ``out`` is a folder or a device, or it exists and is not of this command.
    """

    def __init__(self, out: str | Path, settings: Mapping[str, Any], inputs: Sequence[Input]) -> None:
        self.path = _checked(Path(out))
        self.form: OutputFormat = output_format(self.path)
        self.state = State(json.loads(json.dumps(settings)), tuple(inputs))  # as they are on disk
        self._published = False
        self._partial = self.path.with_name(self.path.name + PARTIAL_SUFFIX)
        self._journal = self.path.with_name(self.path.name + JOURNAL_SUFFIX)
        self._handle: IO[bytes] | None = None
        self._digest = hashlib.sha256()

    @contextlib.contextmanager
    def opened(self) -> Iterator[BulkOutput]:
        """Open the file and go to the committed state, that of an earlier call or the beginning.

        Raises:
            SettingsError: another process is writing it.
            MismatchError: it was begun with other settings or inputs.
        """
        with disk_full_named(self.path.parent):
            if self._is_published():
                yield self
                return
            require_plain(self._partial, self._journal)
            with self._partial.open("ab") as handle, locked(self._partial):
                self._handle = handle
                try:
                    if not self._is_published():  # by a process that ended in this moment
                        self._resume(handle)
                    yield self
                finally:
                    self._handle = None

    def commit(self, content: bytes, position: Position, counts: Counts, seconds: float) -> None:
        """Append the rows of a chunk, so that they are there whatever happens next.

        Args:
            content: lines of JSON.
            position: behind the chunk.
            counts: of its rows.
            seconds: since the last commit.
        """
        assert self._handle is not None
        member = self.form.member(content) if content else b""
        self._handle.write(member)
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._digest.update(member)
        state = self.state
        self._write(
            replace(
                state,
                position=position,
                size=state.size + len(member),
                counts=state.counts + counts,
                seconds=state.seconds + seconds,
                content_sha256=self._digest.hexdigest(),
            )
        )

    def publish(self, bars: Bars = no_bars) -> None:
        """Give the complete file its name; again, if a kill came in between."""
        if not self.state.complete:
            self._write(replace(self.state, complete=True))
        if self.form.conversion is not None and not self._published:
            self.form.conversion([self._partial], self.path, bars)
        if self.form.conversion is not None or self._published:
            self._partial.unlink(missing_ok=True)
        else:
            os.replace(self._partial, self.path)
        self._published = True
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was written."""
        for file in (self._partial, self._journal):
            file.unlink(missing_ok=True)

    def _is_published(self) -> bool:
        """Whether the file was complete before this call."""
        state = self._read()
        if not self.path.exists():
            return False
        if state is None or not state.complete:
            raise SettingsError(f"{self.path} exists and is not of this command; remove it, or give another --out")
        self._require_same(state)
        self.state, self._published = state, True
        return True

    def _resume(self, handle: IO[bytes]) -> None:
        state, size = self._read(), os.fstat(handle.fileno()).st_size
        if state is None or (state.position == Position() and not state.complete):
            handle.truncate(0)
            self._digest = hashlib.sha256()
            self._write(self.state)
            return
        self._require_same(state)
        if size < state.size:
            fault = f"{self._partial} has {size:,} bytes, and {state.size:,} are committed"
            raise MismatchError(f"{fault}: something else changed it; to start again, remove it and {self._journal}")
        self._digest = hash_of_beginning(self._partial, state.size)
        if state.content_sha256 not in ("", self._digest.hexdigest()):
            fault = f"{self._partial} is not what was committed: it was changed, or is damaged"
            raise MismatchError(f"{fault}; to start again, remove it and {self._journal}")
        handle.truncate(state.size)
        handle.seek(state.size)
        self.state = state

    def _require_same(self, state: State) -> None:
        differing = [f"{name} ({then}, now {now})" for name, then, now in _differences(state, self.state)]
        if differing:
            fault = f"{self.path} was begun with other {', '.join(differing)}"
            again = " and ".join(file.name for file in (self.path, self._partial, self._journal) if file.exists())
            raise MismatchError(f"{fault}; give the same, or another --out; to start again, remove {again}")

    def _write(self, state: State) -> None:
        write_hashed_json(self._journal, {"format": FORMAT, **asdict(state)})
        self.state = state

    def _read(self) -> State | None:
        return read_state(self.path)


def discard_unless_growing(out: Path) -> None:
    """Remove an output, unless it is one that can be continued: for callers that have no record of a finished one."""
    state, partial = read_state(out), out.with_name(out.name + PARTIAL_SUFFIX)
    size = partial.stat().st_size if partial.exists() else 0
    if state is None:
        return
    is_changed = size < state.size or state.content_sha256 not in ("", hash_of_beginning(partial, state.size).hexdigest())
    if state.complete or is_changed:
        require_plain(partial, out.with_name(out.name + JOURNAL_SUFFIX))
        for file in (out, partial, out.with_name(out.name + JOURNAL_SUFFIX)):
            file.unlink(missing_ok=True)


def read_state(out: Path) -> State | None:
    """What is committed of an output; None where nothing is.

    Raises:
        DataError: the journal is damaged.
    """
    journal = out.with_name(out.name + JOURNAL_SUFFIX)
    if not journal.exists():
        return None
    partial = out.with_name(out.name + PARTIAL_SUFFIX)
    again = f"remove it and {partial} to start again"
    values = read_hashed_json(journal, again)
    try:
        if values.pop("format") != FORMAT:
            raise TypeError("of another version")
        inputs = tuple(Input(**of_input) for of_input in values.pop("inputs"))
        position, counts = Position(**values.pop("position")), values.pop("counts")
        errors = tuple((str(kind), int(n)) for kind, n in counts.pop("errors"))
        return State(**values, inputs=inputs, position=position, counts=Counts(**counts, errors=errors))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{journal} is damaged ({error}); {again}") from error


def _checked(out: Path) -> Path:
    out = out.resolve()
    if not out.parent.is_dir():
        raise MissingFileError(f"{out} cannot be written: {out.parent} does not exist; make the folder, or write elsewhere")
    if out.exists() and not out.is_file():
        raise SettingsError(f"{out} is {'a folder' if out.is_dir() else 'a device or a pipe'}; name a file to write")
    return out


def _differences(then: State, now: State) -> Iterator[tuple[str, str, str]]:
    for name in sorted(then.settings.keys() | now.settings.keys()):
        before, after = then.settings.get(name), now.settings.get(name)
        if before != after:
            yield name, _short(before), _short(after)
    paths = [[i.path for i in state.inputs] for state in (then, now)]
    if paths[0] != paths[1]:
        yield "inputs", ", ".join(paths[0]), ", ".join(paths[1])
        return
    for old, new in zip(then.inputs, now.inputs, strict=True):
        if old != new:
            what = new.name
            yield (what, f"{old.size:,} bytes", f"{new.size:,}") if old.size != new.size else (what, "its content", "another")


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _sync_folder(folder: Path) -> None:
    """Force the names of a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
