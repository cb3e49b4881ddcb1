"""Memory, time and recall of knowledge bases from 100,000 to 5.9 million entities with vectors of 1024 dimensions.

    benchmarks/scale.py prepare DIR --kb KB --texts FILE      vectors, queries, a model of 1024 dimensions, exact neighbours
    benchmarks/scale.py build DIR --rows N                    a knowledge base of the first N entities, by the product's build
    benchmarks/scale.py measure DIR --rows N [--max-ram 2G]   starts, memory, search, recall, in processes of their own
    benchmarks/scale.py page DIR --out STEM --plot FILE.svg   the table and the plot of all measurements

The entities are perturbed copies of those of KB, the queries vectors of mentions in FILE, see `benchmarks/scale_data.py`. The
vectors of 5.9 million entities take 12 GB in DIR, and three times as much during a build. Interrupted commands continue.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.scale_data import (
    VectorGenerator,
    catalogue_lines,
    exact_neighbours,
    mention_vectors,
    orthonormal_map,
    read_vectors,
    write_vectors,
    write_wide_model,
)
from benchmarks.scale_page import draw_growth, page_of
from blink.apps.common import say
from blink.data.arrays import map_array, save_array
from blink.data.mention_files import read_samples
from blink.data.records import Entity
from blink.files import atomic_open, read_json, write_json
from scripts.harness import as_help, run_script, write_results

SIZES = (100_000, 400_000, 1_600_000, 5_900_000)
MAX_QUERIES = 500
SAMPLE = 300
"""Entities whose nearest others are searched for, to compare their cosines with those of real entities."""
SEED = 0
TOP = 10
MENTIONS_PER_CALL = 3
VECTORS, QUERIES, MODEL, TEXTS, NEIGHBOURS = "vectors.npy", "queries.npy", "model", "texts.json", "neighbours"
REAL_COSINES = "real_cosines.json"


def every(seconds: float) -> Any:
    """A function that says its message if the last one is at least ``seconds`` old."""
    last = time.monotonic()

    def report(message: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            say(message)

    return report


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now, and the most it was, in MiB; files are mapped pages."""
    values = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    names = {"rss": "VmRSS", "peak": "VmHWM", "anonymous": "RssAnon", "files": "RssFile"}
    return {name: round(int(values[field].split()[0]) / 1024, 1) for name, field in names.items()}


# -- prepare


@click.group(help=as_help(__doc__))
def cli() -> None:
    """Benchmark of size."""


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--kb", required=True, metavar="KB", type=click.Path(path_type=Path), help="Knowledge base of real entities.")
@click.option("--texts", required=True, metavar="FILE", help="Texts whose mentions are the queries.")
@click.option("--model", default="models/starter", show_default=True, metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--rows", default=SIZES[-1], show_default=True, type=click.IntRange(1000), help="Entities to generate.")
def prepare(folder: Path, kb: Path, texts: str, model: Path, rows: int) -> None:
    """Generate vectors and queries, and search exactly once."""
    folder.mkdir(parents=True, exist_ok=True)
    real = map_array(kb / VECTORS, "give the folder of a knowledge base")
    strings = [sample.text for sample in read_samples(texts)]
    if not (folder / MODEL / "config.json").is_file():
        say("writing the model with 1024 dimensions")
        write_wide_model(model, folder / MODEL, SEED)
        write_json(folder / TEXTS, {"texts": strings, "kb": str(kb.resolve())})
    if not (folder / QUERIES).is_file():
        say(f"detecting the mentions of {len(strings)} texts")
        vectors = mention_vectors(str(model), str(kb), strings)
        kept = np.sort(np.random.default_rng(SEED).choice(len(vectors), min(MAX_QUERIES, len(vectors)), replace=False))
        save_array(folder / QUERIES, vectors[kept] @ orthonormal_map(vectors.shape[1], SEED))
    if not (folder / VECTORS).is_file():
        began, report = time.monotonic(), every(30)

        def advance(done: int) -> None:
            report(f"generated {done:,} of {rows:,} vectors, {done / (time.monotonic() - began):,.0f}/s")

        write_vectors(folder / VECTORS, VectorGenerator.from_real(real, SEED), rows, advance)
    _store_real_cosines(folder, real)
    _store_neighbours(folder, [size for size in SIZES if size < rows] + [rows])


def _store_real_cosines(folder: Path, real: np.ndarray) -> None:
    """Cosines of real entities to their nearest others, among more and more of them."""
    if (folder / REAL_COSINES).is_file():
        return
    shuffled = real[np.random.default_rng([SEED, 4]).permutation(len(real))].astype(np.float32)
    sizes = [len(real) >> halvings for halvings in (4, 3, 2, 1, 0)]
    sample = shuffled[: min(SAMPLE * 3, sizes[0])]
    write_json(
        folder / REAL_COSINES,
        [{"rows": n, "cosines": _quantiles(scores[:, 1])} for n, scores, _ in exact_neighbours(shuffled, sample, sizes, 2)],
    )


def _store_neighbours(folder: Path, sizes: Sequence[int]) -> None:
    """Exact neighbours of the queries, and cosines of sampled entities to their nearest others, for each size."""
    if all((folder / f"{NEIGHBOURS}-{size}.json").is_file() for size in sizes):
        return
    vectors, queries = map_array(folder / VECTORS, "run prepare again"), np.load(folder / QUERIES, allow_pickle=False)
    sample = np.sort(np.random.default_rng([SEED, 3]).choice(sizes[0], min(SAMPLE, sizes[0]), replace=False))
    both = np.concatenate([queries, vectors[sample].astype(np.float32)])
    report, n = every(30), len(queries)
    for size, scores, rows in exact_neighbours(
        vectors, both, sizes, TOP, report=lambda done: report(f"searched {done:,} rows")
    ):
        cosines = scores[:n] / np.linalg.norm(queries, axis=1, keepdims=True)
        values = {
            "rows": rows[:n].tolist(),
            "query_to_first": _quantiles(cosines[:, 0]),
            "first_to_second": _quantiles(cosines[:, 0] - cosines[:, 1]),
            "first_to_tenth": _quantiles(cosines[:, 0] - cosines[:, -1]),
            "entity_to_nearest": _quantiles(scores[n:, 1]),
            "largest_between_entities": round(float(scores[n:, 1].max()), 4),
        }
        write_json(folder / f"{NEIGHBOURS}-{size}.json", values)
        say(f"exact neighbours among {size:,} entities stored")


def _quantiles(values: np.ndarray) -> list[float]:
    """The 10th, 50th and 90th percentiles."""
    return [round(float(v), 4) for v in np.percentile(values, [10, 50, 90])]


# -- build


@dataclass(frozen=True)
class StageCost:
    """Cost of a stage of a build.

    Attributes:
        peak_mb: the most memory of the process in it, with mapped pages.
        anonymous_mb: memory that is no mapped file, at its end.
    """

    name: str
    seconds: float
    cpu_s: float
    peak_mb: float
    anonymous_mb: float


class StageClock:
    """Times the stages of a build."""

    def __init__(self) -> None:
        self.costs: list[StageCost] = []
        self._name: str | None = None
        self._began = (0.0, 0.0)
        self._rows = 0
        self._report = every(30)

    def stage(self, name: str, total: int) -> None:
        """Begin a stage, which ends the one before."""
        now = (time.monotonic(), time.process_time())
        if self._name is not None:
            memory = memory_mb()
            seconds, cpu = (round(a - b, 1) for a, b in zip(now, self._began, strict=True))
            self.costs.append(StageCost(self._name, seconds, cpu, memory["peak"], memory["anonymous"]))
            say(f"{self._name}: {seconds} s, peak {memory['peak']:,.0f} MiB")
        self._name, self._began, self._rows = name, now, 0
        with contextlib.suppress(OSError):  # 5: forget the peak of the stages before
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def advance(self, rows: int) -> None:
        """Count finished rows."""
        self._rows += rows
        self._report(f"{self._name}: {self._rows:,} rows")


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", required=True, type=click.IntRange(1000), help="Entities of the knowledge base.")
def build(folder: Path, rows: int) -> None:
    """Build a knowledge base over generated vectors."""
    from blink.kb.building import BuildProgress, build_knowledge_base
    from blink.kb.catalogue import Catalogue

    out, source = folder / f"kb-{rows}", folder / f"entity-{rows}.jsonl"
    with Catalogue.open(Path(read_json(folder / TEXTS)["kb"]) / "entity.jsonl") as real, atomic_open(source) as f:
        f.writelines(catalogue_lines(list(real), rows, SEED))
    map_array(folder / VECTORS, "run prepare first")
    fingerprint = read_json(folder / MODEL / "config.json")["candidate_fingerprint"]
    clock = StageClock()

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        return read_vectors(folder / VECTORS, np.array([entity.row for entity in entities])).astype(np.float32)

    began = time.monotonic()
    build_knowledge_base(
        source, out, encode, fingerprint, dtype="fp16", chunk_rows=50_000, progress=BuildProgress(clock.stage, clock.advance)
    )
    clock.stage("end", 0)
    source.unlink()
    sizes = {f.name: round(f.stat().st_size / 1e6, 1) for f in sorted(out.iterdir()) if f.is_file()}
    cost = {"seconds": round(time.monotonic() - began, 1), "stages": [asdict(c) for c in clock.costs]}
    write_json(folder / f"build-{rows}.json", {"rows": rows, **cost, "files_mb": sizes})


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", required=True, type=click.IntRange(1000), help="Entities of the knowledge base.")
@click.option("--index", "kind", default="auto", show_default=True, help="Kind of the index, as of `blink kb build`.")
def reindex(folder: Path, rows: int, kind: str) -> None:
    """Replace the index of a knowledge base, as `blink kb index` does, with a note of the cost."""
    from blink.kb.reindex import reindex as replace_index

    base, clock = folder / f"kb-{rows}", StageClock()
    clock.stage("indexing", rows)
    replace_index(base, kind, advance=clock.advance)
    clock.stage("end", 0)
    built = read_json(folder / f"build-{rows}.json")
    stages = [stage for stage in built["stages"] if stage["name"] != "indexing"]
    write_json(folder / f"build-{rows}.json", {**built, "stages": [*stages, *map(asdict, clock.costs)]})


# -- measure


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", required=True, type=int, help="Entities of the knowledge base.")
@click.option("--max-ram", metavar="SIZE", help="Memory that the knowledge base may take, such as 2G.")
@click.option(
    "--starts", default=3, show_default=True, type=click.IntRange(1), help="Starts that count, after one that does not."
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="Threads of a process.")
def measure(folder: Path, rows: int, max_ram: str | None, starts: int, threads: int) -> None:
    """Measure starts, memory, search, recall and linking."""
    runs = [_in_process(folder, rows, max_ram, threads, full=False) for _ in range(starts + 1)][1:]
    full = _in_process(folder, rows, max_ram, threads, full=True)
    start = {"start_s": round(statistics.median(run["start_s"] for run in runs), 2), "starts": starts}
    start["started_mb"] = max((run["started_mb"] for run in runs), key=lambda memory: memory["rss"])
    result = {"rows": rows, "max_ram": max_ram, "threads": threads, "cpu": _cpu_name(), **start, **full["measured"]}
    simd = os.environ.get("FAISS_SIMD_LEVEL", "")  # such as AVX2, to search as an older processor would
    write_json(folder / f"measure-{rows}-{max_ram or 'all'}-{threads}{simd}.json", {**result, "simd": simd})
    click.echo(json.dumps(result, indent=2))


def _in_process(folder: Path, rows: int, max_ram: str | None, threads: int, *, full: bool) -> dict[str, Any]:
    """Open a linker in a new process. ``start_s``: from its command to the links of a first text."""
    arguments = [str(folder), "--rows", str(rows), *(() if max_ram is None else ("--max-ram", max_ram)), *(["--full"] * full)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    began = time.time()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "worker", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "start_s": result["ready"] - began}


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


@cli.command(hidden=True)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--rows", required=True, type=int)
@click.option("--max-ram")
@click.option("--full", is_flag=True)
def worker(folder: Path, rows: int, max_ram: str | None, full: bool) -> None:
    """The process that is measured."""
    from blink.linking.linker import Linker

    texts = read_json(folder / TEXTS)["texts"]
    options = {} if max_ram is None else {"max_ram": max_ram}
    linker = Linker.from_pretrained(folder / MODEL, folder / f"kb-{rows}", **options)
    linker(texts[0])
    result: dict[str, Any] = {"ready": time.time(), "started_mb": memory_mb()}
    if full:
        result["measured"] = _measured(linker, folder, rows, texts)
    click.echo(json.dumps(result))


def _measured(linker: Any, folder: Path, rows: int, texts: Sequence[str]) -> dict[str, Any]:
    index, queries = linker.stages.candidates.index, np.load(folder / QUERIES, allow_pickle=False)
    exact = np.array(read_json(folder / f"{NEIGHBOURS}-{rows}.json")["rows"])
    calls = [queries[at : at + MENTIONS_PER_CALL] for at in range(0, len(queries) - MENTIONS_PER_CALL + 1, MENTIONS_PER_CALL)]
    vectors = folder / f"kb-{rows}" / VECTORS
    cold = [_timed(lambda call=call: index.search(call, TOP), before=lambda: _evict(vectors)) for call in calls[:40]]
    for call in calls:  # the rows that it reads are then in the page cache
        index.search(call, TOP)
    warm = [_timed(lambda call=call: index.search(call, TOP)) for call in calls]
    hits = np.concatenate([index.search(queries[at : at + 64], TOP)[1] for at in range(0, len(queries), 64)])
    recall = np.mean([np.isin(e, h).mean() for e, h in zip(exact, hits, strict=True)])
    searched = memory_mb()
    one = [_timed(lambda text=text: linker(text)) for text in texts[:100]]
    all_texts = _timed(lambda: linker(list(texts)))
    return {
        "index": type(index).__name__,
        "search_ms": _milliseconds(warm),
        "search_cold_ms": _milliseconds(cold),
        "recall_at_10": round(float(recall), 4),
        "first_equal": round(float((exact[:, 0] == hits[:, 0]).mean()), 4),
        "queries": len(queries),
        "searched_again": _searched_again(index, queries),
        "searched_mb": searched,
        "link_one_ms": _milliseconds(one),
        "link_all_ms_per_text": round(all_texts[0] / len(texts) * 1e3, 2),
        "linked_mb": memory_mb(),
    }


def _searched_again(index: Any, queries: np.ndarray) -> float | None:
    """Share of the queries whose first shortlist is too short; None for an index without shortlists."""
    from blink.kb.index import CoarseIndex

    if not isinstance(index, CoarseIndex):
        return None
    enough = [index._rescored(queries[at : at + 64], index.depth, TOP, None)[2] for at in range(0, len(queries), 64)]
    return round(1 - float(np.concatenate(enough).mean()), 4)


def _timed(action: Any, before: Any = None) -> tuple[float, float]:
    """Seconds of wall clock and of CPU time of all threads."""
    if before is not None:
        before()
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def _milliseconds(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    walls, cpus = zip(*times, strict=True)
    quantiles = {
        "median": np.median(walls),
        "p90": np.percentile(walls, 90),
        "least": min(walls),
        "cpu_median": np.median(cpus),
    }
    return {name: round(float(value) * 1e3, 2) for name, value in quantiles.items()}


def _evict(path: Path) -> None:
    """Drop a file from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


# -- page


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out", required=True, metavar="STEM", type=click.Path(path_type=Path), help="STEM.json and STEM.md are written."
)
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the growth, as SVG.")
def page(folder: Path, out: Path, plot: Path | None) -> None:
    """Write the table and the plot."""
    rows = [read_json(file) for file in folder.glob("measure-*.json")]
    measured = sorted(rows, key=lambda row: (row["rows"], row["max_ram"] or "", row["threads"]))
    content = {
        "measured": measured,
        "builds": [read_json(folder / f"build-{n}.json") for n in sorted({row["rows"] for row in measured})],
        "data": {n: _without_rows(read_json(folder / f"{NEIGHBOURS}-{n}.json")) for n in sorted({r["rows"] for r in measured})},
        "real_entities_to_nearest": read_json(folder / REAL_COSINES),
    }
    write_results(out, content, page_of(content))
    if plot is not None:
        draw_growth(measured, plot)


def _without_rows(neighbours: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in neighbours.items() if name != "rows"}


if __name__ == "__main__":
    run_script(cli, "scale.py")
