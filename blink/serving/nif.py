"""``POST /nif/a2kb`` and ``/nif/d2kb``: NIF documents in, the links of their texts out, as GERBIL calls annotators."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from blink.data.records import Entity, Link, LinkedText
from blink.kb.knowledge_base import KnowledgeBase
from blink.serving.entity_uris import STYLES, nil_uri, uri_writer
from blink.serving.errors import UnsupportedMediaError
from blink.serving.links import check_limits
from blink.serving.nif_document import FORMATS, TURTLE, NifContext, NifLink, NifPhrase, read_nif, write_nif
from blink.serving.service import ReadyService, Service

router = APIRouter(prefix="/nif", tags=["NIF and GERBIL"])
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_EXAMPLE = """@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .
<http://example.org/doc#char=0,28> a nif:Context ; nif:isString "The Nile flows through Egypt" .
<http://example.org/doc#char=4,8> a nif:Phrase ; nif:beginIndex 4 ; nif:endIndex 8 ;
    nif:referenceContext <http://example.org/doc#char=0,28> ."""
_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {
        name: {"schema": {"type": "string"}} | ({"example": _EXAMPLE} if name == TURTLE else {}) for name in FORMATS
    }},
    "responses": {"200": {"description": "The document with its links", "content": {
        name: {"schema": {"type": "string"}} for name in FORMATS
    }}},
}  # fmt: skip
Uris = Annotated[str, Query(max_length=200, description=f"URIs of entities: {', '.join(STYLES)}, or a prefix of their ids")]
Threshold = Annotated[float | None, Query(allow_inf_nan=False, description="score above which links are kept")]
Filter = Annotated[list[str] | None, Query(description="which entities may be linked, such as type=city|town")]
Nil = Annotated[Literal["uri", "omit"], Query(description="phrases that name no entity have a URI of notInWiki, or none")]
UriOf = Callable[[Entity], str]


@router.post("/a2kb", openapi_extra=_OPENAPI, response_class=Response)
async def a2kb(
    request: Request, service: ReadyService, uris: Uris = "url", threshold: Threshold = None, where: Filter = None
) -> Response:
    """Find the mentions of each context and link them; phrases of the request are ignored."""
    uri_of, contexts = uri_writer(uris), await _contexts(request, service)
    texts = [context.text for context in contexts]
    check_limits(texts, None, service.settings)
    results = await service.engine.link(texts, where=where, threshold=threshold)
    links = [_links(result.linked, service.kb, uri_of) for result in results]
    service.metrics.links(sum(map(len, links)))
    return await _answer(request, list(zip(contexts, links, strict=True)))


@router.post("/d2kb", openapi_extra=_OPENAPI, response_class=Response)
async def d2kb(
    request: Request,
    service: ReadyService,
    uris: Uris = "url",
    threshold: Threshold = None,
    where: Filter = None,
    nil: Nil = "uri",
) -> Response:
    """Link the phrases of each context; each gets an answer, whatever its score unless there is a threshold."""
    uri_of, contexts = uri_writer(uris), await _contexts(request, service)
    texts = [context.text for context in contexts]
    spans = [sorted({(phrase.start, phrase.end) for phrase in context.phrases}) for context in contexts]
    check_limits(texts, spans, service.settings)
    results = await service.engine.link(texts, spans=spans, where=where)
    links = []
    for context, result in zip(contexts, results, strict=True):
        by_span = {(x.start, x.end): x for x in result.linked.links if threshold is None or x.score > threshold}
        phrases = [(phrase, by_span.get((phrase.start, phrase.end))) for phrase in context.phrases]
        links.append([_nif_link(phrase, link, context, service.kb, uri_of, nil) for phrase, link in phrases])
    service.metrics.links(sum(map(len, links)))
    return await _answer(request, list(zip(contexts, links, strict=True)))


async def _contexts(request: Request, service: Service) -> list[NifContext]:
    """The contexts of a request.

    Raises:
        DataError: the document is malformed.
        UnsupportedMediaError: it has another form than those of `FORMATS`.
    """
    media_type = _media_type(request.headers.get("content-type", TURTLE))
    return await run_in_threadpool(read_nif, await request.body(), media_type, service.settings.max_texts)


def _media_type(header: str) -> str:
    name = header.partition(";")[0].strip().lower()
    charset = _CHARSET.search(header)
    if name not in FORMATS:
        raise UnsupportedMediaError(f"the Content-Type is {name[:60]!r}; allowed are {', '.join(FORMATS)}")
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaError(f"the document is in {charset[1][:40]!r}; send UTF-8")
    return name


async def _answer(request: Request, contexts: list[tuple[NifContext, list[NifLink]]]) -> Response:
    """The document in the form that the client accepts, by default in that of its request."""
    accepted = [of.partition(";")[0].strip().lower() for of in request.headers.get("accept", "").split(",")]
    sent = _media_type(request.headers.get("content-type", TURTLE))
    media_type = next((name for name in accepted if name in FORMATS), sent)
    content = await run_in_threadpool(write_nif, contexts, media_type)
    return Response(content, media_type=media_type, headers={"Content-Type": f"{media_type}; charset=utf-8"})


def _links(linked: LinkedText, kb: KnowledgeBase, uri_of: UriOf) -> list[NifLink]:
    return [NifLink(NifPhrase("", x.start, x.end), uri_of(_entity(x, kb)), x.score) for x in linked.links]


def _nif_link(phrase: NifPhrase, link: Link | None, context: NifContext, kb: KnowledgeBase, uri_of: UriOf, nil: str) -> NifLink:
    if link is not None:
        return NifLink(phrase, uri_of(_entity(link, kb)), link.score)
    return NifLink(phrase, nil_uri(context.text[phrase.start : phrase.end]) if nil == "uri" else None)


def _entity(link: Link, kb: KnowledgeBase) -> Entity:
    """The entity of a link, as it was linked if it was removed since."""
    entity = kb.catalogue[link.row]
    return entity if entity.title else Entity(link.row, link.title, link.description, link.kb_id, link.url)
