"""Dumps of Wikidata and Wikipedia: synthetic ones with the real schemas, and how fast and how safely they are read.

    python benchmarks/dumps.py make wikidata --size 200 --out wikidata.json.gz
    python benchmarks/dumps.py make wikipedia --size 200 --out wikipedia-multistream.xml.bz2
    python benchmarks/dumps.py speed wikidata wikidata.json.gz
    python benchmarks/dumps.py kills wikipedia wikipedia-multistream.xml.bz2 --kills 10

``make`` writes a dump; a Wikipedia dump in bzip2 is multistream, with its index beside it. ``speed`` runs the command and
reports the text read per second of CPU time of all its processes, and their largest memory, sampled: the sum of resident sizes,
and of proportional ones, which count pages that several processes share once. The time that decompression alone takes is
measured beside it. ``kills`` runs the command undisturbed, then again, killed at random moments with all its processes, and
compares the files byte by byte.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.dump_schemas import FOOTER, HEADER, WikidataItems, WikipediaPages
from blink.decompression import decompressed
from blink.errors import BlinkError
from scripts.harness import ROOT, print_json, run_script

COMMANDS = {"wikidata": "from-wikidata", "wikipedia": "from-wikipedia"}
FILES = {"wikidata": ("entity.jsonl", "triples.tsv", "relations.tsv"), "wikipedia": ("entity.jsonl",)}
PAGES_PER_STREAM = 100
POLL_S = 0.05
kind_argument = click.argument("kind", type=click.Choice(sorted(COMMANDS)))


class RunFailed(BlinkError):
    """A run ended otherwise than it should."""


@click.group(help=__doc__)
def dumps() -> None:
    """See the module."""


@dumps.command()
@kind_argument
@click.option("--size", default=200, show_default=True, help="Megabytes of text.")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=Path, required=True, help="A name that ends with .bz2, .gz or neither.")
def make(kind: str, size: int, seed: int, out: Path) -> None:
    """Write a synthetic dump."""
    with out.open("wb") as raw:
        written = write_wikidata(raw, out, size, seed) if kind == "wikidata" else write_wikipedia(raw, out, size, seed)
    print_json({"dump": str(out), "text_mb": round(written / 1e6, 1), "file_mb": round(out.stat().st_size / 1e6, 1)})


def write_wikidata(raw: IO[bytes], out: Path, size: int, seed: int) -> int:
    """Write lines until they have so many megabytes; returns their bytes."""
    written = 0
    with compressed(raw, out) as f:
        for line in WikidataItems(seed).lines():
            written += f.write(line + b"\n")
            if written >= size * 1e6:
                return written + f.write(b"]\n")
    raise RunFailed("there are no more lines")


def write_wikipedia(raw: IO[bytes], out: Path, size: int, seed: int) -> int:
    """Write pages until they have so many megabytes, as streams and an index if they are compressed by bzip2."""
    pages = WikipediaPages(seed).pages()
    if out.suffix != ".bz2":
        with compressed(raw, out) as f:
            written = f.write(HEADER.encode())
            while written < size * 1e6:
                written += f.write(next(pages)[2].encode())
            return written + f.write(FOOTER.encode())
    lines, written = [], len(HEADER)
    raw.write(bz2.compress(HEADER.encode()))
    while written < size * 1e6:
        start, stream = raw.tell(), list(itertools.islice(pages, PAGES_PER_STREAM))
        lines += [f"{start}:{number}:{title}\n" for number, title, _ in stream]
        content = "".join(page for _, _, page in stream).encode()
        raw.write(bz2.compress(content))
        written += len(content)
    raw.write(bz2.compress(FOOTER.encode()))
    index = out.with_name(f"{out.name.removesuffix('.xml.bz2')}-index.txt.bz2")
    index.write_bytes(bz2.compress("".join(lines).encode()))
    return written + len(FOOTER)


def compressed(raw: IO[bytes], out: Path) -> Any:
    """A file that compresses as its name says."""
    if out.suffix == ".bz2":
        return bz2.BZ2File(raw, "wb")
    return gzip.GzipFile("", "wb", 6, raw, mtime=0) if out.suffix == ".gz" else open(raw.fileno(), "wb", closefd=False)


@dumps.command()
@kind_argument
@click.argument("dump", type=Path)
@click.option("--workers", default=1, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--out", type=Path, help="Write the result there too.")
@click.argument("options", nargs=-1)
def speed(kind: str, dump: Path, workers: int, rounds: int, out: Path | None, options: tuple[str, ...]) -> None:
    """Measure rate and memory; OPTIONS are those of the command."""
    text_mb, decompression_s = decompression(dump)
    rows = [measured(kind, dump, workers, options) for _ in range(rounds)]
    best = min(rows, key=lambda row: row["cpu_s"])
    parsing_s = best["cpu_s"] - decompression_s
    result = {
        "kind": kind, "dump": dump.name, "text_mb": round(text_mb, 1), "workers": workers, "options": options, **best,
        "mb_per_cpu_s": round(text_mb / best["cpu_s"], 1),
        "decompression_s": round(decompression_s, 2),
        "mb_per_cpu_s_without_decompression": round(text_mb / parsing_s, 1),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    print_json(result, out)


def decompression(dump: Path) -> tuple[float, float]:
    """Megabytes of the text of a dump, and seconds of CPU time to decompress it."""
    began, size = time.process_time(), 0
    with dump.open("rb") as raw:
        stream = decompressed(raw)  # type: ignore[arg-type]
        while block := stream.read(1 << 20):
            size += len(block)
    return size / 1e6, time.process_time() - began


def measured(kind: str, dump: Path, workers: int, options: tuple[str, ...]) -> dict[str, Any]:
    """Run the command, and watch its processes."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        process = start(kind, dump, Path(folder) / "out", workers, options)
        resident = proportional = 0
        while process.poll() is None:
            sizes = [memory(pid) for pid in family(process.pid)]
            resident = max(resident, sum(size for size, _ in sizes))
            proportional = max(proportional, sum(size for _, size in sizes))
            time.sleep(POLL_S)
        if process.returncode:
            raise RunFailed(f"the command ended with {process.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = round(time.monotonic() - began, 2)
    return {"wall_s": seconds, "cpu_s": round(cpu_s, 2), "rss_mib": resident // 1024, "pss_mib": proportional // 1024}


@dumps.command()
@kind_argument
@click.argument("dump", type=Path)
@click.option("--kills", default=10, show_default=True, help="Number of kills.")
@click.option("--workers", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--out", type=Path, help="Write the result there too.")
@click.argument("options", nargs=-1)
def kills(kind: str, dump: Path, kills: int, workers: int, seed: int, out: Path | None, options: tuple[str, ...]) -> None:
    """Kill the command at random moments; OPTIONS are those of the command."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        began = time.monotonic()
        if start(kind, dump, whole, 1, options).wait():
            raise RunFailed("the undisturbed run failed")
        undisturbed_s = time.monotonic() - began
        moments = []
        while len(moments) < kills:
            process, began = start(kind, dump, killed, workers, options), time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                # Long enough for some segments to be committed, and short enough for so many kills before the end.
                process.wait(rng.uniform(0.3, 1.0 + 2 * undisturbed_s / kills))
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(round(time.monotonic() - began, 2))
        if start(kind, dump, killed, workers, options).wait():
            raise RunFailed("the last run failed")
        digests = [{name: sha256(folder / name) for name in FILES[kind]} for folder in (whole, killed)]
    result = {"kind": kind, "dump": dump.name, "killed_after_s": moments, "undisturbed_s": round(undisturbed_s, 1)}
    print_json({**result, "workers": workers, "same_bytes": digests[0] == digests[1], "sha256": digests[0]}, out)
    if digests[0] != digests[1]:
        raise RunFailed("the killed run ended in other bytes")


def start(kind: str, dump: Path, out: Path, workers: int, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start the command as a group of processes of its own."""
    arguments = ["kb", COMMANDS[kind], str(dump), "--out", str(out), "--workers", str(workers), *options]
    command = [sys.executable, "-m", "blink.apps.cli", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)


def family(pid: int) -> Iterator[int]:
    """A process and those that it started."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional size of a process, in kilobytes."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines[1:])}
        return sizes.get("Rss", 0), sizes.get("Pss", 0)
    return 0, 0


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    run_script(dumps, "dumps")
