"""Tables of names at several sizes: building them, look-ups, and how many misspelt names they recall.

The catalogue is that of ENTITY.jsonl and, above its size, entities whose names are recombined from its own: another first or
last word, a word made of two, one word more. Mentions are names of random entities as `blink.training.data.noise`
augments them, without those that are exact names. Each build and each measurement is a process of its own.

    python benchmarks/names_speed.py ENTITY.jsonl [--sizes 100000,400000,1600000,6000000] [--out OUT.json]

``--trigrams-up-to NAMES`` measures the lists of all trigrams too, which knowledge bases of format 5 have, in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.data.records import Entity
from blink.evaluation.speed.machine import evict, machine, peak_memory_mib
from blink.files import read_json, write_json
from blink.kb.alias_table import normalise, without_brackets
from blink.kb.catalogue import Catalogue
from blink.kb.fuzzy_index import FuzzyIndex
from blink.kb.grams import N_TRIGRAMS
from blink.kb.name_index import NameIndex
from blink.kb.name_tables import FILES, build_name_tables
from blink.kb.title_table import TitleTable
from blink.training.data.noise import AUGMENTATIONS
from scripts.harness import print_json

WARM_UP = 50
ROWS_AT_ONCE = 64


def write_catalogue(source: Path, path: Path, names: int) -> int:
    """Write a catalogue of about ``names`` names and return its number of entities."""
    written = rows = 0
    with Catalogue.open(source, skip_bad=True) as whole, path.open("w", encoding="utf-8") as f:
        for entity in recombined(whole):
            if written >= names:
                break
            value = {"title": entity.title, "kb_idx": f"Q{rows + 1}", "aliases": entity.aliases, "text": f"Entity {rows}."}
            f.write(json.dumps(value, ensure_ascii=False) + "\n")
            written += len({entity.title, without_brackets(entity.title), *entity.aliases})
            rows += 1
    return rows


def recombined(whole: Catalogue, seed: int = 0) -> Iterator[Entity]:
    """The entities of a catalogue in random order, then endless ones with names made of theirs."""
    random = np.random.default_rng(seed)
    for row in random.permutation(len(whole)).tolist():
        if not whole.is_bad(row):
            yield whole[row]
    titles = [without_brackets(whole.title(row)) for row in range(len(whole))]
    pool = [words for words in map(str.split, titles) if 2 <= len(words) <= 5]
    known = set(titles)
    while True:
        for kind, *numbers in random.integers(1 << 40, size=(1 << 14, 4)).tolist():
            name = " ".join(_recombined(kind % 20, *(pool[number % len(pool)] for number in numbers)))
            if name not in known:
                known.add(name)
                yield Entity(0, name)


def _recombined(kind: int, words: list[str], second: list[str], third: list[str]) -> list[str]:
    if kind < 8:
        return [second[0], *words[1:]]
    if kind < 15:
        return [*words[:-1], second[-1]]
    if kind < 18:
        first, other = second[0], third[-1]
        return [first[: len(first) // 2] + other[len(other) // 2 :].lower() or first, *words[1:]]
    return [second[0], *words]


def mentions(folder: Path, names: NameIndex, count: int, seed: int = 1) -> list[tuple[int, str, str]]:
    """Row, augmentation and augmented name of random entities, where it is no name of the catalogue."""
    random = np.random.default_rng(seed)
    drawn: list[tuple[int, str, str]] = []
    with Catalogue.open(folder / "entity.jsonl") as catalogue:
        while len(drawn) < count:
            entity = catalogue[int(random.integers(len(catalogue)))]
            of_entity = [entity.title, *entity.aliases]
            name = of_entity[random.integers(len(of_entity))]
            fitting = [augmentation for augmentation, fits in AUGMENTATIONS.items() if fits(name)]
            if not fitting:
                continue
            augmentation = fitting[random.integers(len(fitting))]
            mention = augmentation(name, random)
            if normalise(mention) and not names.candidates(mention):
                drawn.append((entity.row, augmentation.__name__, mention))
    return drawn


def of_all_trigrams(index: FuzzyIndex) -> FuzzyIndex:
    """The index with the lists of format 5: the names of every trigram."""
    order = np.argsort(index.grams, kind="stable")
    postings = (np.searchsorted(index.gram_at, order, side="right") - 1).astype(np.int32)
    return replace(
        index, keys=None, postings=postings, posting_at=np.searchsorted(index.grams[order], np.arange(N_TRIGRAMS + 1))
    )


def recall(index: FuzzyIndex, drawn: list[tuple[int, str, str]]) -> dict[str, Any]:
    """Share of mentions whose entity is among the similar ones, and the time of a look-up."""
    hits, seconds, cpu = defaultdict[str, list[bool]](list), [], []
    for _, _, mention in drawn[:WARM_UP]:
        index.similar(mention)
    for row, augmentation, mention in drawn:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        rows = index.similar(mention)
        cpu.append(time.process_time() - cpu_begin)
        seconds.append(time.perf_counter() - begin)
        hits[augmentation].append(row in rows)
    return {
        "p50_us": _us(statistics.median(seconds)),
        "cpu_p50_us": _us(statistics.median(cpu)),
        "cpu_p95_us": _us(float(np.quantile(cpu, 0.95))),
        "recall": round(statistics.mean(hit for of_kind in hits.values() for hit in of_kind), 4),
        "recall_by_augmentation": {kind: round(statistics.mean(hits[kind]), 3) for kind in sorted(hits)},
    }


def build(folder: Path) -> dict[str, Any]:
    """Open a catalogue for the first time and write its tables of names."""
    before_mib = peak_memory_mib()
    catalogue, scan_s = _timed(lambda: Catalogue.open(folder / "entity.jsonl"))
    scan_mib = peak_memory_mib()
    with PrivateMemory() as private:
        cpu_begin = time.process_time()
        _, build_s = _timed(lambda: build_name_tables(catalogue, len(catalogue), folder))
        cpu_s = time.process_time() - cpu_begin
    sizes = {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}
    groups = defaultdict[str, int](int)
    for name, size in sizes.items():
        groups[name.split(".")[0]] += size
    return {
        "entities": len(catalogue),
        "scan_s": round(scan_s, 2),
        "import_peak_mib": round(before_mib),
        "scan_peak_mib": round(scan_mib),
        "build_s": round(build_s, 2),
        "build_cpu_s": round(cpu_s, 2),
        "build_peak_mib": round(peak_memory_mib()),
        "build_private_peak_mib": private.peak_mib,
        "disk_mib": {group: round(size / 2**20, 1) for group, size in groups.items()},
    }


class PrivateMemory:
    """Samples the private memory of this process; its peak with mapped files is known to the system, this one is not."""

    def __init__(self, every_s: float = 0.05) -> None:
        self.peak_mib, self._every_s, self._ended = 0, every_s, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PrivateMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._every_s):
            self.peak_mib = max(self.peak_mib, _resident_mib()["private"])


def measure(folder: Path, queries: int, with_trigrams: bool) -> dict[str, Any]:
    """Open the tables, look names up, read titles."""
    with Catalogue.open(folder / "entity.jsonl") as catalogue:
        rows = len(catalogue)
    imported = _resident_mib()
    names, open_s = _timed(lambda: NameIndex.open(folder, rows))
    opened = _resident_mib()
    drawn = mentions(folder, names, queries)
    similar = recall(names.fuzzy_index, drawn)
    again = recall(names.fuzzy_index, drawn)
    titles = TitleTable.open(folder, rows)
    at = np.random.default_rng(2).integers(rows, size=(queries, ROWS_AT_ONCE))
    title_s = statistics.median(_timed(lambda i=i: (titles.titles(at[i]), titles.kb_ids(at[i])))[1] for i in range(queries))  # type: ignore[misc]
    known = titles.titles(at[:, 0])
    lookup_s = statistics.median(_timed(lambda name=name: names.candidates(name))[1] for name in known)  # type: ignore[misc]
    after = _resident_mib()
    result = {
        "names": len(names.fuzzy_index.rows),
        "open_ms": round(open_s * 1e3, 2),
        "similar": similar,
        "similar_again_us": {key: again[key] for key in ("p50_us", "cpu_p50_us", "cpu_p95_us")},
        "lookup_p50_us": _us(lookup_s),
        "title_and_id_us": round(title_s / ROWS_AT_ONCE * 1e6, 2),
        "resident_mib": {"before": imported, "opened": opened, "after": after},
    }
    if with_trigrams:
        by_trigrams = of_all_trigrams(names.fuzzy_index)
        recall(by_trigrams, drawn)
        result["similar_by_trigrams"] = recall(by_trigrams, drawn)
    return result


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = action()
    return result, time.perf_counter() - begin


def _resident_mib() -> dict[str, int]:
    """Resident memory: private, and pages of mapped files, which the system may drop at any time."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    kib = {line[0]: int(line[1]) for line in lines if line[0] in ("RssAnon:", "RssFile:")}
    return {"private": round(kib["RssAnon:"] / 1024), "mapped": round(kib["RssFile:"] / 1024)}


def main() -> None:
    """Parse the flags, measure each size, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path, help="entity.jsonl whose names are taken")
    parser.add_argument("--sizes", default="100000,400000,1600000,6000000", help="numbers of names (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=1500, help="look-ups of each size (default: %(default)s)")
    parser.add_argument("--trigrams-up-to", type=int, default=0, help="largest size at which all trigrams are measured too")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    parser.add_argument("--out", type=Path, help="write the result into this file too; sizes that it has are kept")
    parser.add_argument("--step", choices=("build", "measure"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        measured = build(args.folder) if args.step == "build" else measure(args.folder, args.queries, args.trigrams_up_to > 0)
        print(json.dumps(measured))
        return
    result: dict[str, Any] = read_json(args.out) if args.out and args.out.is_file() else {"machine": machine(), "sizes": []}
    for size in map(int, args.sizes.split(",")):
        if any(of_size["size"] == size for of_size in result["sizes"]):
            continue  # of an earlier run
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            write_catalogue(args.catalogue, Path(folder) / "entity.jsonl", size)
            trigrams = size * (size <= args.trigrams_up_to)
            options = ("--folder", folder, "--queries", str(args.queries), "--trigrams-up-to", str(trigrams))
            of_size = _step("build", args.catalogue, *options)
            evict(Path(folder))
            result["sizes"].append({"size": size, **of_size, **_step("measure", args.catalogue, *options)})
        if args.out:
            write_json(args.out, result)
        print(json.dumps(result["sizes"][-1]), file=sys.stderr, flush=True)
    print_json(result, args.out)


def _step(step: str, catalogue: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(catalogue), "--step", step, *options]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


if __name__ == "__main__":
    main()
