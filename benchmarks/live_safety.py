"""What is left of edits when the process or the disk fails: every acknowledged edit, and no half of another.

    python benchmarks/live_safety.py kills --edits 10000 --times 20 --out kills.json
    python benchmarks/live_safety.py faults --out faults.json
    python benchmarks/live_safety.py command --kb DIR --out command.json

``kills`` starts a process that adds entities one after the other, and kills it at a random moment (SIGKILL), again and again
until all are added; processes that compact are killed too. ``faults`` makes edits of every kind and compactions, over and over:
each time another call that writes, synchronizes or renames fails, with a full disk (from that call on), an I/O error or a short
write; it needs a C compiler. After each of both all acknowledged edits must be there, nothing half, and ``blink kb check``
finds nothing. ``command`` times ``blink kb add``, ``remove`` and ``undo`` on a copy of a knowledge base, each in a process of
its own.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity
from blink.errors import BlinkError
from blink.evaluation.speed.machine import machine
from blink.files import write_json
from blink.kb.building import build_knowledge_base
from blink.kb.health import check_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase

ROWS, DIM = 60, 16
SOURCE = Path(__file__).with_name("disk_faults.c")
FAULTS = {"full disk": 1, "I/O error": 2, "short write": 3}
"""Kinds of faults, as the C source numbers them."""
WRONG = ("lost", "half_done", "problems")
"""Counts that must be 0."""


def encode(entities: Sequence[Entity]) -> np.ndarray:
    """Vectors that follow from the texts, without a model. *Shape:* (entities, 16)."""
    seeds = (zlib.crc32(f"{entity.title}\n{entity.text}".encode()) for entity in entities)
    return np.stack([np.random.default_rng(seed).normal(size=DIM).astype(np.float32) for seed in seeds])


def build(folder: Path) -> Path:
    """A knowledge base of invented entities."""
    source = folder.with_suffix(".jsonl")
    lines = ({"title": f"Entity {i}", "text": f"The entity number {i}.", "kb_idx": f"E{i}"} for i in range(ROWS))
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    build_knowledge_base(source, folder, encode, "invented", index="sq8")
    return folder


def opened(folder: Path) -> KnowledgeBase:
    """Open a knowledge base to edit it."""
    base = KnowledgeBase.open(folder)
    base.encode = encode
    return base


def faults_of(folder: Path) -> list[str]:
    """What ``blink kb check`` finds."""
    return [problem.message for problem in check_knowledge_base(folder, sample=20).problems]


# -- kills ---------------------------------------------------------------------------------------------------------


def write(folder: Path, total: int) -> None:
    """Add entities until there are ``total``, and say on standard output which are acknowledged."""
    base = opened(folder)
    for i in range(base.changes.number, total):
        base.add({"title": f"New {i}", "text": f"Number {i} of the new ones.", "kb_idx": f"N{i}"})
        os.write(1, f"{i + 1}\n".encode())
    base.compact()
    os.write(1, b"compacted\n")


def kills(edits: int, times: int, seed: int) -> dict[str, Any]:
    """Kill a writer ``times`` times while it makes ``edits`` edits, and then compacts."""
    chance, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(Path(scratch) / "kb")
        command = [sys.executable, __file__, "write", str(folder), str(edits)]
        acknowledged, killed, torn, per_run_s = 0, 0, 0, 0.0
        while True:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                start, printed = time.perf_counter(), list[str]()
                # The moment is drawn among the edits that are left, so that all kills come before the last.
                remaining = max(1, times - killed)
                until = acknowledged + chance.randint(1, max(1, 2 * (edits - acknowledged) // (remaining + 1)))
                for line in process.stdout:
                    printed.append(line.strip())
                    if killed < times and line.strip().isdigit() and int(line) >= until:
                        time.sleep(chance.random() * 0.003)
                        process.send_signal(signal.SIGKILL)
                        printed += process.stdout.read().split()
                        break
                process.wait()
                per_run_s += time.perf_counter() - start
            acknowledged = max([acknowledged, *(int(line) for line in printed if line.isdigit())])
            reader = KnowledgeBase.open(folder)
            torn += bool(reader.state.journal.read().tail)
            counts += check(folder, reader, acknowledged)
            if "compacted" in printed:
                break
            killed += process.returncode == -signal.SIGKILL
        killed_compactions = kill_compactions(folder, edits, max(1, times // 4), chance, counts)
    return {
        "edits": edits,
        "kills": killed,
        "torn_tails": torn,
        "kills_while_compacting": killed_compactions,
        **{name: counts[name] for name in WRONG},
        "writing_s": round(per_run_s, 1),
    }


def kill_compactions(folder: Path, edits: int, times: int, chance: random.Random, counts: Counter[str]) -> int:
    """Kill a process that compacts, ``times`` times, each later than the one before."""
    command, killed = [sys.executable, __file__, "write", str(folder), str(edits)], 0
    for i in range(times):
        base = opened(folder)
        base.update("N0", text=f"again {i}")
        digest = base.digest()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(1.0 + 2.0 * chance.random())
            killed += process.poll() is None
            process.kill()
        counts["half_done"] += KnowledgeBase.open(folder).digest() != digest
        counts["problems"] += len(faults_of(folder))
    return killed


def check(folder: Path, reader: KnowledgeBase, acknowledged: int) -> Counter[str]:
    """Count acknowledged edits that are not there, edits that are not what they were made as, and problems."""
    number = reader.changes.number
    expected = ({"title": f"New {i}", "text": f"Number {i} of the new ones.", "kb_idx": f"N{i}"} for i in range(number))
    half_done = sum(reader.state.line(ROWS + i) != line for i, line in enumerate(expected))
    return Counter(lost=max(0, acknowledged - number), half_done=half_done, problems=len(faults_of(folder)))


# -- faults --------------------------------------------------------------------------------------------------------


def steps() -> list[tuple[str, Callable[[KnowledgeBase], Any]]]:
    """Edits of every kind, and compactions."""
    return [
        ("add", lambda kb: kb.add({"title": "Zorblax", "text": "A moon.", "kb_idx": "X1"})),
        ("add_all", lambda kb: kb.add_all([{"title": f"Many {i}"} for i in range(3)])),
        ("update", lambda kb: kb.update("X1", text="A large moon.")),
        ("remove", lambda kb: kb.remove("E7")),
        ("snapshot", lambda kb: kb.snapshot("before")),
        ("compact", lambda kb: kb.compact()),
        ("undo", lambda kb: kb.undo()),
        ("add", lambda kb: kb.add({"title": "After", "kb_idx": "X2"})),
        ("compact", lambda kb: kb.compact()),
        ("rollback", lambda kb: kb.rollback("before")),
    ]


def run_faults(folder: Path) -> dict[str, Any]:
    """Let every call of every step fail once, in each way; runs in a process with the library of faults."""
    library, root = ctypes.CDLL(None), folder.resolve() / "kb"
    totals: dict[str, Any] = {name: {"calls": 0, "steps_that_failed": 0, **dict.fromkeys(WRONG, 0)} for name in FAULTS}
    shutil.copytree(folder / "built", root)
    for name, step in steps():
        before, after = folder / "before", folder / "after"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(root, before)
        first, calls = state_of(opened(root)), 0
        base = opened(root)
        library.faults_arm(str(root).encode(), 0, 0)
        step(base)
        calls = library.faults_disarm()
        last = state_of(base)
        shutil.copytree(root, after)
        for fault, kind in FAULTS.items():
            for k in range(1, calls + 1):
                shutil.rmtree(root)
                shutil.copytree(before, root)
                base = opened(root)
                library.faults_arm(str(root).encode(), k, kind)
                for figure, count in failing(base, step, library.faults_disarm, first, last).items():
                    totals[fault][figure] += count
            totals[fault]["calls"] += calls
        print(f"{name}: {calls} calls, each failed in {len(FAULTS)} ways", flush=True)
        shutil.rmtree(root)
        after.rename(root)
    return totals


def state_of(base: KnowledgeBase) -> tuple[str, int]:
    """Digest, and number of the last edit."""
    return base.digest(), base.changes.number


def failing(
    base: KnowledgeBase,
    step: Callable[[KnowledgeBase], Any],
    disarm: Callable[[], Any],
    before: tuple[str, int],
    after: tuple[str, int],
) -> Counter[str]:
    """Run a step with a fault; if it fails it is repeated once the disk works again. Counts what is wrong."""
    root, error = base.require_folder(), None
    try:
        step(base)
    except (OSError, BlinkError) as caught:
        error = caught
    disarm()
    reader = KnowledgeBase.open(root)
    state = state_of(reader)
    counts = Counter(
        steps_that_failed=error is not None,
        lost=error is None and state != after,
        half_done=state not in (before, after),
        problems=len(faults_of(root)) + ("\n" in str(error)),
    )
    if error is not None:
        base.refresh()
        if state_of(base) != after or before == after:  # compaction leaves the state as it is
            step(base)
    counts["lost"] += not state_of(base) == state_of(KnowledgeBase.open(root)) == after
    counts["problems"] += len(faults_of(root))
    return counts


def faults() -> dict[str, Any]:
    """Build the library of faults, and run `run_faults` with it."""
    # In memory, where synchronizing takes no time: there are thousands of runs.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        library = Path(scratch) / "faults.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        build(Path(scratch) / "built")
        out = Path(scratch).parent / f"{Path(scratch).name}.json"
        environment = os.environ | {"LD_PRELOAD": str(library)}
        subprocess.run([sys.executable, __file__, "run-faults", scratch, str(out)], env=environment, check=True)
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        out.unlink()
    return result


# -- the commands --------------------------------------------------------------------------------------------------


@contextmanager
def copied(kb: Path) -> Iterator[Path]:
    """A copy of a knowledge base that edits may change."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "kb"
        shutil.copytree(kb, folder, copy_function=shutil.copy2)
        yield folder


def command(kb: Path, repeats: int) -> dict[str, Any]:
    """Wall and CPU time of commands, each in a process of its own; medians."""
    blink = [sys.executable, "-m", "blink.apps.cli", "kb"]
    times: dict[str, list[tuple[float, float]]] = {}
    with copied(kb) as folder:
        for i in range(repeats + 1):
            new = ["--title", f"Zorblax {i}", "--text", "A moon of Kepler-1649c.", "--id", f"Z{i}"]
            for words in (["add", str(folder), *new], ["remove", str(folder), f"Z{i}"], ["undo", str(folder)]):
                before, start = os.times(), time.perf_counter()
                subprocess.run([*blink, *words], check=True, stdout=subprocess.DEVNULL)
                wall, after = time.perf_counter() - start, os.times()
                cpu = after.children_user + after.children_system - before.children_user - before.children_system
                if i:  # the first exports the encoder
                    times.setdefault(words[0], []).append((wall, cpu))
    return {
        name: {"wall_s": statistics.median(w for w, _ in of), "cpu_s": statistics.median(c for _, c in of)}
        for name, of in times.items()
    }


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kills")
    killing.add_argument("--edits", type=int, default=10_000)
    killing.add_argument("--times", type=int, default=20)
    killing.add_argument("--seed", type=int, default=0)
    failing = commands.add_parser("faults")
    timing = commands.add_parser("command")
    timing.add_argument("--kb", type=Path, required=True)
    timing.add_argument("--repeats", type=int, default=5)
    for sub in (killing, failing, timing):
        sub.add_argument("--out", type=Path)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("total", type=int)
    running = commands.add_parser("run-faults")
    running.add_argument("folder", type=Path)
    running.add_argument("result", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "write":
        write(arguments.folder, arguments.total)
    elif arguments.command == "run-faults":
        write_json(arguments.result, run_faults(arguments.folder))
    else:
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "kills": lambda: kills(arguments.edits, arguments.times, arguments.seed),
            "faults": faults,
            "command": lambda: command(arguments.kb, arguments.repeats),
        }
        result = {"machine": machine(), arguments.command: runs[arguments.command]()}
        print(json.dumps(result, indent=2))
        if arguments.out is not None:
            write_json(arguments.out, result)
        figures = result[arguments.command]
        if any(of.get(name, 0) for of in (figures, *figures.values()) if isinstance(of, dict) for name in WRONG):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
