"""The service: what all endpoints share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.serving.engine import Engine
from blink.serving.errors import UnavailableError
from blink.serving.metrics import Metrics
from blink.serving.settings import ServerSettings
from blink.serving.turns import Turns

MAX_WAITING = 64
"""Edits, or searches that encode texts, that may wait for their turn."""


@dataclass
class Service:
    """A linker behind an engine, with the settings of the server.

    Attributes:
        engine: links texts; `Engine.link` is what endpoints call.
        settings: of the server.
        metrics: what is counted.
        token: that edits need; None where nobody edits.
        edits: threads that edit the knowledge base or the file of corrections, one at a time.
        searches: threads that encode records or queries, one at a time.
        is_draining: whether the server is being stopped.
        hosts: names by which clients may call the server; None for any.
        n_long_pages: long texts of web pages that are being linked.
    """

    engine: Engine
    settings: ServerSettings
    metrics: Metrics
    token: str | None = None
    is_draining: bool = False
    hosts: frozenset[str] | None = None
    n_long_pages: int = 0
    edits: Turns = field(init=False)
    searches: Turns = field(init=False)

    def __post_init__(self) -> None:
        limits = (MAX_WAITING, self.settings.request_seconds)
        self.edits, self.searches = Turns("edits", *limits), Turns("searches", *limits)

    @classmethod
    def of(
        cls, linker: Linker | Callable[[], Linker], settings: ServerSettings | None = None, token: str | None = None
    ) -> Service:
        """The service of a linker, or of one that the engine opens when the server starts."""
        settings, metrics = settings or ServerSettings(), Metrics()
        return cls(Engine(linker, settings, metrics), settings, metrics, token)

    @property
    def linker(self) -> Linker:
        """The linker. What uses the model goes through the engine, since one thread alone may use it.

        Raises:
            UnavailableError: it is not loaded yet.
        """
        return self.engine.linker

    @property
    def kb(self) -> KnowledgeBase:
        """The knowledge base, which any thread may read and edit. Raises as `linker` does."""
        return self.linker.kb

    def require_running(self) -> None:
        """Check that requests are answered.

        Raises:
            UnavailableError: the linker is not loaded yet, or the server stops.
        """
        if self.is_draining:
            raise UnavailableError("the server is stopping; send the request to another")
        _ = self.engine.linker

    def note_state(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.queue(self.engine.room.n_texts, self.engine.room.n_characters)
        ready = self.engine.is_ready and not self.is_draining
        view = self.kb.view if self.engine.is_ready else None
        rows, edit = (0, 0) if view is None else (len(view.catalogue), view.changes.number)
        self.metrics.state(ready=ready, rows=rows, edit=edit)


def service_of(request: Request) -> Service:
    """The service, whether it is ready or not."""
    service: Service = request.app.state.service
    return service


def get_service(request: Request) -> Service:
    """The dependency of endpoints: the service, ready.

    Raises:
        UnavailableError: it is loading; the answer has status 503.
    """
    service = service_of(request)
    _ = service.engine.linker
    return service


ReadyService = Annotated[Service, Depends(get_service)]
"""Type of the argument by which an endpoint gets the service."""
