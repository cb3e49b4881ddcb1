"""HTTP on a connection: uvicorn's, with limits for the head of a request and a graceful end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
"""Bytes of the request line and headers."""
HEAD_S = 30.0
"""Seconds from the first byte of a request to the end of its headers, and from a connection to its first request."""
IDLE_DRAIN_S = 0.5
"""Seconds for which a stopping server still answers on connections that are open: a request may be on its way."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose requests must have a head of limited size, in limited time.

    Subclasses set ``max_connections``.
    """

    max_connections = 1000

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes, self._in_head = 0, True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it where too many are open."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            return self._close_with(503, "too many connections are open; try again in a second")
        self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)  # sets the bytes to 0 where headers or a body end
        if self._head_bytes > MAX_HEAD_BYTES:
            self._close_with(431, f"the address and headers have more than {MAX_HEAD_BYTES:,} bytes; send fewer")

    def on_headers_complete(self) -> None:
        """Start to answer."""
        self._in_head, self._head_bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the head of the next request."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._close_with(400, "this is not a request of HTTP/1.1; correct the client")

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also where its client does not read the answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """End the connection after its answer; an idle one a moment later, since a request may be on its way."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(IDLE_DRAIN_S, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _too_slow(self) -> None:
        self._head_timer = None
        self._close_with(408, f"the headers did not arrive within {HEAD_S:g} seconds")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_with(self, status: int, message: str) -> None:
        """Close the connection with an error, where no answer is being sent on it."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = json.dumps({"error": message}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
