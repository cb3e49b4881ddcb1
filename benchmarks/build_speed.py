"""How long `blink kb build` takes in two revisions, alternately in one run, and whether neighbours are the same.

    python benchmarks/build_speed.py entity.jsonl --against 6098f63 --rows 2000 --repeats 3 --queries questions.jsonl

Prints one JSON object. Each build is a process of its own, on a sample of the catalogue. A build of 64 entities gives the CPU
time to start; ``net_cpu_s`` is without it, as in a large catalogue. ``--avx2`` limits PyTorch to the instructions of a laptop's
processor, in fp32. On a busy machine CPU seconds say more than seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.kb.index import ExactIndex
from blink.kb.vectors import load_vectors
from scripts.harness import print_json

ROOT = Path(__file__).resolve().parents[1]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
STARTING_ROWS = 64
NEIGHBOURS = 10


def check_out(revision: str, folder: Path) -> Path:
    """The files of a revision of this repository, in ``folder``."""
    archive = folder.with_suffix(".tar")
    subprocess.run(["git", "archive", "--output", str(archive), revision], cwd=ROOT, check=True)
    with tarfile.open(archive) as f:
        f.extractall(folder, filter="data")
    return folder


def build(tree: Path, catalogue: Path, out: Path, options: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Build a knowledge base with the program of ``tree``.

    Returns:
        seconds, CPU seconds and peak memory in MB of the process and its children.
    """
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "blink.apps.cli", "kb", "build", str(catalogue), "--out", str(out), *options]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=tree, env={**os.environ, **environment, "PYTHONPATH": str(tree)})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"the build in {tree} failed with status {os.waitstatus_to_exitcode(status)}")
    return {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}


def sample_lines(catalogue: Path, out: Path, rows: int) -> Path:
    """Write ``rows`` lines of a catalogue, evenly spread."""
    with catalogue.open("rb") as f:
        total = sum(1 for _ in f)
    rows = min(rows, total)
    wanted = {total * i // rows for i in range(rows)}
    with catalogue.open("rb") as f, out.open("wb") as sample:
        sample.writelines(line for number, line in enumerate(f) if number in wanted)
    return out


def mention_vectors(file: str) -> np.ndarray:
    """Vectors of the mentions that the starter detects in the texts of a mention file. *Shape:* (n, d), float32."""
    from blink.data.mention_files import read_samples
    from blink.linking.opening import open_linker

    linker = open_linker(None, None, rank=False)
    queries: list[np.ndarray] = []
    index = linker.stages.candidates.index
    search = index.search

    def recording(vectors: np.ndarray, k: int) -> Any:
        queries.append(np.array(vectors))
        return search(vectors, k)

    index.search = recording  # type: ignore[method-assign, assignment]
    for _ in linker.analyze([s.text for s in read_samples(file)], min_mention_log_prob=linker.min_mention_log_prob):
        pass
    return np.concatenate(queries)


def overlap(queries: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Shares of equal nearest rows of two sets of vectors of the same entities: the first, the sets of ten, and their order."""
    first, second = (ExactIndex(vectors).search(queries, NEIGHBOURS)[1] for vectors in (one, other))
    same = [len(set(a) & set(b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return {
        "queries": len(queries),
        "same_first": round(float((first[:, 0] == second[:, 0]).mean()), 4),
        "same_of_ten": round(sum(same) / first.size, 4),
    }


def compare(one: Path, other: Path, file: str | None) -> dict[str, Any]:
    """Cosines of the vectors of two knowledge bases of one catalogue, and whether their neighbours are the same."""
    old, new = (np.asarray(load_vectors(folder / "vectors.npy"), np.float32) for folder in (one, other))
    cosines = np.einsum("nd,nd->n", old, new) / (np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1))
    rows = np.linspace(0, len(old) - 1, min(2000, len(old))).astype(int)
    figures = {"least_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    neighbours = {"entities": overlap(old[rows], old, new)}
    if file is not None:
        neighbours["mentions"] = overlap(mention_vectors(file), old, new)
    return figures | {"neighbours": neighbours}


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Build alternately with both programs, and compare time and vectors."""
    trees = {"old": check_out(arguments.against, scratch / "old"), "new": check_out(arguments.revision, scratch / "new")}
    catalogue = sample_lines(Path(arguments.catalogue), scratch / "entity.jsonl", arguments.rows)
    few = sample_lines(catalogue, scratch / "few.jsonl", STARTING_ROWS)
    options = ["--index", "flat", "--precision", "fp32" if arguments.avx2 else arguments.precision]
    environment = AVX2 if arguments.avx2 else {}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    starts = {name: build(tree, few, scratch / "kb-few", options, environment) for name, tree in trees.items()}
    for _ in range(arguments.repeats):
        for name, tree in trees.items():
            start = starts[name]
            whole = build(tree, catalogue, scratch / f"kb-{name}", options, environment)
            times[name].append(whole | {"net_cpu_s": whole["cpu_s"] - start["cpu_s"]})
    ratios = {
        figure: [round(a[figure] / b[figure], 2) for a, b in zip(times["old"], times["new"], strict=True)]
        for figure in ("net_cpu_s", "cpu_s", "s")
    }
    return {
        "rows": arguments.rows,
        "options": " ".join(options),
        "instructions": "AVX2" if arguments.avx2 else "all",
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "ratios_old_to_new": ratios,
        "median_ratio": {figure: statistics.median(values) for figure, values in ratios.items()},
        "times": {name: [{k: round(v, 2) for k, v in row.items()} for row in rows] for name, rows in times.items()},
        "vectors": compare(scratch / "kb-old", scratch / "kb-new", arguments.queries),
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", metavar="ENTITY.jsonl")
    parser.add_argument("--against", required=True, metavar="REVISION", help="revision of this repository to compare with")
    parser.add_argument("--revision", default="HEAD", metavar="REVISION", help="revision that is measured (default: HEAD)")
    parser.add_argument("--rows", type=int, default=2000, help="entities of the sample (default: 2000)")
    parser.add_argument("--repeats", type=int, default=3, help="builds with each program (default: 3)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--avx2", action="store_true", help="fp32 without AVX-512, as on most laptops")
    parser.add_argument("--queries", metavar="FILE", help="mention file whose mentions search both sets of vectors")
    with tempfile.TemporaryDirectory() as scratch:
        print_json(measure(parser.parse_args(), Path(scratch)))


if __name__ == "__main__":
    main()
