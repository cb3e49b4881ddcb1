"""A dump to a folder of files: one pass that is committed segment by segment, then what is made of it."""

from __future__ import annotations

import contextlib
import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.checksums import read_hashed_json, write_hashed_json
from blink.dumps.journal import Journal, require_same
from blink.dumps.mapping import BROKEN, Mapper, WrongDumpError, map_dump
from blink.dumps.segments import Dump
from blink.errors import SettingsError
from blink.files import disk_full_named, locked
from blink.progress import Bars, no_bars
from blink.work_folders import remove_work_folder

WORK, SUMMARY, CATALOGUE = ".dump", "dump.json", "entity.jsonl"
"""In the output folder: unfinished work; what was done; the catalogue."""
Finish = Callable[[Journal, Path, Bars], Counter[str]]
"""Makes the files of the output folder of the streams of a pass, and returns counts of what they hold."""


@dataclass(frozen=True)
class DumpJob:
    """What is made of a dump.

    Attributes:
        dump: the dump.
        out: output folder.
        mapper: of its records.
        settings: what the output depends on beside the dump, as plain values.
        finish: see `Finish`.
    """

    dump: Dump
    out: Path
    mapper: Mapper
    settings: Mapping[str, Any]
    finish: Finish

    def identity(self) -> dict[str, Any]:
        """What the output depends on, as it is on disk."""
        dump = {
            "dump": str(self.dump.path),
            "size": self.dump.size,
            "sample": self.dump.sample,
            "streams": len(self.dump.streams),
        }
        return dict(json.loads(json.dumps({**dump, **self.settings})))


@dataclass(frozen=True)
class Summary:
    """What came of a dump.

    Attributes:
        counts: of records by what became of them, and of what the files hold.
        problems: the first broken records.
    """

    counts: Mapping[str, int]
    problems: tuple[str, ...] = ()

    def describe(self, hidden: str = "") -> str:
        """The counts in words, without those that begin with ``hidden``."""
        shown = {name: n for name, n in self.counts.items() if not (hidden and name.startswith(hidden))}
        text = ", ".join(f"{n:,} {name}" for name, n in shown.items() if n)
        more = self.counts.get(BROKEN, 0) - len(self.problems)
        broken = [*self.problems, *([f"{more:,} more"] if self.problems and more > 0 else [])]
        return f"{text}{'; broken: ' if broken else ''}{'; '.join(broken)}"


def run_job(
    job: DumpJob,
    *,
    workers: int = 1,
    bars: Bars = no_bars,
    warn: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Work a job off; after a kill the same call continues, and ends in the same bytes.

    Raises:
        MismatchError: the folder was begun with other settings, or of another dump.
        SettingsError: another process works in it, or it holds files of something else.
        DataError: the dump is damaged or of another kind.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    with disk_full_named(job.out), locked(job.out), _no_collection():
        done, work = job.out / SUMMARY, job.out / WORK
        if done.exists():
            values = read_hashed_json(done, f"remove {job.out} to start again")
            require_same(values["settings"], job.identity(), job.out)
            remove_work_folder(work)
            return Summary(values["counts"], tuple(values["problems"]))
        if (job.out / CATALOGUE).exists() and not work.exists():
            raise SettingsError(f"{job.out / CATALOGUE} exists and is not of this command; give another --out")
        try:
            with Journal(work, job.mapper.streams, job.identity()).opened() as journal:
                map_dump(job.dump, job.mapper, journal, workers=workers, bars=bars, warn=warn)
                made = job.finish(journal, job.out, bars)
        except WrongDumpError:
            remove_work_folder(work)
            raise
        summary = Summary({**journal.state.counts, **made}, tuple(journal.state.problems))
        write_hashed_json(done, {"settings": job.identity(), "counts": summary.counts, "problems": summary.problems})
        remove_work_folder(work)
        return summary


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No search for circles of objects in the block: it has none, and millions of objects that each search would visit."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
