"""Bulk runs: kills, memory, and worker processes. Prints one JSON object.

    python benchmarks/bulk.py kills --texts 3000 --kills 10
    python benchmarks/bulk.py memory --texts 500 --times 20
    python benchmarks/bulk.py workers --texts 2000 --rounds 3

``kills`` runs ``blink link --out`` undisturbed, then again, killed at random moments by SIGKILL and SIGTERM, and
compares the outputs byte by byte. ``memory`` measures the largest resident memory over an input, and one many times as long.
``workers`` compares one process on all cores with several processes, alternately. The texts are those of ``--data``, a
mention file, repeated in random order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.errors import BlinkError
from scripts.harness import ROOT, print_json, run_script

TEXTS = ROOT / "tests" / "data" / "everyday.jsonl"
POLL_S = 0.05


class RunFailed(BlinkError):
    """A run ended otherwise than it should."""


def write_texts(data: Path, out: Path, n: int, seed: int = 0) -> Path:
    """``n`` records with texts of a mention file."""
    texts = [json.loads(line)["text"] for line in data.read_text(encoding="utf-8").splitlines()]
    chance = random.Random(seed)
    with out.open("w", encoding="utf-8") as f:
        for i in range(n):
            f.write(json.dumps({"id": i, "text": chance.choice(texts)}) + "\n")
    return out


def command(source: Path, out: Path, *options: str) -> list[str]:
    """The command that links a file."""
    return [sys.executable, "-m", "blink.apps.cli", "link", "--file", str(source), "--out", str(out), *options]


def run(words: list[str]) -> None:
    """Run a command to its end.

    Raises:
        RunFailed: it fails.
    """
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"{' '.join(words[3:])} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")


def journal(out: Path) -> dict[str, Any]:
    """What is committed of an output."""
    return dict(json.loads(out.with_name(out.name + ".run.json").read_text(encoding="utf-8")))


def committed(out: Path) -> int:
    """Records that are committed of an output."""
    return int(journal(out)["counts"]["records"]) if out.with_name(out.name + ".run.json").exists() else 0


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@click.group(help=__doc__)
def bulk() -> None:
    """See the module."""


def texts_options(function: Any) -> Any:
    """The options that all measurements have."""
    for option in (
        click.option("--texts", default=500, show_default=True, help="Number of texts."),
        click.option("--data", type=Path, default=TEXTS, show_default=True, help="Mention file with the texts."),
        click.option("--out", type=Path, help="Write the result there too."),
        click.argument("options", nargs=-1),
    ):
        function = option(function)
    return function


@bulk.command()
@texts_options
@click.option("--kills", default=10, show_default=True, help="Number of kills.")
@click.option("--workers", default=1, show_default=True, help="Processes that link.")
@click.option("--ending", default=".jsonl", show_default=True, help="Ending of the output.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def kills(
    texts: int, data: Path, out: Path | None, options: tuple[str, ...], kills: int, workers: int, ending: str, seed: int
) -> None:
    """Kill a run again and again; OPTIONS are those of blink link."""
    with work_folder() as folder:
        source, chance = write_texts(data, folder / "in.jsonl", texts), random.Random(seed)
        whole, killed = folder / f"whole{ending}", folder / f"killed{ending}"
        run(command(source, whole, *options))
        moments = []
        for number in range(kills):
            before, began = committed(killed), time.monotonic()
            process = subprocess.Popen(
                command(source, killed, "--workers", str(workers), *options), cwd=ROOT, stderr=subprocess.DEVNULL
            )
            # Every second kill comes behind the next commit, the others mostly while the linker is opened.
            while number % 2 and process.poll() is None and committed(killed) == before:
                time.sleep(POLL_S)
            time.sleep(chance.uniform(0.0, 3.0))
            process.send_signal(signal.SIGKILL if number % 4 < 2 else signal.SIGTERM)
            status, seconds = process.wait(), round(time.monotonic() - began, 2)
            moments.append({"seconds": seconds, "status": status, "committed": committed(killed)})
        run(command(source, killed, "--workers", str(workers), *options))
        same = whole.read_bytes() == killed.read_bytes()
        rows = journal(killed)["counts"]["records"]
    print_json({"texts": texts, "kills": moments, "workers": workers, "rows": rows, "same_bytes": same}, out)
    if all(moment["status"] == 0 for moment in moments):
        raise RunFailed("the run ended before it could be killed; give more --texts")
    if not same or rows != texts:
        raise RunFailed("the killed run has other rows than the undisturbed one")


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB; memory that they share counts once for each."""
    total = 0.0
    for process in (pid, *_children(pid)):
        try:
            status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        except OSError:
            continue
        total += sum(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def peak_mb(words: list[str]) -> float:
    """Largest resident memory of a command, in MB, polled every `POLL_S`."""
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    peak, done = 0.0, threading.Event()

    def poll() -> None:
        nonlocal peak
        while not done.wait(POLL_S):
            peak = max(peak, resident_mb(process.pid))

    thread = threading.Thread(target=poll)
    thread.start()
    status = process.wait()
    done.set()
    thread.join()
    if status:
        raise RunFailed(f"{' '.join(words[3:])} ended with {status}")
    return peak


@bulk.command()
@texts_options
@click.option("--times", default=20, show_default=True, help="How many times as long the other input is.")
def memory(texts: int, data: Path, out: Path | None, options: tuple[str, ...], times: int) -> None:
    """Measure memory on an input, and on a longer one; OPTIONS are those of blink link."""
    with work_folder() as folder:
        peaks = {}
        for n in (texts, texts * times):
            source = write_texts(data, folder / f"{n}.jsonl", n)
            peaks[n] = round(peak_mb(command(source, folder / f"{n}-out.jsonl", *options)), 1)
    print_json({"peak_mb": peaks, "ratio": round(peaks[texts * times] / peaks[texts], 3)}, out)


@bulk.command()
@texts_options
@click.option("--rounds", default=3, show_default=True, help="Alternate runs of each.")
@click.option("--workers", default=2, show_default=True, help="Processes that one of them has.")
def workers(texts: int, data: Path, out: Path | None, options: tuple[str, ...], rounds: int, workers: int) -> None:
    """Texts a second of one process and of several, without their start; OPTIONS are those of blink link."""
    rates: dict[int, list[float]] = {1: [], workers: []}
    with work_folder() as folder:
        source = write_texts(data, folder / "in.jsonl", texts)
        for number in range(rounds):
            for count in rates:
                result = folder / f"{count}-{number}.jsonl"
                run(command(source, result, "--workers", str(count), *options))
                rates[count].append(texts / journal(result)["seconds"])
    medians = {count: round(statistics.median(values), 1) for count, values in rates.items()}
    ratios = [several / one for one, several in zip(rates[1], rates[workers], strict=True)]
    result_row = {
        "cores": os.cpu_count(),
        "texts_per_second": medians,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
    }
    print_json(result_row, out)


if __name__ == "__main__":
    run_script(bulk, "bulk.py")
