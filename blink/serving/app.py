"""The web application: all routers over one service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from blink import __version__
from blink.serving import correcting, docs_page, entities, health, links, nif, page, page_links, reconcile, resolving
from blink.serving.answers import ErrorAnswer, add_error_handlers
from blink.serving.guard import Guard
from blink.serving.service import Service

ROUTERS = (
    links.router,
    entities.router,
    resolving.router,
    correcting.router,
    nif.router,
    reconcile.router,
    health.router,
    docs_page.router,
    page.router,
    page_links.router,
)
"""All routers, in the order in which /docs shows them."""
ERRORS = {status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 408, 413, 422, 429, 503, 504)}
STATE_S = 2.0
"""Seconds between two measurements of memory and the state of the knowledge base."""


def create_app(service: Service, on_opened: Callable[[BaseException | None], None] = lambda failure: None) -> FastAPI:
    """The application over a service, whose engine runs as long as it does.

    Args:
        service: what endpoints share.
        on_opened: called once the linker is open, or with what ended its opening.

    Examples:
        >>> app = create_app(Service.of(blink.load()))  # doctest: +SKIP
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start(on_opened)
        noting = asyncio.create_task(_note_states(service))
        yield
        noting.cancel()
        service.is_draining = True
        service.engine.stop(service.settings.drain_seconds)

    app = FastAPI(title="BLINK", version=__version__, summary="Links the mentions of entities in texts to a knowledge base.",
                  docs_url=None, redoc_url=None, lifespan=lifespan)  # fmt: skip
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router, responses=ERRORS)  # type: ignore[arg-type]
    add_error_handlers(app)
    app.add_middleware(Guard, service=service)
    if service.settings.allow_origin:  # outside of the guard, so that pages can read what it refuses
        of: dict[str, Any] = {"allow_origins": service.settings.allow_origin, "allow_methods": ["*"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, **of)
    return app


async def _note_states(service: Service) -> None:
    while True:
        service.note_state()
        await asyncio.sleep(STATE_S)
