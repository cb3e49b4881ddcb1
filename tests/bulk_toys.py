"""A linker of bulk runs without a model: its links tell which texts it was given together, so that wrong chunks show."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from blink.bulk.records import RecordLayout
from blink.bulk.run import BulkJob, link_files
from blink.data.records import Candidate, Link, LinkedText

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ToyLinker:
    """Links the first character of each text; the score is the number of texts that are linked together.

    Attributes:
        seconds: that a text takes.
        deadly: a text that kills its process.
        survivor: a file; once it exists, that text kills no more.
    """

    seconds: float = 0.0
    deadly: str | None = None
    survivor: str | None = None

    def __call__(self, warn: Callable[[str], None]) -> ToyLinker:
        return self

    def link(self, texts: Iterable[str], *, batch_size: int = 64) -> Iterator[LinkedText]:
        together = list(texts)
        for text in together:
            time.sleep(self.seconds)
            if text == "cannot":
                raise ValueError("this text cannot be linked")
            if text == self.deadly and not (self.survivor and Path(self.survivor).exists()):
                if self.survivor:
                    Path(self.survivor).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            candidates = (Candidate(1, "Q1", text[:1], 0.5), Candidate(2, None, "other", 0.25))
            links = (Link(0, 1, text[:1], 1, "Q1", text[:1], float(len(together)), candidates),) if text else ()
            yield LinkedText(text, links)


def broken_linker(warn: Callable[[str], None]) -> ToyLinker:
    raise MemoryError("no room for a linker")


def job(files: Any, out: Path, layout: RecordLayout | None = None, **options: Any) -> BulkJob:
    """A job with small chunks."""
    names = tuple(str(file) for file in (files if isinstance(files, list | tuple) else [files]))
    options.setdefault("chunk_lines", 4)
    return BulkJob(names, out, layout or RecordLayout("text", carry=("all",)), **options)


def write_records(file: Path, n: int) -> Path:
    """``n`` records, some of which have errors."""
    lines = [json.dumps({"id": i, "text": f"{chr(65 + i % 26)} text {i}", "date": f"day {i}"}) for i in range(n)]
    lines[n // 3], lines[n // 2] = "{broken", '{"id": 7, "text": 7}'
    file.write_text("".join(line + "\n" for line in lines))
    return file


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of an output."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return [{k: v for k, v in row.items() if v is not None} for row in pq.read_table(file).to_pylist()]
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as f:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(f)]
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    if file.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


if __name__ == "__main__":  # a run that is killed from outside: FILE OUT WORKERS SECONDS
    link_files(job(sys.argv[1], Path(sys.argv[2])), ToyLinker(float(sys.argv[4])), workers=int(sys.argv[3]))
