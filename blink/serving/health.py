"""``/healthz``, ``/readyz`` and ``/metrics``: whether the server lives, answers, and what it has done."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from blink.serving.answers import Body
from blink.serving.service import Service, service_of

router = APIRouter(tags=["health"])
AnyService = Annotated[Service, Depends(service_of)]


class Health(Body):
    """State of the process."""

    status: Literal["ok", "ready"]
    """``ok``: it lives; ``ready``: it answers."""


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process lives, also while it loads or stops."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(service: AnyService) -> Health:
    """Whether requests are answered; 503 while the linker is loaded, and while the server stops."""
    service.require_running()
    return Health(status="ready")


@router.get("/metrics", response_class=Response)
async def metrics(service: AnyService) -> Response:
    """Counts and times in the text format of Prometheus."""
    service.note_state()
    return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")
