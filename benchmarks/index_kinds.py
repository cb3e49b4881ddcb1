"""Recall, links changed, CPU time, bytes and build time of each kind of index, against exact search.

Queries are the vectors of the mentions that the starter links in FILE. CPU time is that of one thread, in milliseconds a query;
kinds and exact search are measured alternately, so that ratios hold on a busy machine.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/index_kinds.py FILE --kb DIR --out STEM [--kinds coarse,sq8]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.data.mention_files import read_samples
from blink.evaluation.speed.machine import machine
from blink.files import atomic_open, write_json
from blink.kb.index import KINDS, ExactIndex, Hits, Index
from blink.kb.index.selector import RowSelector
from blink.kb.index.storage import build_codes, open_codes
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.candidates import CandidateGenerator
from blink.linking.linker import Linker
from blink.linking.starter import starter_model

TOP = 10
BATCHES = (1, 5, 64)
ROUNDS = 7


class RecordedQueries:
    """An index that keeps the queries of its searches."""

    def __init__(self, index: Index) -> None:
        self.index, self.queries = index, [np.empty((0, index.dim), np.float32)]
        self.dim, self.size = index.dim, index.size

    def search(self, queries: np.ndarray, k: int, selector: RowSelector | None = None) -> Hits:
        """See `Index.search`."""
        self.queries.append(np.array(queries))
        return self.index.search(queries, k, selector)


def links_of(kb: KnowledgeBase, folder: Path, index: Index, texts: Sequence[str]) -> list[Any]:
    """Start, end and row of the links of each text, with an index."""
    stage = CandidateGenerator(index, TOP, kb.names, kb.vectors)
    linker = Linker.from_pretrained(starter_model(), folder, stages={"candidates": stage})
    return [[(x.start, x.end, x.row) for x in linked.links] for linked in linker(list(texts))]


def alternately(searches: Sequence[Callable[[], Any]]) -> list[float]:
    """Median CPU time of each call, in milliseconds."""
    costs: list[list[float]] = [[] for _ in searches]
    for _ in range(ROUNDS + 1):
        for search, times in zip(searches, costs, strict=True):
            start = time.process_time()
            search()
            times.append((time.process_time() - start) * 1e3)
    return [statistics.median(times[1:]) for times in costs]


def measured(kind: str, exact: ExactIndex, queries: np.ndarray, expected: np.ndarray) -> tuple[dict[str, Any], Index]:
    """The row of a kind, and its index."""
    start = time.process_time()
    codes = build_codes(exact.matrix, KINDS[kind])
    build_s = time.process_time() - start
    index = open_codes(codes, KINDS[kind], exact.matrix)
    rows = index.search(queries, TOP)[1]
    row: dict[str, Any] = {
        "kind": kind,
        "recall_at_10": round(float(np.mean([np.isin(e, r).mean() for e, r in zip(expected, rows, strict=True)])), 5),
        "first_equal": round(float((rows[:, 0] == expected[:, 0]).mean()), 5),
        "bytes_per_vector": round(KINDS[kind].code_bytes(exact.size, exact.dim), 1),
        "build_cpu_s": round(build_s, 1),
    }
    for size in BATCHES:
        some = queries[:size]
        one, other = alternately([lambda q=some: index.search(q, TOP), lambda q=some: exact.search(q, TOP)])  # type: ignore[misc]
        row |= {f"cpu_ms_at_{size}": round(one / size, 3), f"of_exact_at_{size}": round(one / other, 3)}
    return row, index


def page(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The table as Markdown."""
    heads = list(rows[0])
    lines = [f"| {' | '.join(h.replace('_', ' ') for h in heads)} |", "|" + " --- |" * len(heads)]
    lines += [f"| {' | '.join(str(row.get(h, '')) for h in heads)} |" for row in rows]
    queries = f"{facts['queries']} mention vectors of {facts['texts']} texts"
    entities = f"{facts['entities']:,} entities of dimension {facts['dim']}"
    source = f"one thread of {facts['machine']['processor']}; made by `benchmarks/index_kinds.py`."
    return f"# Kinds of indexes\n\n{queries}, {entities}; {source}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write STEM.json and STEM.md after each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", default=",".join(KINDS))
    args = parser.parse_args()
    texts = [sample.text for sample in read_samples(args.file)]
    kb = KnowledgeBase.open(args.kb)
    assert kb.vectors is not None
    exact = ExactIndex(kb.vectors)
    recorded = RecordedQueries(exact)
    exact_links = links_of(kb, args.kb, recorded, texts)
    queries = np.concatenate(recorded.queries)
    expected = exact.search(queries, TOP)[1]
    facts = {"texts": len(texts), "queries": len(queries), "entities": exact.size, "dim": exact.dim, "machine": machine()}
    rows: list[dict[str, Any]] = []
    for kind in args.kinds.split(","):
        row, index = measured(kind, exact, queries, expected)
        links = links_of(kb, args.kb, index, texts)
        row["texts_with_other_links"] = sum(a != b for a, b in zip(links, exact_links, strict=True))
        rows.append(row)
        print(row, flush=True)
        write_json(args.out.with_suffix(".json"), {**facts, "rows": rows})
        with atomic_open(args.out.with_suffix(".md")) as f:
            f.write(page(rows, facts))


if __name__ == "__main__":
    main()
