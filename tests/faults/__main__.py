"""Try all writers, every call with every fault, and print the table.

python -m tests.faults                        every call, every state of the disk
python -m tests.faults --sample 40 --only kb  a seeded sample of each, of writers whose names hold "kb"
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"faults": "Calls that fail", "power": "Losses of power"}


def main() -> int:
    """Entry point; the exit status is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names of writers")
    parser.add_argument("--sample", type=int, help="trials of each writer and kind; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ |= {"OMP_NUM_THREADS": "1", "BLINK_BACKEND": "torch", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    from tests.faults.disk import library
    from tests.faults.table import WRITERS
    from tests.faults.trial import Outcome, Trial, table

    if library() is None:
        print("needs Linux on x86-64 and a C compiler")
        return 2
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
    begin, findings = time.process_time(), 0
    for writer in (writer for writer in WRITERS if arguments.only in writer.name):
        with tempfile.TemporaryDirectory(prefix="blink-faults-", dir=_memory()) as folder:
            os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
            trial = Trial(writer, Path(folder) / "trial")
            for kind in KINDS:
                outcome = getattr(trial, kind)(arguments.sample, arguments.seed)
                outcomes[kind].append(outcome)
                findings += len(outcome.findings)
                print(
                    f"{kind}: {writer.name}: {outcome.calls} calls, {outcome.tried} trials, {dict(outcome.states)}", flush=True
                )
                for finding in outcome.findings:
                    print(f"    {finding}", flush=True)
    text = "\n\n".join(f"{title}\n\n{table(outcomes[kind])}" for kind, title in KINDS.items())
    print(f"\n{text}\n\n{findings} findings, {time.process_time() - begin:.0f} s of this process")
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 1 if findings else 0


def _memory() -> str | None:
    """A file system in memory, where to synchronize costs nothing."""
    return "/dev/shm" if Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
