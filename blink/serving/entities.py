"""``/entities``: entities by name, meaning or id; and edits, for callers with the token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from blink.errors import DataError
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live import editing, undoing
from blink.kb.live.changes import Transaction
from blink.kb.live.shown import entity_json, transaction_json
from blink.kb.live.state import JournalState
from blink.serving.answers import Body, answer
from blink.serving.errors import UnknownEntityError
from blink.serving.service import ReadyService, Service
from blink.serving.tokens import EditedService

router = APIRouter(prefix="/entities", tags=["entities"])
Names = Annotated[list[str], Field(max_length=1000)]
Key = Annotated[str, Path(max_length=1000, description="Id of an entity, in any form, or its row, such as `Q3392` or `row:17`.",
                          examples=["Q3392"])]  # fmt: skip
MAX_LIMIT = 100
LONGEST_QUERY = 300


class EntityFields(Body):
    """What an entity has."""

    title: str | None = Field(None, examples=["Zorblax"])
    """Its name."""
    text: str | None = Field(None, examples=["Moon of the planet Kepler-1649c."])
    """A description, by which it is recognised in texts."""
    kb_id: str | None = Field(None, examples=["X1"])
    """Its id, which no other entity has."""
    url: str | None = Field(None, examples=["https://example.org/zorblax"])
    """Its address."""
    aliases: Names | None = Field(None, examples=[["Zorb"]])
    """Other names."""
    types: Names | None = Field(None, examples=[["moon"]])
    """What it is."""
    tags: Names | None = Field(None, examples=[["fiction"]])
    """Labels."""
    ids: dict[str, str] | None = Field(None, examples=[{"freebase": "/m/04jpl"}])
    """Its ids in other systems."""
    note: str = Field("", max_length=1000, examples=["asked for by Ada"])
    """Why, for the history."""

    def values(self) -> dict[str, Any]:
        """The fields that were sent; null removes what was there."""
        return self.model_dump(exclude={"note"}, exclude_unset=True)


class NewEntity(EntityFields):
    """An entity to add."""

    title: str = Field(min_length=1, examples=["Zorblax"])
    """Its name."""


class ShownEntity(Body):
    """An entity; what it lacks is left out."""

    model_config = ConfigDict(extra="allow")

    row: int
    """Its row."""
    title: str
    """Its name."""
    text: str = ""
    """Its description."""
    kb_idx: str | None = None
    """Its id."""
    idx: str | None = None
    """Its address."""


class FoundEntities(Body):
    """Entities of a search, the best first."""

    entities: list[ShownEntity]
    """Each also has ``match`` (``title``, ``alias``, ``variant``, ``similar`` or ``meaning``) and ``popularity``."""


class EditedEntity(Body):
    """An entity after an edit."""

    entity: ShownEntity
    """The entity; as it was, where it was removed."""
    edit: int | None
    """Number of the edit; null where the entity was so already."""


class UndoRequest(Body):
    """Which edit to undo."""

    number: int | None = Field(None, ge=1, examples=[7])
    """Of the edit; by default the last that was not undone."""
    with_later: bool = Field(False, examples=[False])
    """Undo later edits of the same entities too, rather than refuse."""


class ShownEdit(Body):
    """An edit."""

    model_config = ConfigDict(extra="allow")

    number: int
    """Its number, from 1."""
    kind: str
    """Such as ``add`` or ``undo``."""


@router.get("", response_model=FoundEntities)
async def search(
    service: ReadyService,
    q: Annotated[
        str, Query(min_length=1, max_length=LONGEST_QUERY, description="A name, or a part of one.", examples=["Nile"])
    ],
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most entities.")] = 20,
    where: Annotated[str | None, Query(max_length=1000, description="Which entities, such as `type=city`.")] = None,
    meaning: Annotated[bool, Query(description="Fill up with entities whose description is near in meaning.")] = False,
) -> Response:
    """Search for entities by name: titles first, then aliases, variants and similar names; of each the most popular first."""
    kb = service.kb

    def matches() -> list[dict[str, Any]]:
        kb.refresh()
        named = kb.search_names(q, limit, where, meaning=meaning)
        return [entity_json(of.entity) | {"match": of.match, "popularity": of.popularity} for of in named]

    return answer({"entities": await (service.searches.call(matches) if meaning else run_in_threadpool(matches))})


@router.get("/{key:path}", response_model=ShownEntity)
async def get(key: Key, service: ReadyService) -> Response:
    """An entity by id or row."""
    kb = service.kb
    kb.refresh()
    return answer(entity_json(kb.catalogue[row_of(kb, key)]))


@router.post("", response_model=EditedEntity, status_code=201)
async def add(entity: NewEntity, service: EditedService) -> Response:
    """Add an entity; texts are linked to it from the next request on."""
    transactions = await _edit(service, "add", editing.add([entity.values()], entity.note))
    return _edited(service, transactions, status=201)


@router.post("/undo", response_model=ShownEdit)
async def undo(request: UndoRequest, service: EditedService) -> Response:
    """Undo an edit; an undo of an undo makes the edit again."""
    (transaction,) = await _edit(service, "undo", undoing.undo(request.number, with_later=request.with_later))
    return answer(transaction_json(transaction))


@router.patch("/{key:path}", response_model=EditedEntity)
async def update(key: Key, changes: EntityFields, service: EditedService) -> Response:
    """Change the fields of an entity that are sent; null or an empty value removes what was there."""
    values = changes.values()
    if not values:
        raise DataError("nothing to change; send a field, such as 'text'")
    row = _row_for_edit(service.kb, key)
    transactions = await _edit(service, "update", editing.update(row, values, changes.note))
    return _edited(service, transactions, row)


@router.delete("/{key:path}", response_model=EditedEntity)
async def remove(
    key: Key,
    service: EditedService,
    note: Annotated[str, Query(max_length=1000, description="Why, for the history.")] = "",
) -> Response:
    """Remove an entity; its row stays empty."""
    row = _row_for_edit(service.kb, key)
    transactions = await _edit(service, "remove", editing.remove([row], note))
    return _edited(service, transactions)


def row_of(kb: KnowledgeBase, key: str) -> int:
    """The row of an entity that is there, by its id in any form, by ``row:17``, or by a row number where none has the id.

    Raises:
        UnknownEntityError: there is none.
    """
    row = kb.catalogue.row_of(key)
    if row is None and key.isascii() and key.isdigit():
        row = kb.catalogue.row_of(f"row:{key}")
    if row is None or not kb.catalogue.title(row):
        raise UnknownEntityError(f"no entity has the id or row {key!r:.100}; search by name: /entities?q=NAME")
    return row


def _row_for_edit(kb: KnowledgeBase, key: str) -> int:
    kb.refresh()
    return row_of(kb, key)


async def _edit(
    service: Service, kind: str, drafts: Callable[[JournalState], Sequence[editing.Draft]]
) -> Sequence[Transaction]:
    transactions = await service.edits.call(lambda: editing.commit(service.kb, drafts))
    service.metrics.edit(kind)
    return transactions


def _edited(service: Service, transactions: Sequence[Transaction], row: int | None = None, status: int = 200) -> Response:
    if not transactions:
        assert row is not None
        return answer({"entity": entity_json(service.kb.catalogue[row]), "edit": None}, status)
    (transaction,) = transactions
    (edit,) = transaction.edits
    return answer({"entity": {"row": edit.row, **dict(edit.after or edit.before or {})}, "edit": transaction.number}, status)
