"""How long a catalogue takes to open, the first time and after, and to read rows from. Prints one JSON object.

    python benchmarks/open_catalogue.py --rows 5900000

The catalogue is made of short rows in a temporary folder (about 150 bytes a row, and 25 more for the sidecar), which
is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from scripts.harness import print_json

T = TypeVar("T")


def write_catalogue(path: Path, rows: int) -> None:
    """Write ``rows`` made-up entities."""
    with path.open("w", encoding="utf-8") as f:
        for row in range(rows):
            address = f"https://en.wikipedia.org/wiki?curid={row}"
            text = f" Entity {row} is a row made for timing."
            value = {"text": text, "idx": address, "title": f"Entity {row}", "kb_idx": f"Q{(row * 7919) % rows + 1}"}
            f.write(json.dumps(value) + "\n")


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """The result of ``action`` and the seconds it took."""
    begin = time.perf_counter()
    result = action()
    return result, time.perf_counter() - begin


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (kilobytes from the system on Linux)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measure(folder: Path, rows: int, reads: int) -> dict[str, float | list[float]]:
    """Write, open twice, then read at random and in order."""
    path = folder / "entity.jsonl"
    write_catalogue(path, rows)
    before = peak_mb()
    first, first_s = timed(lambda: Catalogue.open(path))
    first.close()
    after = peak_mb()
    catalogue, second_s = timed(lambda: Catalogue.open(path))
    draw = random.Random(0)
    picks = [draw.randrange(rows) for _ in range(reads)]
    _, rows_s = timed(lambda: [catalogue[row] for row in picks])
    _, ids_s = timed(lambda: [catalogue.row_of(f"Q{row + 1}") for row in picks])
    ordered, iter_s = timed(lambda: sum(1 for _ in catalogue.iter(0, 1_000_000)))
    return {
        "rows": rows,
        "catalogue_mb": round(path.stat().st_size / 1e6, 1),
        "sidecar_mb": round((folder / f"entity.jsonl{SIDECAR_SUFFIX}").stat().st_size / 1e6, 1),
        "first_open_s": round(first_s, 2),
        "first_open_rows_per_s": round(rows / first_s),
        "first_open_peak_mb_before_after": [before, after],
        "second_open_ms": round(second_s * 1e3, 2),
        "random_row_us": round(rows_s / reads * 1e6, 2),
        "id_lookup_us": round(ids_s / reads * 1e6, 2),
        "iter_rows_per_s": round(ordered / iter_s),
    }


def main() -> None:
    """Parse the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_900_000, help="entities in the catalogue (default: %(default)s)")
    parser.add_argument("--reads", type=int, default=100_000, help="random rows to read (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print_json(measure(Path(folder), args.rows, args.reads))


if __name__ == "__main__":
    main()
