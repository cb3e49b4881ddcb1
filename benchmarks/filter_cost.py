"""What a selector costs inside a search: time of a filtered search by that of an unfiltered one, for each kind of index.

Both run in turn in one process, and medians of their CPU times are divided. Queries are the vectors of mentions in descriptions
of the knowledge base. Selectors allow a share of the rows: drawn at random, or those on one side of a plane, as entities of a
type are. ``recall`` is that of the filtered search against exact search of the allowed rows; ``forbidden`` counts hits that the
selector does not allow.

    OMP_NUM_THREADS=1 python benchmarks/filter_cost.py --kb DIR --out STEM [--kinds flat,coarse]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from index_kinds import RecordedQueries, links_of

from blink.evaluation.speed.bench import texts_of_catalogue
from blink.evaluation.speed.machine import machine
from blink.files import atomic_open, write_json
from blink.kb.index import KINDS, NO_ROW, ExactIndex, Index
from blink.kb.index.selector import RowSelector
from blink.kb.index.storage import build_codes, open_codes
from blink.kb.knowledge_base import KnowledgeBase

TOP = 10
SHARES = (0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999)
BATCHES = {1: 21, 64: 7}
"""Queries of a search: how often it is repeated."""
TEXTS = 100


def selectors(vectors: np.ndarray, share: float) -> dict[str, RowSelector]:
    """Selectors that allow a share of the rows, at least one."""
    draw = np.random.default_rng(0)
    n = max(1, round(share * len(vectors)))
    random = np.zeros(len(vectors), bool)
    random[draw.choice(len(vectors), n, replace=False)] = True
    side = np.zeros(len(vectors), bool)
    side[np.argpartition(-(vectors @ draw.standard_normal(vectors.shape[1]).astype(np.float32)), n - 1)[:n]] = True
    return {"random": RowSelector(random), "side": RowSelector(side)}


def ratio(filtered: Callable[[], Any], unfiltered: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median CPU time of the unfiltered search in milliseconds, and that of the filtered one divided by it."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for search, of_search in zip((filtered, unfiltered), times, strict=True):
            start = time.process_time()
            search()
            of_search.append((time.process_time() - start) * 1e3)
    one, other = map(statistics.median, times)
    return other, one / other


def rows_of(kind: str, index: Index, exact: ExactIndex, queries: np.ndarray) -> list[dict[str, Any]]:
    """The table of a kind: a row for each share and way of drawing."""
    table = []
    for share in SHARES:
        for drawn, selector in selectors(exact.matrix, share).items():
            found = index.search(queries, TOP, selector)[1]
            best = exact.search(queries, TOP, selector)[1]
            of_best = [np.isin(e[e != NO_ROW], f).mean() for e, f in zip(best, found, strict=True)]
            forbidden = int((~selector.mask[found[found != NO_ROW]]).sum())
            row: dict[str, Any] = {"kind": kind, "share": share, "rows": len(selector), "drawn": drawn}
            for size, repeats in BATCHES.items():
                searches = [partial(index.search, queries[:size], TOP, of) for of in (selector, None)]
                unfiltered, by = ratio(searches[0], searches[1], repeats)
                row |= {f"unfiltered_ms_at_{size}": round(unfiltered, 3), f"ratio_at_{size}": round(by, 2)}
            table.append(row | {"recall": round(float(np.mean(of_best)), 4), "forbidden": forbidden})
            print(table[-1], flush=True)
    return table


def page(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The table as Markdown."""
    heads = list(rows[0])
    lines = [f"| {' | '.join(h.replace('_', ' ') for h in heads)} |", "|" + " --- |" * len(heads)]
    lines += [f"| {' | '.join(str(row[h]) for h in heads)} |" for row in rows]
    entities = f"{facts['queries']} mention vectors, {facts['entities']:,} entities of dimension {facts['dim']}"
    source = f"one thread of {facts['machine']['processor']}; made by `benchmarks/filter_cost.py`."
    return (
        f"# Cost of selectors\n\nTime of a filtered search by that of an unfiltered one. {entities}; {source}\n\n"
        + "\n".join([*lines, ""])
    )


def main() -> None:
    """Measure, and write STEM.json and STEM.md after each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", default=",".join(KINDS))
    args = parser.parse_args()
    kb = KnowledgeBase.open(args.kb)
    assert kb.vectors is not None
    exact = ExactIndex(kb.vectors)
    recorded = RecordedQueries(kb.index)
    links_of(kb, args.kb, recorded, texts_of_catalogue(kb.catalogue, TEXTS))
    queries = np.concatenate(recorded.queries)[:256]
    facts = {"queries": len(queries), "entities": exact.size, "dim": exact.dim, "machine": machine()}
    rows: list[dict[str, Any]] = []
    for kind in args.kinds.split(","):
        stored = kb.manifest is not None and kb.manifest.index == kind
        index = kb.index if stored else open_codes(build_codes(exact.matrix, KINDS[kind]), KINDS[kind], exact.matrix)
        rows += rows_of(kind, index, exact, queries)
        write_json(args.out.with_suffix(".json"), {**facts, "rows": rows})
        with atomic_open(args.out.with_suffix(".md")) as f:
            f.write(page(rows, facts))


if __name__ == "__main__":
    main()
