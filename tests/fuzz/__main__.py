"""``python -m tests.fuzz``: damaged files of every kind that BLINK reads, and what becomes of them."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.fuzz.cases import BAD, GOOD, MEANINGS, Cases, Result, numbered
from tests.fuzz.kinds import SERVERS, Kind
from tests.fuzz.processes import Server
from tests.fuzz.table import ALL, MORE

EVERY_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 if a case ended badly."""
    options = _parser().parse_args(arguments)
    known = ALL | MORE
    kinds = {name: known[name] for name in known if name in (options.kind or (known if options.wide else ALL))}
    unknown = set(options.kind) - set(known)
    if unknown:
        sys.stderr.write(f"fuzz: there is no kind {', '.join(sorted(unknown))}; --list names them\n")
        return 2
    if options.list:
        for kind in kinds.values():
            print(f"{kind.name:22} {kind.needs:6} {', '.join(kind.targets)}; verified: {', '.join(kind.verified) or 'none'}")
        return 0
    if options.files:
        from tests.fuzz.own_files import kinds_of

        kinds = kinds_of([Path(name) for name in options.files])
    if options.case:
        cases: Iterable[tuple[str, str]] = [(name, case) for name in kinds for case in options.case]
    else:
        n = options.cases or (None if options.seconds else 300)
        share, shares = (int(number) for number in options.share.split("/"))
        cases = itertools.islice(itertools.islice(numbered(kinds, options.seed), n), share - 1, None, shares)
    keep = Path(options.keep or "build/fuzz").absolute()
    end = time.monotonic() + options.seconds if options.seconds else None
    with _work() as work:
        results = list(_reported(_run(kinds, cases, Cases(kinds, work, keep, wide=options.wide), end), options))
    _print_table(results)
    return int(any(result.outcome in BAD for result in results))


def _parser() -> argparse.ArgumentParser:
    outcomes = "\n".join(f"  {name:10} {meaning}" for name, meaning in MEANINGS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"outcomes (in capitals: bad, exit status 1):\n{outcomes}\n\nexamples:\n"
        "  python -m tests.fuzz --seconds 60\n  python -m tests.fuzz --cases 500 --kind catalogue --seed 7\n"
        "  python -m tests.fuzz --kind catalogue --case 7:31       the same case again\n"
        "  python -m tests.fuzz --files my-kb entities.csv --seconds 60",
    )
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--cases", type=int, help="number of cases (default: 300, or as many as there is time for)")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="every Nth of the cases, from the Ith: for N processes")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other cases (default: 1)")
    parser.add_argument(
        "--wide", action="store_true", help="damage several files, folders, links and checksums too: other cases, see wide.py"
    )
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    parser.add_argument(
        "--case", action="append", default=[], metavar="SEED:N", help="only this case of --kind; may be repeated"
    )
    parser.add_argument("--files", nargs="+", metavar="PATH", help="damage copies of your own files; their kind is guessed")
    parser.add_argument("--keep", metavar="DIR", help="where the files of bad cases go (default: build/fuzz)")
    parser.add_argument("--json", metavar="FILE", help="write a JSON line per case")
    parser.add_argument("--list", action="store_true", help="list the kinds")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    return parser


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="blink-fuzz-"))
    os.environ.update(
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        BLINK_BACKEND="torch",
        XDG_CACHE_HOME=str(folder / "cache"),
        MPLCONFIGDIR=str(folder / "matplotlib"),
        CUDA_VISIBLE_DEVICES="",
        COLUMNS="200",
        TQDM_DISABLE="1",
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(kinds: dict[str, Kind], cases: Iterable[tuple[str, str]], runner: Cases, end: float | None = None) -> Iterator[Result]:
    servers: dict[str, Server] = {}
    try:
        for name, case in cases:
            if end is not None and time.monotonic() > end:
                return
            needs = kinds[name].needs
            if needs not in servers:
                servers[needs] = Server(SERVERS[needs], runner.run)
            yield Result(**servers[needs].run({"kind": name, "case": case}))
    finally:
        Server.close(list(servers.values()))


def _reported(results: Iterator[Result], options: argparse.Namespace) -> Iterator[Result]:
    start = last = time.monotonic()
    counts: Counter[str] = Counter()
    with open(options.json, "w", encoding="utf-8") if options.json else contextlib.nullcontext() as log:  # noqa: PTH123
        try:
            for result in results:
                counts[result.outcome] += 1
                if log is not None:
                    log.write(json.dumps(result.to_dict()) + "\n")
                    log.flush()
                if result.outcome in BAD or options.verbose:
                    print(f"{result.outcome}: {_printable(result.damage)}: {_printable(result.detail)}")
                if result.outcome in BAD:
                    print(f"  again: {_again(result, options)}   files: {result.folder or '-'}", flush=True)
                now = time.monotonic()
                if now - last > EVERY_S:
                    n = counts.total()
                    summary = ", ".join(f"{name} {counts[name]}" for name in (*GOOD, *BAD) if counts[name])
                    sys.stderr.write(f"{n} cases, {n / (now - start):.1f} a second: {summary}\n")
                    last = now
                yield result
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
    n, seconds = counts.total(), time.monotonic() - start
    sys.stderr.write(f"{n} cases in {seconds:.0f} s, {n / max(seconds, 1e-9):.1f} a second\n")


def _again(result: Result, options: argparse.Namespace) -> str:
    files = f" --files {shlex.join(options.files)}" if options.files else ""
    wide = " --wide" if options.wide else ""
    return f"python -m tests.fuzz --kind {result.kind} --case {result.case}{wide}{files}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:600])


def _print_table(results: Sequence[Result]) -> None:
    columns = [name for name in (*GOOD, *BAD) if name in GOOD or any(r.outcome == name for r in results)]
    columns += [name for name in ("TRACEBACK", "HANG", "SILENT", "MEMORY") if name not in columns]
    counts = Counter((r.kind, r.outcome) for r in results)
    rows = [(kind, [counts[kind, name] for name in columns]) for kind in sorted({r.kind for r in results})]
    rows.append(("all", [sum(row[i] for _, row in rows) for i in range(len(columns))]))
    print(f"\n{'kind':22} {'cases':>6} " + " ".join(f"{name:>9}" for name in columns))
    for kind, row in rows:
        print(f"{kind:22} {sum(row):6} " + " ".join(f"{n or '-':>9}" for n in row))


if __name__ == "__main__":
    sys.exit(main())
