"""``POST /resolve``: records to existing or new entities, see `blink.resolve`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from blink.errors import DataError
from blink.files import locked
from blink.kb.live.editing import WAIT_S
from blink.kb.manifest import MANIFEST_FILE
from blink.resolve.resolver import Resolver
from blink.serving.answers import Body, answer
from blink.serving.errors import TooLargeError
from blink.serving.service import ReadyService, Service
from blink.serving.tokens import Credentials, require_token

router = APIRouter(tags=["resolve"])
MAX_RECORDS = 1000
Probability = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class ResolveRequest(Body):
    """Records, and what to do with those that the knowledge base lacks."""

    records: list[str | dict[str, Any]] = Field(
        examples=[[{"name": "A. Merkel", "type": "person", "description": "chancellor of Germany until 2021"}]]
    )
    """Names, or objects with ``name`` and perhaps ``description``, ``context``, ``type``, ``aliases``, ``id``, ``source``."""
    add: bool = Field(False, examples=[False])
    """Add what the knowledge base lacks, and remember what was resolved; it needs the token. Else nothing is written."""
    threshold: Probability | None = Field(None, examples=[0.9])
    """Probability from which a record is linked; by default the scorer's."""
    review: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, examples=[0.5])
    """Probability from which a record that is not linked is uncertain; by default the scorer's."""


class ResolveAnswer(Body):
    """What each record was resolved to, in the order of the request."""

    results: list[dict[str, Any]]
    """For each record ``record``, ``status`` (``linked``, ``new`` or ``uncertain``), ``entity``, ``probability``, ``reasons``
    and ``candidates``."""


@router.post("/resolve", response_model=ResolveAnswer)
async def resolve(request: ResolveRequest, service: ReadyService, credentials: Credentials) -> Response:
    """Resolve records to entities, as `blink resolve run`."""
    if request.add:
        require_token(service, credentials.credentials if credentials else None)
    if len(request.records) > MAX_RECORDS:
        raise TooLargeError(
            f"the request has {len(request.records):,} records; up to {MAX_RECORDS:,} are allowed, send several"
        )
    turns = service.edits if request.add else service.searches
    results = await turns.call(lambda: _resolved(service, request))
    if request.add:
        service.metrics.edit("resolve")
    return answer({"results": results})


def _resolved(service: Service, request: ResolveRequest) -> list[dict[str, Any]]:
    def results() -> list[dict[str, Any]]:
        resolver = Resolver(service.kb, threshold=request.threshold, review=request.review)
        return [result.to_json() for result in resolver.resolve(request.records, dry_run=not request.add)]

    if not request.add:
        return results()
    folder = service.kb.require_folder()
    if not (folder / MANIFEST_FILE).is_file():
        raise DataError("the knowledge base is being built again; try again later")
    with locked(folder / MANIFEST_FILE, wait=WAIT_S):  # one process at a time adds to the list of resolved records
        return results()
