"""Sends requests to an application, or bytes to a socket, and judges the answers."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 30.0
ALLOWED_SERVER_ERRORS = (501, 503, 504)
"""Statuses from 500 on that are no failure: a method or encoding that is not known, and a server that is busy."""
_OWN_PATHS = {str(Path(__file__).resolve().parents[1]), sys.prefix, sys.base_prefix, tempfile.gettempdir(), str(Path.home())}
INSIDE = re.compile(
    rb"Traceback \(most recent|File \"[^\"]*\", line \d|\b[\w-]+\.py\b|site-packages|/usr/|object at 0x[0-9a-f]{6,}|"
    rb"(?:blink|starlette|fastapi|pydantic|uvicorn|orjson|numpy)\.\w+\.\w*Error|"
    + b"|".join(re.escape(path.encode()) + b"/" for path in sorted(_OWN_PATHS) if path != "/")
)
"""Paths of the machine, traces and names of code, none of which is for a client."""


@dataclass(frozen=True)
class RawRequest:
    """A request as an application server passes it on.

    Attributes:
        method: of HTTP.
        path: as sent, percent-encoded, without the query.
        query: as sent.
        headers: names in lower case, and values.
        body: in the chunks in which it arrives.
        source: what made it, for reports.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: tuple[bytes, ...] = (b"",)
    source: str = ""

    def sent(self) -> bytes:
        """All that the client wrote, to tell what an answer repeats from what it tells."""
        return b"\n".join((self.path, self.query, *(value for _, value in self.headers), *self.body))


@dataclass
class Findings:
    """What the answers were.

    Attributes:
        statuses: how many answers had each.
        failures: what is wrong, with the request.
        slowest_s: longest time of an answer.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        """Answers so far."""
        return sum(self.statuses.values())

    def add(self, source: str, sent: bytes, status: int, answer: bytes, seconds: float) -> None:
        """Judge an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.slowest_s = max(self.slowest_s, seconds)
        fault = self._fault(sent, status, answer, seconds)
        if fault is not None and len(self.failures) < 200:
            self.failures.append(f"{source}: {fault}; sent {sent[:600]!r}, answer {answer[:300]!r}")

    def _fault(self, sent: bytes, status: int, answer: bytes, seconds: float) -> str | None:
        if status >= 500 and status not in ALLOWED_SERVER_ERRORS:
            return f"status {status}"
        if seconds > LIMIT_SECONDS:
            return f"{seconds:.1f} seconds"
        leaked = next((match[0] for match in INSIDE.finditer(answer) if match[0] not in sent), None)
        return None if leaked is None else f"tells {leaked!r}"


class AsgiProbe:
    """Calls an application without a socket, as an application server would.

    Args:
        app: the application; its lifespan is run by `start` and `stop`.
        findings: that take the answers.
    """

    def __init__(self, app: Any, findings: Findings) -> None:
        self._app, self.findings = app, findings
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the application."""
        self._lifespan = asyncio.ensure_future(
            self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._to_app.get, self._from_app.put)
        )
        await self._to_app.put({"type": "lifespan.startup"})
        message = await self._from_app.get()
        if message["type"] != "lifespan.startup.complete":
            raise RuntimeError(f"the application did not start: {message}")

    async def stop(self) -> None:
        """Stop the application."""
        await self._to_app.put({"type": "lifespan.shutdown"})
        await self._from_app.get()

    async def send(self, request: RawRequest) -> tuple[int, bytes]:
        """Send a request, and judge its answer; status 0 for none in time."""
        begin = time.perf_counter()
        try:
            status, headers, body = await asyncio.wait_for(self._answer(request), LIMIT_SECONDS)
        except asyncio.TimeoutError:
            status, headers, body = 0, b"", b""
            self.findings.failures.append(
                f"{request.source}: no answer in {LIMIT_SECONDS:g} seconds; sent {request.sent()[:600]!r}"
            )
        except Exception as error:
            status, headers, body = 599, b"", repr(error).encode()
        self.findings.add(request.source, request.sent(), status, headers + b"\n\n" + body, time.perf_counter() - begin)
        return status, body

    async def _answer(self, request: RawRequest) -> tuple[int, bytes, bytes]:
        chunks = list(request.body)
        finished = asyncio.Event()
        status, headers, body = 0, b"", bytearray()

        async def receive() -> dict[str, Any]:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            await finished.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = b"\n".join(name + b": " + value for name, value in message.get("headers", ()))
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    finished.set()

        try:
            await self._app(_scope(request), receive, send)
        finally:
            finished.set()
        return status, headers, bytes(body)


def _scope(request: RawRequest) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": request.method,
        "scheme": "http", "path": _unquoted(request.path), "raw_path": request.path, "query_string": request.query,
        "root_path": "", "headers": list(request.headers), "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8765),
        "state": {},
    }  # fmt: skip


def _unquoted(path: bytes) -> str:
    plain = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), path)
    return plain.decode("utf-8", "surrogateescape" if path.isascii() else "replace").encode("utf-8", "replace").decode()


def send_bytes(address: tuple[str, int], chunks: Iterable[bytes], findings: Findings, source: str, *, shut: bool) -> None:
    """Send bytes over a connection of their own, and judge what comes back until the server closes, or says no more.

    Args:
        address: host and port.
        chunks: bytes, each sent at once.
        findings: that take the answers.
        source: what made the bytes.
        shut: close the sending half after them, as clients do that have said all.
    """
    begin, sent = time.perf_counter(), b"".join(chunks)
    received = bytearray()
    try:
        with socket.create_connection(address, timeout=LIMIT_SECONDS) as connection:
            connection.sendall(sent)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(LIMIT_SECONDS if shut else 0.5)
            while chunk := connection.recv(1 << 16):
                received.extend(chunk)
                connection.settimeout(0.05 if not shut else LIMIT_SECONDS)
    except (ConnectionResetError, BrokenPipeError, TimeoutError) as error:
        if shut and isinstance(error, TimeoutError):
            findings.failures.append(f"{source}: no end of the answer in {LIMIT_SECONDS:g} seconds; sent {sent[:300]!r}")
    statuses = [int(code) for code in re.findall(rb"^HTTP/1\.[01] (\d{3})", bytes(received), re.MULTILINE)] or [0]
    findings.add(source, sent, max(statuses), bytes(received), time.perf_counter() - begin)
