"""Compare BLINK with other ways to link entities over the same catalogue, that of the starter.

    python benchmarks/peers.py
    python benchmarks/peers.py --questions DATA/WebQSP_EL/dev.jsonl --prose DATA/gum/dev.jsonl --paragraphs 200 \\
        --tune DATA/WebQSP_EL/train.jsonl --tune DATA/gum/train.jsonl --out benchmarks/results/peers

Each way runs in a process of its own, one after the other. It is opened once to prepare what it stores, and a second time to be
measured. Its threshold is the one with the best mean F1 on the files of --tune, which are other texts; BLINK keeps its default.
Figures are those of `blink eval`: of questions whose entities are all in the catalogue (weak), and of mentions whose entity is
in it (strong).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peer_linkers import PEERS, Linked, Names
from blink.evaluation.speed.machine import machine, peak_memory_mib
from blink.files import write_json
from blink.kb.manifest import CATALOGUE_FILE

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
TUNED_ON, BATCH = 300, 32


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Open a way of linking in this process, tune its threshold and measure it."""
    name, folder = options.worker, options.kb
    link_all, threshold = _blink() if name == "blink" else _peer(name, folder, options.cache)
    ready = {"start_s": time.time() - options.begun, "start_cpu_s": time.process_time(), "start_mib": peak_memory_mib()}
    if options.prepare:
        return ready
    from benchmarks.peer_figures import best_threshold, is_cased, read_texts
    from blink.kb.knowledge_base import KnowledgeBase

    kb = KnowledgeBase.open(folder)
    if threshold is None:
        tuned = [read_texts(f, kb, is_prose=is_cased(f), most=options.tuned_on) for f in options.tune]
        threshold = best_threshold(tuned, [link_all([s.text for s in texts.samples]) for texts in tuned])
    figures: dict[str, Any] = {**ready, "threshold": None if math.isinf(threshold) else threshold}
    for label, file, most in (("questions", options.questions, None), ("prose", options.prose, options.paragraphs)):
        texts = read_texts(file, kb, is_prose=label == "prose", most=most or sys.maxsize)
        begin, cpu = time.perf_counter(), time.process_time()
        links = link_all([s.text for s in texts.samples])
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        n = len(texts.samples)
        speed = {"texts": n, "texts_per_s": n / seconds, "texts_per_cpu_s": n / cpu_seconds}
        figures[label] = texts.figure(texts.report(links, threshold)) | speed
    return figures | {"peak_mib": peak_memory_mib()}


LinkAll = Callable[[Sequence[str]], list[list[Linked]]]


def _blink() -> tuple[LinkAll, float]:
    from blink.linking.opening import open_linker

    linker = open_linker(None, None)
    linker("Ready.")

    def link_all(texts: Sequence[str]) -> list[list[Linked]]:
        return [[Linked(x.start, x.end, x.row, x.score) for x in of.links] for of in linker.link(list(texts), batch_size=BATCH)]

    return link_all, -math.inf


def _peer(name: str, folder: Path, cache: Path) -> tuple[LinkAll, None]:
    from blink.kb.popularity import POPULARITY, POPULARITY_FILE

    popularity = np.load(folder / POPULARITY_FILE, allow_pickle=False)[:, POPULARITY]
    make = PEERS[name].open
    assert make is not None
    peer = make(Names(folder / CATALOGUE_FILE, popularity), cache)
    return lambda texts: [peer.link(text) for text in texts], None


def run(name: str, arguments: Sequence[str], kb: Path, cache: Path, *, prepare: bool = False) -> dict[str, Any]:
    """The figures of a way, from a process of its own."""
    hidden = {"--worker": name, "--kb": kb, "--cache": cache, "--begun": repr(time.time())}
    command = [sys.executable, __file__, *arguments, *(str(word) for option in hidden.items() for word in option)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command + ["--prepare"] * prepare, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    from scripts.harness import markdown_table

    head = ["", "questions F1", "prose F1", "questions/s", "paragraphs/s", "memory", "start", "prepared once"]
    rows = []
    for name, of in results["peers"].items():
        if "absent" in of:
            rows.append([PEERS[name].label, f"not measured: {of['absent']}", *[""] * 6])
            continue
        scores = [f"{of[k]['f1']:.3f} [{of[k]['f1_low']:.3f}, {of[k]['f1_high']:.3f}]" for k in ("questions", "prose")]
        speeds = [_rounded(of[k]["texts_per_cpu_s"]) for k in ("questions", "prose")]
        prepared = f"{of['prepare_s']:.0f} s" if "prepare_s" in of else ""
        rows.append([PEERS[name].label, *scores, *speeds, f"{of['peak_mib']:.0f} MiB", f"{of['start_cpu_s']:.1f} s", prepared])
    return markdown_table(head, rows)


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def main() -> None:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, default=DATA / "everyday.jsonl", help="mention file (default: %(default)s)")
    parser.add_argument("--prose", type=Path, default=DATA / "traps.jsonl", help="mention file (default: %(default)s)")
    parser.add_argument("--paragraphs", type=int, default=200, help="of the prose that are measured (default: %(default)s)")
    parser.add_argument("--tune", type=Path, action="append", help="mention file for thresholds, repeatable")
    parser.add_argument("--tuned-on", type=int, default=TUNED_ON, help="texts of each such file (default: %(default)s)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="which (default: all)")
    parser.add_argument("--out", type=Path, help="write the figures as OUT.json and the table as OUT.md")
    for hidden, of in (("--worker", str), ("--kb", Path), ("--cache", Path), ("--begun", float)):
        parser.add_argument(hidden, type=of, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.tune = options.tune or [DATA / "everyday-dev.jsonl", DATA / "traps-dev.jsonl"]
    if options.worker:
        print(json.dumps(work(options)))
        return
    from blink.linking.starter import starter_kb

    kb = starter_kb()
    results: dict[str, Any] = {"machine": machine(), "peers": {}}
    with tempfile.TemporaryDirectory() as cache:
        for name in options.peers:
            kind = PEERS[name]
            lacking = [package for package in kind.needs if importlib.util.find_spec(package) is None]
            absent = kind.absent or (f"{', '.join(lacking)} is not installed" if lacking else "")
            if absent:
                results["peers"][name] = {"absent": absent}
                continue
            prepared = run(name, sys.argv[1:], kb, Path(cache), prepare=True)
            results["peers"][name] = run(name, sys.argv[1:], kb, Path(cache))
            if kind.open is not None:
                results["peers"][name]["prepare_s"] = prepared["start_cpu_s"]
            print(json.dumps({name: results["peers"][name]}), file=sys.stderr, flush=True)
    print(table(results))
    if options.out:
        write_json(options.out.with_suffix(".json"), results)
        options.out.with_suffix(".md").write_text(table(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
