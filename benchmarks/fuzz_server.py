"""Fuzz the server: requests of its OpenAPI document by schemathesis, mutated ones, and raw bytes over a socket.

    python benchmarks/fuzz_server.py --requests 100000 --out benchmarks/results/fuzz.json

No answer may be a failure (status 500), take longer than 30 seconds, or tell a path or a trace; the process lives, and its
memory stays flat. Exits with 1 if anything is found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402

from benchmarks.fuzz_probe import AsgiProbe, Findings, RawRequest, send_bytes  # noqa: E402
from benchmarks.fuzz_requests import broken_bytes, document_requests, mutated_requests  # noqa: E402
from benchmarks.server_process import running_server  # noqa: E402
from blink import KnowledgeBase  # noqa: E402
from blink.evaluation.speed.machine import machine  # noqa: E402
from blink.linking.linker import Linker  # noqa: E402
from blink.serving.app import create_app  # noqa: E402
from blink.serving.service import Service  # noqa: E402

TOKEN = "fuzz-token-0123456789abcdef"
ENTITIES = [
    {
        "title": "Zorblax",
        "text": "Largest moon of the planet Kepler-1649c.",
        "kb_idx": "m1",
        "types": ["moon"],
        "aliases": ["Zorb"],
    },
    {"title": "Zorblax", "text": "Rock band from Lisbon.", "kb_idx": "m2", "types": ["band"]},
    {"title": "Ann Quillon", "text": "Danish violinist.", "types": ["person"], "year": 1970, "ids": {"own": "7"}},
    {
        "title": "Nile",
        "text": "River of Africa.",
        "kb_idx": "Q3392",
        "idx": "https://en.wikipedia.org/wiki/Nile",
        "types": ["river"],
    },
]
SHARES = {"schemathesis": 0.3, "mutations": 0.65, "sockets": 0.05}
MIB = 1 << 20


def main() -> None:
    """Fuzz, and print or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="requests in all")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--out", help="JSON file of the result")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    counts = {name: max(1, round(options.requests * share)) for name, share in SHARES.items()}
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        base = KnowledgeBase.from_records(ENTITIES, out=Path(folder) / "kb")
        inside = asyncio.run(fuzz_application(base, counts, options.seed))
        outside = fuzz_socket(Path(folder) / "kb", counts["sockets"], options.seed)
    result = {"machine": machine(), "seconds": round(time.perf_counter() - begin), "application": inside, "socket": outside}
    print(json.dumps(result, indent=2))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if inside["failures"] or outside["failures"] else 0)


async def fuzz_application(base: KnowledgeBase, counts: dict[str, int], seed: int) -> dict[str, Any]:
    """Send requests of both kinds to an application in this process."""
    app = create_app(Service.of(Linker.from_pretrained(kb=base), token=TOKEN))
    requests, total = _requests(app.openapi(), counts, seed), counts["schemathesis"] + counts["mutations"]
    findings = Findings()
    probe = AsgiProbe(app, findings)
    await probe.start()
    memory = []
    for number, request in enumerate(requests):
        await probe.send(request)
        if number % max(1, total // 20) == 0:
            memory.append(round(_resident_bytes() / MIB))
            progress = f"{number:,} of {total:,} requests, {len(findings.failures)} failures, {memory[-1]} MiB"
            print(progress, findings.failures[-1:], file=sys.stderr, flush=True)
    status, _ = await probe.send(RawRequest("GET", b"/readyz", headers=((b"host", b"127.0.0.1"),), source="the end"))
    if status != 200:
        findings.failures.append(f"the server is not ready at the end: status {status}")
    await probe.stop()
    return _summary(findings) | {"memory_mib": memory}


def _requests(document: dict[str, Any], counts: dict[str, int], seed: int) -> Iterator[RawRequest]:
    """Requests of the document between mutations; the first are made before all, so that memory is that of the server."""
    operations = sum(len(of) for of in document["paths"].values())
    of_document = document_requests(document, -(-counts["schemathesis"] // operations), seed)
    first = list(islice(of_document, counts["schemathesis"]))
    # Operations that have few distinct requests leave some of the share.
    mutations = mutated_requests(seed, TOKEN)
    total = sum(counts[name] for name in ("schemathesis", "mutations"))
    yield from islice(mutations, (total - len(first)) // 2)
    yield from first
    yield from islice(mutations, total - len(first) - (total - len(first)) // 2)


def fuzz_socket(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Send bytes to a server of its own process."""
    findings = Findings()
    with running_server(None, ["--kb", str(folder)]) as url:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        for data, shut in islice(broken_bytes(seed), count):
            send_bytes(address, data, findings, "bytes", shut=shut)
        if httpx.get(f"{url}/readyz", timeout=30).status_code != 200:
            findings.failures.append("the server is not ready at the end")
    return _summary(findings)


def _summary(findings: Findings) -> dict[str, Any]:
    statuses = {str(status): count for status, count in sorted(findings.statuses.items())}
    return {
        "requests": findings.requests,
        "statuses": statuses,
        "slowest_s": round(findings.slowest_s, 2),
        "failures": findings.failures,
    }


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
