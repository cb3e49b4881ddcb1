"""What a server does under load: answers that are lost or not one's own, memory, latency, throughput, killed workers.

    python benchmarks/serving.py mixed --seconds 600
    python benchmarks/serving.py throughput
    python benchmarks/serving.py kills --seconds 120

``mixed``: 32 clients link texts of all lengths (one or eight short ones, own spans, 3,000 and 40,000 characters) while entities
are added, linked, changed, read and removed; each answer is compared with the links of the linker itself, or with the edit.
Then requests arrive at random times at half of the throughput that was reached; their time is counted from when they were due.
The work of these requests differs 100-fold: the 99th percentile of all of them by their median tells of the mix, that of one
kind how long a request waits for others.
``throughput``: the same texts by `Linker.link` and over HTTP, in turn. ``kills``: workers are killed while 32 clients send.

The server is a process of its own over a copy of the starter's knowledge base; the clients are in this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.server_process import ServerProcess, server_process
from benchmarks.serving_load import Connection, Counts, Load, Texts, closed_loop, open_loop
from blink.apps.common import say
from blink.evaluation.speed.machine import machine
from blink.files import read_json
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.starter import starter_kb
from blink.runs.provenance import git_revision
from scripts.harness import ROOT, alternate, markdown_table, run_script, write_results

STEM = ROOT / "benchmarks" / "results" / "serving"
CLIENTS = 32
MIXED = {"one": 0.64, "eight": 0.08, "spans": 0.08, "medium": 0.06, "long": 0.002, "edit": 0.138}
SHORT = {"one": 0.8, "eight": 0.1, "spans": 0.1}
N_SHORT, N_MEDIUM, N_LONG = 200, 12, 2
MEDIUM_CHARACTERS, LONG_CHARACTERS = 3000, 40_000
WARM_UP_SHARE = 0.2
"""Share of the time after which memory is measured."""
SAMPLE_S = 1.0
LEAST_REQUESTS = 20
"""Requests of a kind for whose percentiles there is a row."""


@contextmanager
def served(options: Sequence[str]) -> Iterator[tuple[ServerProcess, str, str]]:
    """A server over a copy of the starter's knowledge base that may be edited, with its token and the copy."""
    with tempfile.TemporaryDirectory(prefix="blink-bench-") as folder:
        kb, token_file, token = Path(folder) / "kb", Path(folder) / "token", secrets.token_hex(16)
        shutil.copytree(starter_kb(), kb)
        token_file.write_text(token)
        with server_process(["--kb", str(kb), "--token-file", str(token_file), *options]) as server:
            yield server, token, str(kb)


def descriptions(linker: Linker, n: int, first: int = 100) -> list[str]:
    """Descriptions of entities, which are texts of a sentence or two."""
    texts = (linker.catalogue[row].text for row in range(first, len(linker.catalogue)))
    return [text for _, text in zip(range(n), filter(None, texts), strict=False)]


def load_texts(linker: Linker) -> Texts:
    """The texts of the load with their links."""
    short = descriptions(linker, N_SHORT)
    prose = " ".join(descriptions(linker, 3000, 5000))
    medium = [prose[i * MEDIUM_CHARACTERS : (i + 1) * MEDIUM_CHARACTERS] for i in range(N_MEDIUM)]
    long = [prose[-(i + 1) * LONG_CHARACTERS :][:LONG_CHARACTERS] for i in range(N_LONG)]
    return Texts({"one": list(linker.link(short)), "medium": list(linker.link(medium)), "long": list(linker.link(long))})


class MemorySamples:
    """Memory of the processes that link, measured again and again in a thread: what is resident, and what of it is private. The
    rest are pages of mapped files, which the system takes back when it needs them, and of which there are never more than the
    files have."""

    def __init__(self, server: ServerProcess) -> None:
        self._server, self._is_over = server, threading.Event()
        self.samples: list[tuple[float, float, float]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._is_over.wait(SAMPLE_S):
            of = [memory_of(pid) for pid in self._server.pids()]
            resident, private = (sum(each[name] for each in of) for name in ("rss_mib", "private_mib"))
            self.samples.append((time.monotonic() - begin, resident, private))

    def stop(self) -> dict[str, float]:
        """What they show after the warm-up: the growth of a straight line through them, and levels."""
        self._is_over.set()
        self._thread.join()
        times, values, private = np.array(self.samples).T
        warm = times > WARM_UP_SHARE * times[-1]
        half = times > (times[-1] + WARM_UP_SHARE * times[-1]) / 2
        slope, private_slope = (np.polyfit(times[warm], of[warm], 1)[0] * 60 for of in (values, private))
        return {
            "mib_first_half": round(float(np.median(values[warm & ~half])), 1),
            "mib_second_half": round(float(np.median(values[half])), 1),
            "mib_most": round(float(values.max()), 1),
            "mib_per_minute": round(float(slope), 2),
            "private_mib_first_half": round(float(np.median(private[warm & ~half])), 1),
            "private_mib_second_half": round(float(np.median(private[half])), 1),
            "private_mib_per_minute": round(float(private_slope), 2),
        }


def memory_of(pid: int) -> dict[str, float]:
    """Resident memory of a process, its share of it where pages are shared, what is shared, and what is of no file, in MiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {"rss_mib": 0.0, "pss_mib": 0.0, "shared_mib": 0.0, "private_mib": 0.0}
    of = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    shared = of["Shared_Clean"] + of["Shared_Dirty"]
    values = {"rss_mib": of["Rss"], "pss_mib": of["Pss"], "shared_mib": shared, "private_mib": of["Anonymous"]}
    return {name: round(value, 1) for name, value in values.items()}


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds, and how often the second is the first."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {
        "n": len(seconds),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "ratio": round(float(p99 / p50), 2),
    }


def write(section: str, figures: dict[str, Any]) -> None:
    """Put the figures of a subcommand into the results."""
    file = STEM.with_suffix(".json")
    content = read_json(file) if file.is_file() else {}
    load = round(os.getloadavg()[1], 1)  # of 5 minutes: what else runs slows waits more than it slows work
    content[section] = {"conditions": {"machine": machine(), "git": git_revision(ROOT), "load": load}, **figures}
    say(json.dumps(figures, indent=1))
    write_results(STEM, content, markdown(content))


def markdown(content: dict[str, Any]) -> str:
    """The page of the results."""
    lines = ["# The server under load", "", "Written by `benchmarks/serving.py`, whose head says what is measured.", ""]
    tables = {"mixed": _mixed_rows, "throughput": _throughput_rows, "throughput, torch": _throughput_rows, "kills": _kill_rows}
    for name, rows in tables.items():
        if name in content:
            of = content[name]["conditions"]["machine"]
            load = content[name]["conditions"].get("load")
            busy = "" if load is None else f" The mean load of the machine was {load:g}."
            table = markdown_table(["", ""], rows(content[name]), 1)
            lines += [f"## {name}", "", f"`{content[name]['command']}` on {of['processor']}, {of['cores']} cores "
                      f"({', '.join(of['features'])}).{busy}", "", table, ""]  # fmt: skip
    return "\n".join(lines)


def _mixed_rows(of: dict[str, Any]) -> list[list[str]]:
    outcomes, memory = of["outcomes"], of["memory"]
    rows = [[f"{CLIENTS} clients, seconds", f"{of['seconds']:g}"], ["right answers", f"{outcomes.get('right', 0):,}"]]
    rows += [[f"{name} answers", f"{outcomes.get(name, 0):,}"] for name in ("lost", "wrong", "refused")]
    rows += [["right answers a second", f"{of['requests_per_second']:g}"]]
    rows += [["memory, first half after the warm-up", f"{memory['mib_first_half']:g} MiB"]]
    rows += [["memory, second half", f"{memory['mib_second_half']:g} MiB"]]
    rows += [["memory, growth of a line through all", f"{memory['mib_per_minute']:g} MiB a minute"]]
    if "private_mib_per_minute" in memory:
        levels = f"{memory['private_mib_first_half']:g} MiB, {memory['private_mib_second_half']:g} MiB"
        rows += [["memory without pages of mapped files, first half and second half", levels]]
        rows += [["memory without pages of mapped files, growth", f"{memory['private_mib_per_minute']:g} MiB a minute"]]
    for kind, latency in of["at_half"].items():
        rows += [[f"at half of it, {kind}: p50, p99, ratio (n)",
                  f"{latency['p50_ms']:g} ms, {latency['p99_ms']:g} ms, {latency['ratio']:g} ({latency['n']:,})"]]  # fmt: skip
    return rows


def _throughput_rows(of: dict[str, Any]) -> list[list[str]]:
    rows = [["texts, characters", f"{of['texts']:,}, {of['characters']:,}"]]
    rows += [[f"texts a second, {name}", f"{of['texts_per_second'][name]:g}"] for name in of["texts_per_second"]]
    for name, milliseconds in of.get("cpu_ms_per_text", {}).items():
        rows += [[f"processor time of a text, {name}", f"{milliseconds:g} ms"]]
    return [*rows, ["over HTTP by in-process, of texts a second", f"{of['share']:.3f}"]]


def _kill_rows(of: dict[str, Any]) -> list[list[str]]:
    rows = [[f"{of['workers']} workers, seconds", f"{of['seconds']:g}"], ["workers killed", str(of["kills"])]]
    rows += [["right answers", f"{of['outcomes'].get('right', 0):,}"], ["wrong answers", f"{of['outcomes'].get('wrong', 0):,}"]]
    rows += [["requests lost with the connections of a killed worker", str(of["lost_of_killed"])]]
    rows += [["requests lost on other connections", str(of["lost_of_others"])]]
    rows += [["seconds until the worker was back, median and most", f"{of['back_median_s']:g}, {of['back_most_s']:g}"]]
    for number, each in enumerate(of["memory"], 1):
        values = " / ".join(f"{each[name]:g} MiB" for name in ("rss_mib", "pss_mib", "shared_mib"))
        rows += [[f"worker {number}: resident, proportional, shared", values]]
    return rows


@click.group(help=__doc__)
def cli() -> None:
    """Measure."""


def _command() -> str:
    threads = os.environ.get("OMP_NUM_THREADS")
    prefix = f"OMP_NUM_THREADS={threads} " if threads else ""
    return prefix + "python benchmarks/serving.py " + " ".join(sys.argv[1:])


@cli.command()
@click.option(
    "--seconds", default=600.0, show_default=True, help="Time of the mixed load; the load at half takes a third of it."
)
@click.option("--workers", default=1, show_default=True)
def mixed(seconds: float, workers: int) -> None:
    """Mixed load with edits; memory; latency at half of the throughput."""
    with served(["--workers", str(workers)]) as (server, token, kb):
        texts = load_texts(open_linker(None, kb))
        loads = [Load(texts, MIXED, seed) for seed in range(CLIENTS)]
        asyncio.run(closed_loop(server.url, token, [Load(texts, SHORT, 99)], 3.0, Counts()))
        memory, counts = MemorySamples(server), Counts()
        rate = asyncio.run(closed_loop(server.url, token, loads, seconds, counts))
        figures = memory.stop()
        say(f"{rate:.1f} requests a second; {dict(counts.outcomes)}")
        at_half: dict[str, Any] = {}
        for name, weights in {"short texts alone": {"one": 1.0}, "mixed load": MIXED}.items():
            at_half |= at_half_of_most(server.url, token, texts, name, weights, seconds / 6)
    by_kind = {kind: percentiles(of_kind) for kind, of_kind in counts.seconds.items()}
    write("mixed", {"command": _command(), "seconds": seconds, "workers": workers, "outcomes": dict(counts.outcomes),
                    "wrong": counts.wrong, "requests_per_second": round(rate, 1), "memory": figures, "by_kind": by_kind,
                    "at_half": at_half})  # fmt: skip


def at_half_of_most(url: str, token: str, texts: Texts, name: str, weights: dict[str, float], seconds: float) -> dict[str, Any]:
    """Latencies at half of the throughput that 32 clients reach: of all requests, and of those of one short text."""
    loads = [Load(texts, weights, seed) for seed in range(2000, 2000 + CLIENTS)]
    most = asyncio.run(closed_loop(url, token, loads, seconds, Counts()))
    per_draw = 1 + 5 * weights.get("edit", 0)  # an edit is six requests, so that fewer of the load's draws are due
    half = Counts()
    asyncio.run(open_loop(url, token, Load(texts, weights, 1000), most / per_draw / 2, seconds, half))
    kinds = {"all requests": [s for of_kind in half.seconds.values() for s in of_kind]}
    kinds |= {f"requests of {kind}": of_kind for kind, of_kind in half.seconds.items() if len(of_kind) >= LEAST_REQUESTS}
    about = {"most_per_second": round(most, 1), "outcomes": dict(half.outcomes)}
    return {f"{name}, {kind}": percentiles(of_kind) | about for kind, of_kind in kinds.items() if of_kind}


@cli.command()
@click.option("--texts", "n_texts", default=1024, show_default=True)
@click.option("--per-request", default=64, show_default=True)
@click.option("--connections", default=8, show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("--backend", default="auto", show_default=True, help="Of both.")
def throughput(n_texts: int, per_request: int, connections: int, runs: int, backend: str) -> None:
    """The same texts in-process and over HTTP, in turn."""
    with served(["--backend", backend]) as (server, _, kb):
        linker = open_linker(None, kb, backend=backend)
        texts = descriptions(linker, n_texts, 1000)
        requests = [texts[i : i + per_request] for i in range(0, len(texts), per_request)]
        answers: dict[str, list[Any]] = {}
        cpu: dict[str, list[float]] = {"in-process": [], "HTTP": []}

        def in_process() -> None:
            begin = time.process_time()
            answers["in-process"] = [json.dumps(linked.to_json()) for linked in linker.link(texts)]
            cpu["in-process"].append(time.process_time() - begin)

        async def send() -> None:
            waiting = list(enumerate(requests))
            results: dict[int, Any] = {}

            async def client() -> None:
                connection = Connection(server.url)
                while waiting:
                    number, of_request = waiting.pop(0)
                    results[number] = (await connection.ask("POST", "/link", {"texts": of_request}))[1]["results"]
                connection.close()

            await asyncio.gather(*(client() for _ in range(connections)))
            answers["HTTP"] = [result for number in sorted(results) for result in results[number]]

        def over_http() -> None:
            begin = sum(map(cpu_seconds, server.pids()))
            asyncio.run(send())
            cpu["HTTP"].append(sum(map(cpu_seconds, server.pids())) - begin)

        seconds = alternate({"in-process": in_process, "HTTP": over_http}, runs)
    spans = [[[(x["start"], x["end"], x["row"]) for x in each["links"]] for each in side]
             for side in ([json.loads(a) for a in answers["in-process"]], answers["HTTP"])]  # fmt: skip
    if spans[0] != spans[1]:
        raise click.ClickException("the links over HTTP are others than those in-process")
    ratios = [a / b for a, b in zip(seconds["in-process"], seconds["HTTP"], strict=True)]
    rates = {name: round(len(texts) / statistics.median(of), 1) for name, of in seconds.items()}
    cpu_ms = {name: round(statistics.median(of[1:]) * 1000 / len(texts), 1) for name, of in cpu.items()}
    n_characters = sum(map(len, texts))
    section = "throughput" if backend == "auto" else f"throughput, {backend}"
    write(section, {"command": _command(), "texts": len(texts), "characters": n_characters, "texts_per_second": rates,
                    "backend": backend, "cpu_ms_per_text": cpu_ms, "seconds": seconds,
                    "share": round(statistics.median(ratios), 3)})  # fmt: skip


@cli.command()
@click.option("--seconds", default=120.0, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--every", default=15.0, show_default=True, help="Seconds between two kills.")
def kills(seconds: float, workers: int, every: float) -> None:
    """Kill workers while 32 clients send requests."""
    with served(["--workers", str(workers)]) as (server, token, kb):
        texts = load_texts(open_linker(None, kb))
        _wait_for_workers(server, workers)
        killed: list[tuple[float, set[int]]] = []
        back: list[float] = []
        is_over = threading.Event()

        def kill_workers() -> None:
            while not is_over.wait(every):
                pid = server.pids()[len(killed) % workers]
                killed.append((time.time(), _client_ports(pid)))
                os.kill(pid, signal.SIGKILL)
                begin = time.monotonic()
                _wait_for_workers(server, workers, without=pid)
                back.append(time.monotonic() - begin)

        thread = threading.Thread(target=kill_workers)
        thread.start()
        counts = Counts()
        asyncio.run(closed_loop(server.url, token, [Load(texts, SHORT, s) for s in range(CLIENTS)], seconds, counts))
        is_over.set()
        thread.join()
        memory = [memory_of(pid) for pid in server.pids()]
    of_killed = [lost for lost in counts.lost if any(lost[1] in ports for at, ports in killed if 0 <= lost[0] - at < 5)]
    write("kills", {"command": _command(), "seconds": seconds, "workers": workers, "kills": len(killed),
                    "outcomes": dict(counts.outcomes), "wrong": counts.wrong, "lost_of_killed": len(of_killed),
                    "lost_of_others": len(counts.lost) - len(of_killed), "back_median_s": round(statistics.median(back), 2),
                    "back_most_s": round(max(back), 2), "memory": memory})  # fmt: skip


def _client_ports(pid: int) -> set[int]:
    """Ports of the clients whose connections a process has."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(row[2].split(":")[1], 16) for row in rows if row[9] in inodes}


def _wait_for_workers(server: ServerProcess, workers: int, without: int = 0) -> None:
    """Wait until as many workers are ready as shall be; ``without`` is one that was killed, which the system may still list."""
    connection_deadline = time.monotonic() + 120
    while time.monotonic() < connection_deadline:
        said = server.log.read_text(encoding="utf-8", errors="replace")
        pids = server.pids()
        if len(pids) == workers and without not in pids and all(f"process {pid} is ready" in said for pid in pids):
            return
        time.sleep(0.05)
    raise click.ClickException("the workers are not ready after two minutes")


if __name__ == "__main__":
    run_script(cli, "serving")
