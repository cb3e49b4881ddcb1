"""What a pass over a dump has written so far: streams that grow, and a journal of how much of them is committed.

The results of a segment are appended, forced to the disk and then committed by replacing the journal. After a kill the streams
are cut to what is committed, and the pass continues with the next segment.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from blink.checksums import hash_of_beginning, read_hashed_json, write_hashed_json
from blink.errors import DataError, MismatchError
from blink.work_folders import work_folder

FORMAT = 1
JOURNAL = "journal.json"
MAX_PROBLEMS = 20


@dataclass
class State:
    """What is committed.

    Attributes:
        settings: what the output depends on, as plain values.
        segments: number of segments that are behind.
        stored: bytes of the dump that are behind.
        carry: the beginning of a record that the next segment ends.
        sizes: bytes of each stream.
        counts: of records, by what became of them.
        problems: the first broken records, one line each.
        complete: whether the pass is at its end.
        hashes: SHA-256 of each stream; none in journals of earlier versions.
    """

    settings: Mapping[str, Any]
    segments: int = 0
    stored: int = 0
    carry: bytes = b""
    sizes: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    complete: bool = False
    hashes: dict[str, str] = field(default_factory=dict)


class Journal:
    """The streams of one pass in a folder.

    Args:
        folder: where they are; made if it is missing.
        names: of the streams, which are names of files.
        settings: what the output depends on.
    """

    def __init__(self, folder: Path, names: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.folder, self._names = folder, tuple(names)
        self.state = State(json.loads(json.dumps(settings)), sizes=dict.fromkeys(names, 0))  # settings as they are on disk
        self._handles: dict[str, IO[bytes]] = {}
        self._digests: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """The file of a stream."""
        return self.folder / name

    @contextlib.contextmanager
    def opened(self) -> Iterator[Journal]:
        """Open the streams where the committed state ends, that of an earlier call or the beginning.

        Raises:
            MismatchError: an earlier call had other settings, or a stream was changed.
            DataError: the journal is damaged.
        """
        work_folder(self.folder, (JOURNAL,))
        before = self._read()
        if before is not None:
            require_same(before.settings, self.state.settings, self.folder)
            self.state = before
        with contextlib.ExitStack() as stack:
            for name in self._names:
                handle = stack.enter_context(self.path(name).open("ab"))
                size = self.state.sizes[name]
                if os.fstat(handle.fileno()).st_size < size:
                    fault = f"{self.path(name)} is shorter than what was committed"
                    raise MismatchError(f"{fault}: something else changed it; remove {self.folder} to start again")
                self._digests[name] = hash_of_beginning(self.path(name), size)
                if self.state.hashes.get(name, digest := self._digests[name].hexdigest()) != digest:
                    fault = f"{self.path(name)} is not what was committed: it was changed, or is damaged"
                    raise MismatchError(f"{fault}; remove {self.folder} to start again")
                handle.truncate(size)
                handle.seek(size)
                self._handles[name] = handle
            yield self

    def commit(
        self,
        segments: int,
        stored: int,
        carry: bytes,
        contents: Mapping[str, bytes],
        counts: Counter[str],
        problems: Sequence[str] = (),
    ) -> None:
        """Append what came of a segment, so that it is there whatever happens next.

        Args:
            segments: number of segments that are behind now.
            stored: bytes of the dump that are behind now.
            carry: see `State`.
            contents: what is appended to each stream.
            counts: of the records.
            problems: broken records, one line each.
        """
        for name, content in contents.items():
            if content:
                handle = self._handles[name]
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
                self.state.sizes[name] += len(content)
                self._digests[name].update(content)
        self.state.hashes = {name: digest.hexdigest() for name, digest in self._digests.items()}
        self.state.segments, self.state.stored, self.state.carry = segments, stored, carry
        self.state.counts.update(counts)
        self.state.problems.extend(problems[: MAX_PROBLEMS - len(self.state.problems)])
        self._write()

    def complete(self) -> None:
        """Note that the pass is at its end."""
        self.state.complete = True
        self._write()

    def _write(self) -> None:
        state = self.state
        values = vars(state) | {"carry": base64.b64encode(state.carry).decode("ascii")}
        write_hashed_json(self.folder / JOURNAL, {"format": FORMAT, **values})

    def _read(self) -> State | None:
        path = self.folder / JOURNAL
        if not path.exists():
            return None
        remedy = f"remove {self.folder} to start again"
        values = read_hashed_json(path, remedy)
        try:
            if values.pop("format") != FORMAT or values["sizes"].keys() != set(self._names):
                raise ValueError("of another version")
            carry, counts = base64.b64decode(values.pop("carry"), validate=True), Counter(values.pop("counts"))
            return State(**values, carry=carry, counts=counts)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}); {remedy}") from error


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Check that settings are those of an earlier call.

    Raises:
        MismatchError: they differ; the message names those that do.
    """
    names = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    differing = [f"{key} ({str(before.get(key))[:60]}, now {str(now.get(key))[:60]})" for key in names]
    if differing:
        fault = f"{folder} was begun with other settings: {', '.join(differing)}"
        raise MismatchError(f"{fault}; give the same, or another --out; to start again, remove the folder")
