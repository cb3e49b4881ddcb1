"""``/reconcile``: the reconciliation protocol 0.2, by which OpenRefine and others match tables to the knowledge base."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from blink.data.records import Entity
from blink.errors import DataError
from blink.serving.answers import answer
from blink.serving.errors import UnknownEntityError, UnsupportedMediaError
from blink.serving.reconciliation.extending import MAX_IDS, extension
from blink.serving.reconciliation.manifest import manifest
from blink.serving.reconciliation.pages import POLICY, entity_fragment, preview_page, property_fragment, type_fragment
from blink.serving.reconciliation.queries import BATCH_SIZE, extension_query, parsed_json, query_batch, single_query
from blink.serving.reconciliation.reconciler import Reconciler
from blink.serving.reconciliation.schema import CONTEXT_PROPERTY, properties_of_type, row_of_id
from blink.serving.reconciliation.suggesting import (
    MAX_CURSOR,
    suggested_entities,
    suggested_properties,
    suggested_types,
)
from blink.serving.service import ReadyService

router = APIRouter(prefix="/reconcile", tags=["reconciliation"])
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MAX_FIELDS = 20
_CALLBACK = r"^[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*){0,5}$"
_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", re.ASCII)
_BATCH_EXAMPLE = '{"q0": {"query": "Nile", "type": "river", "limit": 3}}'
_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {
        FORM: {"schema": {"type": "object", "properties": {
            "queries": {"type": "string", "example": _BATCH_EXAMPLE, "description": "a batch of queries, as JSON"},
            "query": {"type": "string", "description": "a single query: a name, or a query object as JSON"},
            "extend": {"type": "string", "description": "ids and properties whose values are wanted, as JSON"},
        }}},
        JSON: {"schema": {"type": "object", "properties": {"queries": {"type": "object"}, "extend": {"type": "object"}}}},
    }},
}  # fmt: skip


def get_reconciler(request: Request, service: ReadyService) -> Reconciler:
    """The dependency of endpoints: what answers queries, made at the first one."""
    state = request.app.state
    if not hasattr(state, "reconciler"):
        state.reconciler = Reconciler(service)
    reconciler: Reconciler = state.reconciler
    return reconciler


ReadyReconciler = Annotated[Reconciler, Depends(get_reconciler)]
Callback = Annotated[str | None, Query(pattern=_CALLBACK, max_length=100, description="function that JSONP calls")]
Text = Annotated[str | None, Query(max_length=1 << 20, description="JSON, as in the field of this name of a POST")]
Kind = Annotated[Literal["entity", "type", "property"], Path(description="what is suggested")]
Id = Annotated[str, Query(min_length=1, max_length=1000, description="id of an entity, type or property", examples=["Q3392"])]
Prefix = Annotated[str, Query(max_length=300, description="what was typed", examples=["Ni"])]
Cursor = Annotated[int, Query(ge=0, le=MAX_CURSOR, description="suggestions to skip")]


@router.get("", response_model=None)
async def reconcile_get(
    request: Request,
    reconciler: ReadyReconciler,
    queries: Text = None,
    query: Text = None,
    extend: Text = None,
    callback: Callback = None,
) -> Response:
    """Without parameters the manifest; else as the same fields of a POST."""
    if queries is None and query is None and extend is None:
        schema = await run_in_threadpool(lambda: reconciler.schema)
        name = f"BLINK, {len(reconciler.kb.catalogue):,} entities"
        return _json(manifest(_address(request), name, schema), callback)
    return _json(await _answers(reconciler, {"queries": queries, "query": query, "extend": extend}), callback)


@router.post("", openapi_extra=_OPENAPI, response_model=None)
async def reconcile_post(request: Request, reconciler: ReadyReconciler, callback: Callback = None) -> Response:
    """Candidates for a batch of queries, or values of properties: a form with fields of JSON, or an object of them."""
    return _json(await _answers(reconciler, await _fields(request)), callback)


@router.get("/suggest/{kind}", response_model=None)
async def suggest(
    kind: Kind,
    reconciler: ReadyReconciler,
    prefix: Prefix = "",
    cursor: Cursor = 0,
    callback: Callback = None,
) -> Response:
    """What a text typed into a field may mean."""

    def suggestions() -> list[dict[str, Any]]:
        if kind == "entity":
            return suggested_entities(reconciler.kb, prefix, cursor)
        schema = reconciler.schema
        return suggested_types(schema, prefix, cursor) if kind == "type" else suggested_properties(schema, prefix, cursor)

    return _json({"result": await run_in_threadpool(suggestions)}, callback)


@router.get("/flyout/{kind}", response_model=None)
async def flyout(kind: Kind, id: Id, reconciler: ReadyReconciler, callback: Callback = None) -> Response:
    """What a tooltip says of a suggestion."""

    def fragment() -> str:
        if kind == "entity":
            return entity_fragment(_entity(reconciler, id))
        schema = reconciler.schema
        if kind == "type" and (name := schema.type_named(id)) is not None:
            return type_fragment(name, schema.types[name])
        of = CONTEXT_PROPERTY if id == CONTEXT_PROPERTY.id else schema.properties.get(id)
        if kind == "property" and of is not None:
            return property_fragment(of)
        raise UnknownEntityError(f"there is no {kind} {id[:100]!r}; /reconcile/suggest/{kind} lists them")

    return _json({"id": id, "html": await run_in_threadpool(fragment)}, callback)


@router.get("/preview", response_class=HTMLResponse)
async def preview(id: Id, reconciler: ReadyReconciler) -> Response:
    """A page about an entity, for a small frame."""
    entity = await run_in_threadpool(_entity, reconciler, id)
    return HTMLResponse(preview_page(entity), headers={"Content-Security-Policy": POLICY})


@router.get("/view", response_class=HTMLResponse)
async def view(id: Id, reconciler: ReadyReconciler) -> Response:
    """The address of an entity, or its preview where it has none."""
    entity = await run_in_threadpool(_entity, reconciler, id)
    if entity.url and entity.url.startswith(("http://", "https://")):
        return RedirectResponse(entity.url, 302)
    return HTMLResponse(preview_page(entity), headers={"Content-Security-Policy": POLICY})


@router.get("/properties", response_model=None)
async def properties(
    reconciler: ReadyReconciler,
    type: Annotated[str | None, Query(max_length=1000, description="type of the entities")] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="most properties")] = None,
    callback: Callback = None,
) -> Response:
    """Properties that entities of a type have, those of most entities first."""
    of_type = await run_in_threadpool(lambda: properties_of_type(reconciler.kb, reconciler.schema, type))
    content: dict[str, Any] = {"properties": [of.to_json() for of in of_type[:limit]]}
    content |= {key: value for key, value in (("type", type), ("limit", limit)) if value is not None}
    return _json(content, callback)


async def _answers(reconciler: Reconciler, fields: dict[str, Any]) -> Any:
    """What the first known field asks for.

    Raises:
        DataError: there is none, or it is malformed.
    """
    values = {name: value for name in ("queries", "query", "extend") if (value := fields.get(name)) is not None}
    if not values:
        raise DataError("the request has none of the fields queries, query and extend; give one")
    name, value = next(iter(values.items()))
    if name == "query":
        batch = {"query": single_query(value if isinstance(value, str) else str(value))}
        return (await reconciler.answers(batch))["query"]
    content = parsed_json(value, name) if isinstance(value, str) else value
    if name == "queries":
        return await reconciler.answers(query_batch(content, BATCH_SIZE))
    wanted = extension_query(content, MAX_IDS)
    return await run_in_threadpool(lambda: extension(wanted, reconciler.kb, reconciler.schema))


async def _fields(request: Request) -> dict[str, Any]:
    """The fields of a form or of a JSON object.

    Raises:
        DataError: the body is malformed.
        UnsupportedMediaError: it is neither.
    """
    name, body = request.headers.get("content-type", FORM).partition(";")[0].strip().lower(), await request.body()
    if name not in (FORM, JSON):
        raise UnsupportedMediaError(f"the Content-Type is {name[:60]!r}; allowed are {FORM} and {JSON}")
    try:
        text = body.decode("utf-8")
        if name == FORM:
            return {key: of[-1] for key, of in parse_qs(text, True, errors="strict", max_num_fields=MAX_FIELDS).items()}
    except UnicodeDecodeError as error:
        raise DataError("the body is not UTF-8; encode it, and in a form percent-encode it") from error
    except ValueError as error:
        raise DataError(f"the form has more than {MAX_FIELDS} fields; send queries, query or extend") from error
    content = parsed_json(text, "the body")
    if not isinstance(content, dict):
        raise DataError("the body is no JSON object; give one with queries, query or extend")
    return content


def _entity(reconciler: Reconciler, kb_id: str) -> Entity:
    """The entity of an id.

    Raises:
        UnknownEntityError: there is none.
    """
    row = row_of_id(reconciler.kb, kb_id)
    if row is None:
        raise UnknownEntityError(f"there is no entity {kb_id[:100]!r}; /reconcile/suggest/entity finds them by name")
    return reconciler.kb.catalogue[row]


def _address(request: Request) -> str:
    """The address of the service as the client calls it."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("127.0.0.1", None)
        host = f"{name}:{port}" if port else name
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}/reconcile"


def _json(content: Any, callback: str | None) -> Response:
    """JSON, or a script that calls a function with it."""
    response = answer(content)
    if callback is None:
        return response
    # U+2028 and U+2029 end a line of older scripts; the comment keeps the script from being taken for another format.
    body = bytes(response.body).replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return Response(b"/**/" + callback.encode() + b"(" + body + b");", media_type="application/javascript")
