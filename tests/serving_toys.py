"""A toy linker behind the server: in this process, or on a port."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from blink.data.records import Link, LinkedText
from blink.linking.linker import Linker
from blink.serving.app import create_app
from blink.serving.run import DrainingServer, listen
from blink.serving.service import Service
from blink.serving.settings import ServerSettings
from tests import toys

TOKEN = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TEXTS = (
    "Who governed Georgia before Atlanta burned?",
    "the ohio river, the lake garda and mount elbrus",
    "",
    "Turing!",
    "Java or Mercury? Oslo. " * 6,
    "   \n\t ",
    "Tbilisi is in Georgia, Atlanta is in Georgia",
)


def toy_linker(folder: Path, seed: int = 6, **settings: Any) -> Linker:
    """A random linker that links nearly everything."""
    model = toys.model(seed, **settings)
    return Linker(
        model, toys.knowledge_base(folder / "kb", model, toys.rows(20)), threshold=-12.0, precision="fp32", device="cpu"
    )


@contextmanager
def client_of(linker: Linker, token: str | None = TOKEN, **settings: Any) -> Iterator[TestClient]:
    """A client of the application in this process; ``client.app.state.service`` is its service."""
    service = Service.of(linker, ServerSettings(**settings), token)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


@dataclass
class RunningServer:
    """A server on a port of this machine, in a thread."""

    url: str
    service: Service
    server: DrainingServer
    thread: threading.Thread

    def stop(self) -> None:
        """Stop it as a signal does, and wait until it has ended."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def running(linker: Linker, token: str | None = TOKEN, **settings: Any) -> Iterator[RunningServer]:
    """A server on a free port."""
    listener = listen("127.0.0.1", 0)
    service = Service.of(linker, ServerSettings(**settings), token)
    lines: list[str] = []
    server = DrainingServer(service, lines.append)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    running_server = RunningServer(f"http://127.0.0.1:{listener.getsockname()[1]}", service, server, thread)
    httpx.get(running_server.url + "/readyz").raise_for_status()
    try:
        yield running_server
    finally:
        if thread.is_alive():
            running_server.stop()


def links_of(answer: dict[str, Any]) -> list[tuple[int, int, int]]:
    """The links in a result of ``/link``, as `link_spans`."""
    return [(link["start"], link["end"], link["row"]) for link in answer["links"]]


def link_spans(linked: LinkedText) -> list[tuple[int, int, int]]:
    """Start, end and row of links."""
    return [span_of(link) for link in linked.links]


def span_of(link: Link) -> tuple[int, int, int]:
    """Start, end and row of a link."""
    return link.start, link.end, link.row


def error_of(response: Any, status: int) -> str:
    """The message of an answer that has this status and nothing but one line of message."""
    assert response.status_code == status, response.text
    body = json.loads(response.text)
    assert list(body) == ["error"]
    message = body["error"]
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    return str(message)
