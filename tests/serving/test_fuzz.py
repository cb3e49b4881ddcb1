"""A seeded share of `benchmarks/fuzz_server.py`: no failure, no hang, and nothing of the inside in an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.fuzz_probe import AsgiProbe, Findings, RawRequest
from benchmarks.fuzz_requests import document_requests, mutated_requests
from blink.linking.linker import Linker
from blink.serving.app import create_app
from blink.serving.service import Service

TOKEN = "fuzz-token-0123456789abcdef"
REQUESTS = 300
HOST = (b"host", b"127.0.0.1:8765")
JSON = (b"content-type", b"application/json")
FOUND_BEFORE = (
    RawRequest("GET", b"/", b"", (HOST, (b"origin", b"http://[::1")), source="an origin that is none"),
    RawRequest("GET", b"/reconcile", b"\xdf", (HOST,), source="a query that is not UTF-8"),
    RawRequest("POST", b"/link", b"", (HOST, JSON), (b'{"text": "a", "where": "type=\\ud800"}',), "half of a pair in a filter"),
)
"""Requests that failed once."""


def requests_of(linker: Linker, seed: int) -> Iterator[RawRequest]:
    document = create_app(Service.of(linker)).openapi()
    yield from FOUND_BEFORE
    yield from islice(mutated_requests(seed, "no token: the starter is not edited"), REQUESTS * 3 // 4)
    pytest.importorskip("schemathesis")
    of_reconciliation = {path: of for path, of in document["paths"].items() if path.startswith(("/nif", "/reconcile"))}
    yield from islice(document_requests(document | {"paths": of_reconciliation}, 6, seed), REQUESTS // 4)


async def findings_of(linker: Linker, seed: int) -> Findings:
    probe = AsgiProbe(create_app(Service.of(linker, token=TOKEN)), Findings())
    await probe.start()
    for request in requests_of(linker, seed):
        await probe.send(request)
    await probe.stop()
    return probe.findings


def test_no_request_fails_or_learns_of_the_inside(starter_linker: Linker) -> None:
    findings = asyncio.run(findings_of(starter_linker, seed=16))
    assert findings.failures == []
    assert findings.requests > REQUESTS * 3 // 4
    assert {200, 400, 422} <= set(findings.statuses)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("status", "answer", "seconds", "is_failure"),
    [(200, b"fine", 0.1, False), (500, b"", 0.1, True), (503, b"", 0.1, False), (200, b"", 99.0, True),
     (400, b"Traceback (most recent call last)", 0.1, True),
     (400, str(Path(__file__).resolve()).encode(), 0.1, True), (400, b"sent.py", 0.1, False)],
)  # fmt: skip
def test_answers_are_judged(status: int, answer: bytes, seconds: float, is_failure: bool) -> None:
    findings = Findings()
    findings.add("a test", b"sent.py", status, answer, seconds)
    assert bool(findings.failures) == is_failure
