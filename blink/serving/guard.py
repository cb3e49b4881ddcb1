"""What stands before the application: who may ask, how large and slow a request may be, and what is noted of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from blink.data.display import printable
from blink.serving.answers import error_answer, refusal
from blink.serving.errors import ForbiddenError, OverloadedError, ServingError, SlowBodyError, TooLargeError
from blink.serving.service import Service

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)
access = logging.getLogger("blink.access")

BODIES_HELD = 16
"""Bodies of the largest size that may be in memory together."""
DISCARDED = 8
"""Times the largest size that is received of a body that is too large, so that its sender reads the answer."""
LONGEST_PATH = 200
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths whose answers are not logged, unless they failed."""
ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class ClientGoneError(Exception):
    """The client went away before it had sent its request."""


@dataclass
class _Exchange:
    """A request and what is known of its answer."""

    scope: Scope
    send_on: Send
    service: Service
    status: int = 0
    n_bytes: int = 0

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *ALWAYS]
            if self.service.is_draining or self.status in (408, 413):
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self.n_bytes += len(message.get("body", b""))
        await self.send_on(message)

    def header(self, name: bytes) -> str | None:
        """The last header of a name."""
        values = [value for key, value in self.scope["headers"] if key == name]
        return values[-1].decode("latin-1") if values else None


class Guard:
    """Middleware that refuses requests before the application reads them, and cancels those whose client went away.

    Args:
        app: the application.
        service: its service.
    """

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service, self._settings = app, service, service.settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange, begin = _Exchange(scope, send, self._service), time.perf_counter()
        try:
            await self._answered(exchange, receive)
        except ClientGoneError:
            pass
        except Exception as error:
            if not isinstance(error, ServingError):
                logger.error("%s failed", _path(scope), exc_info=error)
            await _refuse(exchange, error)
        finally:
            self._note(exchange, time.perf_counter() - begin)

    async def _answered(self, exchange: _Exchange, receive: Receive) -> None:
        self._check_caller(exchange)
        body = await self._body(exchange, receive)
        self._held += len(body)
        try:
            if self._held > BODIES_HELD * self._settings.max_body:
                raise OverloadedError("too many large requests are being answered; try again in a second")
            await self._run(exchange, receive, body)
        finally:
            self._held -= len(body)

    def _check_caller(self, exchange: _Exchange) -> None:
        """Refuse pages of other sites, which a browser on this machine would let ask."""
        host, origin, hosts = exchange.header(b"host") or "", exchange.header(b"origin"), self._service.hosts
        name = host_name(host)
        if hosts is not None and name not in hosts:
            raise ForbiddenError(f"the server is not called {name!r:.100}; allow the name with --allow-host")
        if origin is None or not {origin, "*"}.isdisjoint(self._settings.allow_origin):
            return
        if _site(origin) != host.lower():
            raise ForbiddenError(f"pages of {origin!r:.100} may not use the server; allow them with --allow-origin")

    async def _body(self, exchange: _Exchange, receive: Receive) -> bytes:
        length, limit = exchange.header(b"content-length"), self._settings.max_body
        too_large = length is not None and length.isdecimal() and int(length) > limit
        chunks: list[bytes] = []
        size, more = 0, True
        end = time.monotonic() + self._settings.body_seconds
        while more:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except asyncio.TimeoutError:
                raise SlowBodyError(f"the request did not arrive within {self._settings.body_seconds:g} seconds") from None
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            size, more = size + len(chunk), message.get("more_body", False)
            too_large = too_large or size > limit
            if too_large and size > DISCARDED * limit:
                break
            if too_large:
                chunks.clear()
            else:
                chunks.append(chunk)
        if too_large:
            raise TooLargeError(f"the request has more than {limit:,} bytes; send several smaller ones")
        return b"".join(chunks)

    async def _run(self, exchange: _Exchange, receive: Receive, body: bytes) -> None:
        """Run the application, until it is done or the client goes away."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return messages.pop() if messages else await receive()

        running = asyncio.ensure_future(self._app(exchange.scope, replayed, exchange.send))
        watching = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and not exchange.status:
                running.cancel()
            await running
        except asyncio.CancelledError:
            if not watching.done():  # the server stops
                running.cancel()
                raise
            raise ClientGoneError from None
        finally:
            watching.cancel()

    def _note(self, exchange: _Exchange, seconds: float) -> None:
        scope, status = exchange.scope, exchange.status or 499
        route = getattr(scope.get("route"), "path", "other")
        self._service.metrics.request(route, _method(scope), status, seconds)
        if status < 400 and scope["path"] in QUIET:
            return
        fields = {"method": _method(scope), "path": _path(scope), "status": status, "ms": round(seconds * 1000, 1)}
        access.info("request", extra={"fields": fields | {"bytes": exchange.n_bytes}})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(exchange: _Exchange, error: Exception) -> None:
    if exchange.status:  # the answer has begun: the connection is closed by the server
        raise error
    failure = "the server failed; its log says why"
    response = refusal(error) if isinstance(error, ServingError) else error_answer(failure, 500)
    await response(exchange.scope, _nothing, exchange.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _site(origin: str) -> str | None:
    """Host and port of an origin, in lower case; None for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as a bracket that is not closed
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without the port, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _path(scope: Scope) -> str:
    """The path as it was sent, without the query, which may hold texts."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
    return printable(raw.partition(b"?")[0].decode("ascii", "backslashreplace"))[:LONGEST_PATH]
