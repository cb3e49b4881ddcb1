"""Measure what coherence costs where candidates are hubs of a large graph: countries, or "human", with very many neighbours.

Each case runs in a process of its own, since its peak of memory is measured. The graph is generated: most triples join an
entity to another at random, and hubs are joined to a random share of all entities.

    python benchmarks/coherence_hubs.py
    python benchmarks/coherence_hubs.py --entities 100000 --hubs 0 10 --out hubs.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from blink.data.prior_file import PriorTable
from blink.evaluation.speed.machine import machine, peak_memory_mib
from blink.files import write_json
from blink.linking.coherence import relatedness_of
from blink.linking.siblings import Siblings

CALLS = 5


def graph(entities: int, edges: int, hubs: int, hub_share: float) -> PriorTable:
    """A graph whose first ``hubs`` entities are hubs, each the head of triples to a random share of all others."""
    random = np.random.default_rng(0)
    ends = [random.integers(0, entities, (edges, 2))]
    for hub in range(hubs):
        others = np.flatnonzero(random.random(entities) < hub_share)
        ends.append(np.stack([np.full(len(others), hub), others], axis=1))
    every = np.sort(np.concatenate(ends), axis=1)
    keys = np.unique(every[every[:, 0] != every[:, 1]] @ np.array([entities, 1]))
    pairs = np.stack([keys // entities, keys % entities], axis=1).astype(np.int32)
    triples = np.stack([pairs[:, 0], random.integers(0, 5, len(pairs)), pairs[:, 1]], axis=1).astype(np.int32)
    degrees = np.bincount(pairs.reshape(-1), minlength=entities)
    return PriorTable(tuple(f"Q{i}" for i in range(entities)), degrees, pairs, triples=triples)


def measure(options: argparse.Namespace, hubs: int) -> dict[str, float]:
    """Times of the candidates of texts: the first ones, then others with the same hubs."""
    table = graph(options.entities, options.edges, max(options.hubs), options.hub_share)
    begin = time.process_time()
    related, siblings = relatedness_of(table, "neighbours"), Siblings.from_table(table)
    ready = time.process_time() - begin
    assert siblings is not None
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the calls, not of making the graph
    before, random, seconds = peak_memory_mib(), np.random.default_rng(1), []
    for _ in range(CALLS):
        others = random.choice(np.arange(max(options.hubs), options.entities), options.candidates - hubs, replace=False)
        candidates = np.sort(np.concatenate([np.arange(hubs), others]))
        begin = time.process_time()
        phi = related(candidates)
        groups = sum(1 for _ in siblings(candidates))
        seconds.append(time.process_time() - begin)
        assert phi.shape == (len(candidates), len(candidates))
        assert groups >= 0
    return {
        "hubs": hubs, "edges": len(table.edges), "ready_cpu_s": ready, "first_cpu_s": seconds[0],
        "next_cpu_s": float(np.median(seconds[1:])), "added_peak_mib": peak_memory_mib() - before,
    }  # fmt: skip


def main() -> None:
    """Measure each number of hubs, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=1_000_000, help="of the graph (default: %(default)s)")
    parser.add_argument("--edges", type=int, default=5_000_000, help="beside those of hubs (default: %(default)s)")
    parser.add_argument("--hub-share", type=float, default=0.3, help="of all entities, joined to a hub (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=300, help="of a text (default: %(default)s)")
    parser.add_argument("--hubs", type=int, nargs="+", default=[0, 10, 40], help="among them (default: 0 10 40)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(options, options.only)))
        return
    rows = []
    for hubs in options.hubs:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", str(hubs)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        write_json(options.out, {"machine": machine(), "candidates": options.candidates, "rows": rows})


if __name__ == "__main__":
    main()
