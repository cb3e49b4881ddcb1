"""``POST /page/link``: explained links of a text, section by section as they are known, for the web page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from blink.data.text_lines import check_text
from blink.errors import BlinkError
from blink.explaining.explanation import ExplainedSection, explain_sections
from blink.linking.sections import SECTION_CHARACTERS
from blink.serving.answers import Body
from blink.serving.errors import OverloadedError, ServingError
from blink.serving.links import Span, check_limits
from blink.serving.service import ReadyService, Service

router = APIRouter(tags=["page"])
MEDIA_TYPE = "application/x-ndjson"
MOST_LONG_TEXTS = 8
"""Long texts that are explained at once."""


class PageRequest(Body):
    """A text, and perhaps own mentions in it."""

    text: str = Field(examples=["The Nile flows through Egypt."])
    """The text."""
    spans: list[Span] | None = Field(None, examples=[[[4, 8]]])
    """Own mentions, characters ``[start, end)``; a text that has them may have one section at most."""


@router.post("/page/link", response_class=StreamingResponse, responses={200: {"content": {MEDIA_TYPE: {}}}})
async def page_link(request: PageRequest, service: ReadyService) -> StreamingResponse:
    """Link a text and explain its links: a line of JSON for each section."""
    check_limits([request.text], None if request.spans is None else [request.spans], service.settings)
    if len(request.text) > SECTION_CHARACTERS and request.spans is None:
        lines = _long(request.text, service)
    else:
        lines = _short(request, service)
    first = await anext(lines)  # what is wrong with the request has a status of its own
    return StreamingResponse(_from(first, lines), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


async def _from(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for line in lines:
            yield line
    except BlinkError as error:  # the status of the answer is sent already
        yield _line({"error": str(error), "status": error.status if isinstance(error, ServingError) else 400})


async def _short(request: PageRequest, service: Service) -> AsyncIterator[bytes]:
    spans = None if request.spans is None else [request.spans]
    (result,) = await service.engine.link([request.text], spans=spans, explain=True)
    assert result.explanation is not None
    yield _line(section_json(ExplainedSection(result.explanation, 0, len(request.text), True)))


async def _long(text: str, service: Service) -> AsyncIterator[bytes]:
    if service.n_long_pages >= MOST_LONG_TEXTS:
        raise OverloadedError(f"{MOST_LONG_TEXTS} long texts are linked already; try again in a minute")
    check_text(text, "the text")
    service.n_long_pages += 1
    try:
        sections: Iterator[ExplainedSection] = explain_sections(service.engine.long_linker, text)
        is_last = False
        while not is_last:
            section = await service.engine.call(lambda: next(sections), long=True)
            is_last = section.is_last
            yield _line(section_json(section))
    finally:
        service.n_long_pages -= 1


def section_json(section: ExplainedSection) -> dict[str, Any]:
    """A section as JSON: its explanation, whose candidates name entities by row, and the entities by row."""
    explanation = section.explanation.to_json()
    for name in ("text", "links"):
        del explanation[name]
    entities = {}
    for mention in explanation["mentions"]:
        for candidate in mention["candidates"]:
            entity = {name: candidate.pop(name) for name in ("kb_id", "title", "description", "url", "types")}
            entities[str(candidate["row"])] = entity
    bounds = {"start": section.start, "end": section.end, "is_last": section.is_last}
    return bounds | {"explanation": explanation, "entities": entities}


def _line(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content) + b"\n"
