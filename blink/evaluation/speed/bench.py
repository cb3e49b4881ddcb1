"""Measures how fast a linker is, alone or against the original's way, in processes that run alternately."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.mention_files import read_samples
from blink.data.text_lines import read_lines
from blink.errors import BlinkError, SettingsError
from blink.evaluation.speed.machine import evict, machine
from blink.kb.catalogue import Catalogue
from blink.machine import THREAD_VARIABLES

STAGES = ("encode", "search", "rerank")
QUANTILES = (50, 95, 99)
TEMPLATES = ("who is {}?", "what do you know about {}?", "{} was mentioned in the report yesterday.", "where is {} today?")
"""Texts that stand for those of the user, where no file is given."""


class BenchError(BlinkError):
    """A process that was measured failed."""


@dataclass(frozen=True)
class SideRequest:
    """A side of a comparison.

    Attributes:
        name: in the results.
        side: ``blink`` or ``original-way``.
        options: of the linker, or of `OriginalWay`.
    """

    name: str
    side: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchPlan:
    """What is measured.

    Attributes:
        texts: at least one.
        batch_size: of the runs in batches.
        rounds: in each of which every side runs once.
        single_texts: texts of a round that are linked one by one.
        starts: fresh processes for the time of a start, warm; the same number cold.
        threads: of each process; 0 leaves them to the libraries.
    """

    texts: Sequence[str]
    batch_size: int = 64
    rounds: int = 5
    single_texts: int = 100
    starts: int = 3
    threads: int = 0


def texts_of_catalogue(catalogue: Catalogue, count: int, seed: int = 0) -> list[str]:
    """Texts that mention entities of a catalogue, for a measurement without texts of the user."""
    rows = np.random.default_rng(seed).choice(len(catalogue), min(count, len(catalogue)), replace=False)
    titles = [title for row in rows.tolist() if (title := catalogue.title(row))]
    return [TEMPLATES[i % len(TEMPLATES)].format(title) for i, title in enumerate(titles)]


def texts_of_file(file: str, limit: int) -> list[str]:
    """The first texts of a mention file, or of a file with a text a line.

    Raises:
        SettingsError: it has none.
    """
    is_mention_file = file.endswith((".jsonl", ".json"))
    source = (sample.text for sample in read_samples(file)) if is_mention_file else read_lines(file)
    texts = [text for text in islice(source, limit) if text.strip()]
    if not texts:
        raise SettingsError(f"{file} has no text; give a file with a text a line, or a mention file")
    return texts


def original_sides(folders: tuple[Path, Path], paddings: Sequence[int]) -> list[SideRequest]:
    """The original's way, encoding once and twice, with each padding; ``folders`` are of the model and the knowledge base."""
    model, kb = map(str, folders)
    return [
        SideRequest(
            f"original-way, padding {padding}, {'encodes twice' if encodings == 2 else 'encodes once'}",
            "original-way",
            {"model": model, "kb": kb, "padding": padding, "encodings": encodings},
        )
        for padding in paddings
        for encodings in (2, 1)
    ]


def measure(
    plan: BenchPlan, sides: Sequence[SideRequest], folders: Sequence[Path], note: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Measure sides; their runs alternate, so that what else the machine does touches all of them.

    Args:
        plan: what is measured.
        sides: the first is the one that the others are compared with.
        folders: of the model and the knowledge base, whose files are dropped from the system's cache for a cold start.
        note: called with a line on what runs.

    Raises:
        BenchError: a process failed; the message is its own.
    """
    lengths = [len(text) for text in plan.texts]
    result: dict[str, Any] = {
        "machine": machine(),
        "threads": plan.threads or "as the libraries choose",
        "texts": len(plan.texts),
        "characters": {"median": statistics.median(lengths), "max": max(lengths)},
        "batch_size": plan.batch_size,
        "rounds": plan.rounds,
    }
    with ExitStack() as stack:
        workers = {}
        for side in sides:
            note(f"opening: {side.name}")
            workers[side.name] = stack.enter_context(_Worker(side, plan, plan.texts))
        runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        calls: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        for number in range(plan.rounds + 1):  # the first warms up
            note(f"round {number} of {plan.rounds}" if number else "warming up")
            for name, worker in workers.items():
                in_batches = worker.run(plan.texts, plan.batch_size)
                one_by_one = worker.run(plan.texts[: plan.single_texts], 0)
                if number:
                    runs[name].append(in_batches)
                    calls[name].append(one_by_one)
        result["sides"] = {
            side.name: _figures(workers[side.name].opened, runs[side.name], calls[side.name], plan) for side in sides
        }
    if len(sides) > 1:
        result["ratios"] = {side.name: _ratios(sides[0].name, side.name, runs, calls, result) for side in sides[1:]}
    if plan.starts:
        result["start"] = {side.name: _starts(side, plan, folders, note) for side in sides if side.side == "blink"}
    return result


class _Worker:
    """A process of one side; ``counted`` are the texts whose tokens it counts at its start."""

    def __init__(self, side: SideRequest, plan: BenchPlan, counted: Sequence[str] = ()) -> None:
        self._side, self._plan, self._counted = side, plan, counted

    def __enter__(self) -> _Worker:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "blink.evaluation.speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=_environment(self._plan.threads),
        )
        request = {"side": self._side.side, "options": dict(self._side.options), "text": self._plan.texts[0]}
        self.opened = self._ask({**request, "texts": list(self._counted)})
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, texts: Sequence[str], batch_size: int) -> dict[str, Any]:
        return self._ask({"texts": list(texts), "batch_size": batch_size})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(f"the process of {self._side.name} ended with status {self._process.wait()}; its output is above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, **({name: str(threads) for name in THREAD_VARIABLES} if threads else {})}


def _figures(
    opened: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], calls: Sequence[Mapping[str, Any]], plan: BenchPlan
) -> dict[str, Any]:
    wall, cpu = (np.array([run[name] for run in runs]) for name in ("wall_s", "cpu_s"))
    texts = len(plan.texts)
    figures: dict[str, Any] = {
        **opened["about"],
        "ready": {"cpu_s": round(opened["cpu_s"], 2), "wall_s": round(opened["wall_s"], 2)},
        "peak_mib": round(max(run["peak_mib"] for run in (*runs, *calls))),
        "batches": {
            "texts_per_s": round(float(np.median(texts / wall)), 1),
            "texts_per_cpu_s": round(float(np.median(texts / cpu)), 1),
        },
        "call_ms": {
            "wall": _quantiles([call[0] for run in calls for call in run["calls"]]),
            "cpu": _quantiles([call[1] for run in calls for call in run["calls"]]),
        },
        "links": sum(map(len, runs[0]["links"])),
    }
    if opened.get("tokens"):
        figures["tokens"] = opened["tokens"]
        figures["batches"]["tokens_per_s"] = round(float(np.median(opened["tokens"] / wall)))
    if any(run["stage_s"] for run in runs):
        figures["batches"]["cpu_ms_per_text"] = _split(runs, texts)
        figures["call_ms"]["cpu_split"] = _split(calls, len(plan.texts[: plan.single_texts]))
    return figures


def _split(runs: Sequence[Mapping[str, Any]], texts: int) -> dict[str, float]:
    """CPU milliseconds of a text by stage, medians over rounds; ``rest`` is what is left of the whole."""
    split = {stage: statistics.median(run["stage_s"].get(stage, 0.0) for run in runs) for stage in STAGES}
    split["rest"] = max(0.0, statistics.median(run["cpu_s"] for run in runs) - sum(split.values()))
    return {stage: round(1000 * seconds / texts, 2) for stage, seconds in split.items()}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    values = np.percentile(np.array(seconds) * 1000, QUANTILES)
    return {f"p{q}": round(float(value), 2) for q, value in zip(QUANTILES, values, strict=True)}


def _ratios(
    first: str,
    other: str,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    calls: Mapping[str, Sequence[Mapping[str, Any]]],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    """How many times the first side is faster than another, and how much smaller."""
    ours, theirs = (result["sides"][name] for name in (first, other))
    return {
        "batches_cpu": _ratio([b["cpu_s"] / a["cpu_s"] for a, b in zip(runs[first], runs[other], strict=True)]),
        "batches_wall": _ratio([b["wall_s"] / a["wall_s"] for a, b in zip(runs[first], runs[other], strict=True)]),
        "call_cpu": {f"p{q}": round(theirs["call_ms"]["cpu"][f"p{q}"] / ours["call_ms"]["cpu"][f"p{q}"], 2) for q in QUANTILES},
        "call_cpu_rounds": _ratio([b["cpu_s"] / a["cpu_s"] for a, b in zip(calls[first], calls[other], strict=True)]),
        "ready_cpu": round(theirs["ready"]["cpu_s"] / ours["ready"]["cpu_s"], 2),
        "peak_memory": round(theirs["peak_mib"] / ours["peak_mib"], 2),
        "texts_linked_differently": sum(a != b for a, b in zip(runs[first][0]["links"], runs[other][0]["links"], strict=True)),
    }


def _ratio(ratios: Sequence[float]) -> dict[str, float]:
    values = (statistics.median(ratios), min(ratios), max(ratios))
    return dict(zip(("median", "min", "max"), (round(value, 2) for value in values), strict=True))


def _starts(
    side: SideRequest, plan: BenchPlan, folders: Sequence[Path], note: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Seconds from a fresh process to its first links: files in the system's cache (warm), or dropped from it (cold)."""
    figures = {}
    for kind in ("cold", "warm"):
        walls, cpus, memory = [], [], []
        for _ in range(plan.starts):
            note(f"starting, {kind}")
            if kind == "cold":
                for folder in folders:
                    evict(folder)
            started = time.perf_counter()
            with _Worker(side, plan) as worker:
                walls.append(time.perf_counter() - started)
                cpus.append(worker.opened["cpu_s"])
                memory.append(worker.opened["peak_mib"])
        figures[kind] = {
            "wall_s": round(statistics.median(walls), 2),
            "cpu_s": round(statistics.median(cpus), 2),
            "peak_mib": round(statistics.median(memory)),
        }
    return figures
