"""Runs the server: its socket, its process or processes, and their end."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from blink.data.corrections import Corrections
from blink.data.records import Entity
from blink.errors import SettingsError
from blink.linking.linker import Linker
from blink.serving import logs
from blink.serving.app import create_app
from blink.serving.metrics import FOLDER_VARIABLE
from blink.serving.protocol import LimitedProtocol
from blink.serving.service import Service
from blink.serving.settings import ServerSettings
from blink.serving.supervisor import Supervisor
from blink.serving.tokens import read_token
from blink.stopping import handled

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Seconds for which an idle connection stays open: longer than those of proxies, which would otherwise use a closed one."""
ACCEPT_S = 0.05
"""Seconds in which a stopping server accepts the connections that the system already has for it."""
SWITCH_S = 0.001
"""Seconds after which a thread that computes lets another one continue; Python's 5 ms are added to each step of a request."""
WARM_UP = "The Nile flows through Egypt."
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

OpenLinker = Callable[[], Linker]
Say = Callable[[str], None]


def serve(open_linker: OpenLinker, settings: ServerSettings, say: Say) -> None:
    """Answer requests until a signal stops the server.

    Args:
        open_linker: opens the linker, after the port is open; pickled for several workers.
        settings: of the server.
        say: called with the address, and with warnings; pickled for several workers.

    Raises:
        SettingsError: the address cannot be listened on, or the token is none.
        BlinkError: the linker cannot be opened.
    """
    token = read_token(settings.token_file)
    if settings.corrections is not None:
        Corrections.read(settings.corrections)  # refused here, not at the first correction
    listener = listen(settings.host, settings.port)
    warning = exposure_warning(settings, token)
    if warning:
        say(warning)
    say(f"blink: listening on {address_of(listener)}, process {os.getpid()}")
    if settings.workers == 1:
        run_process(listener, True, open_linker, settings, token, say)
        return
    with tempfile.TemporaryDirectory(prefix="blink-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        target = partial(run_process, open_linker=open_linker, settings=settings, token=token, say=say)
        Supervisor(target, settings.workers, listener, settings.drain_seconds, say).run()


def run_process(
    listener: socket.socket,
    answers_first: bool,
    open_linker: OpenLinker,
    settings: ServerSettings,
    token: str | None,
    say: Say,
) -> None:
    """Answer requests in this process until a signal stops it.

    Args:
        listener: the socket.
        answers_first: answer that the linker is being loaded, rather than accept connections when it is.
        open_linker: as of `serve`, and so are the others.
        settings: of the server.
        token: that edits need.
        say: called with lines.

    Raises:
        BlinkError: the linker cannot be opened.
    """
    logs.set_up(settings.log_format)
    sys.setswitchinterval(SWITCH_S)
    opener = partial(warmed, open_linker, encodes=token is not None)
    service = Service.of(opener if answers_first else opener(), settings, token)
    service.hosts = allowed_hosts(settings)
    server = DrainingServer(service, say)
    with handled(server.end):
        server.run([listener])
    if service.engine.failure is not None:
        raise service.engine.failure


def warmed(open_linker: OpenLinker, *, encodes: bool) -> Linker:
    """The linker after its first text, so that the first request takes no longer than others.

    Args:
        open_linker: opens it.
        encodes: whether texts of edits will be encoded.
    """
    linker = open_linker()
    linker(WARM_UP)
    if encodes and linker.kb.encode is not None:
        linker.kb.encode([Entity(0, WARM_UP)])
    return linker


class DrainingServer(uvicorn.Server):
    """A server that answers everything that was accepted before it stops.

    Args:
        service: that it serves.
        say: called when it is ready.
    """

    def __init__(self, service: Service, say: Say) -> None:
        settings = service.settings

        class Protocol(LimitedProtocol):
            max_connections = settings.max_connections

        self._service, self._say = service, say
        options: dict[str, Any] = {"http": Protocol, "ws": "none", "log_config": None, "access_log": False}
        options |= {"server_header": False, "backlog": BACKLOG, "timeout_keep_alive": KEEP_ALIVE_S}
        options |= {"timeout_graceful_shutdown": int(settings.drain_seconds) + 2}
        super().__init__(uvicorn.Config(create_app(service, self._opened), **options))

    def end(self, number: int, frame: FrameType | None) -> None:
        """End because of a signal: one that uvicorn does not handle itself, or that it raises again after it has stopped."""
        self.should_exit = True

    def _opened(self, failure: BaseException | None) -> None:
        """Called by the engine once its linker is open, or cannot be."""
        if failure is not None:
            self.should_exit = True
        else:
            kb = self._service.kb
            self._say(f"blink: process {os.getpid()} is ready, {len(kb.catalogue):,} entities")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what the system has accepted, answer it, and end."""
        self._service.is_draining = True
        await asyncio.sleep(ACCEPT_S)
        loop, limit_s = asyncio.get_running_loop(), self._service.settings.drain_seconds
        timer = loop.call_later(limit_s, self._service.engine.abandon)
        await super().shutdown(sockets)
        timer.cancel()


def allowed_hosts(settings: ServerSettings) -> frozenset[str] | None:
    """Names by which clients may call the server; None for any.

    A server of this machine alone is called by its names: a page elsewhere whose name is made to lead here is refused.
    """
    named = {name.lower() for name in settings.allow_host}
    if not named and settings.host not in LOOPBACK:
        return None
    return frozenset(named | (LOCAL_NAMES if settings.host in LOOPBACK else {settings.host.lower()}))


def exposure_warning(settings: ServerSettings, token: str | None) -> str | None:
    """A warning about a server that others can reach, and who may edit; None for this machine alone."""
    if settings.host in LOOPBACK:
        return None
    edits = "nobody can edit, since there is no token" if token is None else "whoever has the token can edit"
    return f"blink: everyone who reaches {settings.host} can link texts; {edits}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SettingsError: there is no such address, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"--host {host} is no address of this machine; give one such as 127.0.0.1 or 0.0.0.0") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        fault = f"port {port} of {host} cannot be listened on ({error.strerror})"
        raise SettingsError(f"{fault}; give another with --port, or 0 for any free one") from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
