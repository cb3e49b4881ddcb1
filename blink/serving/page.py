"""The web page at ``/``: its files, and what it asks about the server."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from blink import __version__
from blink.serving.answers import Body
from blink.serving.service import ReadyService, Service, service_of

router = APIRouter(tags=["page"])
AnyService = Annotated[Service, Depends(service_of)]

MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
"""Types of the page's files, by the end of their names."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""What a browser may load for the page: files of this server alone, nothing inline, and no HTML out of strings."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """The page's files by name: content and entity tag."""
    folder = files("blink.serving") / "static"
    contents = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in MEDIA_TYPES}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:16]}"') for name, content in contents.items()}


def _file(name: str, known: str | None) -> Response:
    content, tag = page_files()[name]
    headers = HEADERS | {"ETag": tag}
    if known is not None and tag in known:
        return Response(status_code=304, headers=headers)
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(
        content, headers=headers, media_type=media_type if media_type == "image/svg+xml" else f"{media_type}; charset=utf-8"
    )


KnownTag = Annotated[str | None, Header(description="Tag of the file that the browser has.")]


@router.get("/", response_class=Response, include_in_schema=False)
async def page(if_none_match: KnownTag = None) -> Response:
    """The web page."""
    return _file("page.html", if_none_match)


FileName = Annotated[str, Path(description="Name of a file.")]


@router.get("/static/{name}", response_class=Response, include_in_schema=False)
async def static(name: FileName, if_none_match: KnownTag = None) -> Response:
    """A file of the web page."""
    if name not in page_files():
        raise HTTPException(404)
    return _file(name, if_none_match)


class PageState(Body):
    """What the page says of the server."""

    version: str
    """Of BLINK."""
    entities: int
    """Of the knowledge base."""
    edits: bool
    """Whether the server has a token, with which entities are added."""
    corrections: bool
    """Whether the server keeps corrections of links."""


@router.get("/page/state")
async def page_state(service: ReadyService) -> PageState:
    """Entities, and whether edits and corrections are taken."""
    has_token = service.token is not None
    has_corrections = has_token and service.settings.corrections is not None
    entities = len(service.kb.catalogue) - len(service.kb.catalogue.bad_rows)  # without empty rows
    return PageState(version=__version__, entities=entities, edits=has_token, corrections=has_corrections)
