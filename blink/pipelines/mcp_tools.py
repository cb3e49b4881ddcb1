"""What language models may ask of a linker, as typed functions; `blink.pipelines.mcp_server` offers them as tools of MCP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from blink.data.display import one_line
from blink.data.occurrences import occurrences
from blink.data.records import Candidate, Entity, LinkedText
from blink.data.text_lines import check_text
from blink.errors import DataError, SettingsError
from blink.explaining.explanation import explain_text
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.scales import score_kind
from blink.resolve.resolver import Resolver

LONGEST_TEXT, MOST_RECORDS, MOST_CANDIDATES = 100_000, 200, 50
"""Characters of a text, records and candidates of a call."""
DESCRIPTION_LENGTH = 300

Text = Annotated[str, Field(max_length=LONGEST_TEXT, description="Text to link, of any length up to 100,000 characters.")]
Filter = Annotated[
    str | None,
    Field(description='Only such entities, for instance "type=city|town" or "tag=internal & type!=person". Null for all.'),
]
Limit = Annotated[int, Field(ge=1, le=MOST_CANDIDATES, description="Most candidates.")]


class LinkedEntity(BaseModel):
    """A mention with the entity that it names."""

    start: int = Field(description="First character of the mention, from 0.")
    end: int = Field(description="Character behind the mention.")
    mention: str
    kb_id: str | None = Field(description="Id of the entity in the knowledge base, such as Q90 of Wikidata.")
    row: int = Field(description="Row of the entity in the knowledge base.")
    title: str
    description: str
    url: str | None
    score: float


class LinkResult(BaseModel):
    """The links of a text, by position."""

    links: list[LinkedEntity]
    threshold: float = Field(description="Links score above it.")
    score_kind: str = Field(description="probability: of the link to be right.")


class EntityCandidate(BaseModel):
    """An entity that a name may mean."""

    kb_id: str | None
    row: int
    title: str
    description: str
    url: str | None
    types: list[str]
    score: float | None = Field(description="Probability in the context; null without one.")
    match: str | None = Field(description="title, alias, variant or similar: how the entity has the name; null with a context.")


class CandidatesResult(BaseModel):
    """The entities that a name may mean, best first."""

    candidates: list[EntityCandidate]


class RecordInput(BaseModel):
    """What a source says of a thing."""

    name: str = Field(min_length=1)
    description: str = ""
    types: list[str] = []
    aliases: list[str] = []
    context: str = Field(default="", description="Sentence around the name.")
    id: str | None = Field(default=None, description="Id of the thing, where the source knows one.")


class Resolved(BaseModel):
    """What a record is."""

    name: str
    status: str = Field(description="linked: an entity of the knowledge base; new: none; uncertain: a person should decide.")
    kb_id: str | None
    row: int | None
    title: str | None
    probability: float
    reasons: list[str]
    candidates: list[dict[str, Any]]


class ResolveResult(BaseModel):
    """What each record is, in their order."""

    results: list[Resolved]


class AddedEntity(BaseModel):
    """An entity that was added; it is linked from now on."""

    kb_id: str | None
    row: int
    title: str
    edit: int = Field(description="Number of the edit, for blink kb undo.")


@dataclass
class LinkerTools:
    """The tools over a linker that may still be opening; one call at a time runs the model.

    Attributes:
        opening: the linker, as soon as it is open.
    """

    opening: Future[Linker]

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @classmethod
    def over(cls, open_linker: Callable[[], Linker], wait_s: float) -> LinkerTools:
        """Open a linker in a thread of its own, since a client does not wait for one that is encoded at its first use.

        Args:
            open_linker: opens it.
            wait_s: seconds in which its errors are raised here.

        Raises:
            BlinkError: it could not be opened, within these seconds.
        """
        opening: Future[Linker] = Future()

        def run() -> None:
            try:
                opening.set_result(open_linker())
            except BaseException as error:
                opening.set_exception(error)

        threading.Thread(target=run, name="opening the linker", daemon=True).start()
        with contextlib.suppress(futures.TimeoutError):  # it is encoded, or the machine is busy: the first call waits for it
            opening.result(wait_s)
        return cls(opening)

    @property
    def linker(self) -> Linker:
        """The linker; the errors of opening it are raised here."""
        return self.opening.result()

    def link(
        self,
        text: Text,
        threshold: Annotated[float | None, Field(description="Keep links that score above it; null for the default.")] = None,
        where: Filter = None,
    ) -> LinkResult:
        """Find the mentions of entities in a text and link each to the entity of the knowledge base that it names.

        Use it to know who or what a text is about, with stable ids. Names that the knowledge base lacks have no link.
        """
        with self._lock:
            linker, thresholds = self.linker, self._thresholds(threshold)
            least = linker.min_mention_log_prob_at(thresholds)
            (analysis,) = linker.analyze([_checked(text)], where=where, min_mention_log_prob=least)
            linked = linker.decode(analysis, thresholds)
            links = [_linked_entity(link) for link in linked.to_spans()]
            return LinkResult(links=links, threshold=thresholds.score, score_kind=score_kind(linker.mode))

    def candidates(
        self,
        name: Annotated[str, Field(min_length=1, max_length=500, description="Name of an entity, in any letter case.")],
        context: Annotated[
            str | None,
            Field(max_length=LONGEST_TEXT, description="Text that contains the name, by which candidates are ranked."),
        ] = None,
        limit: Limit = 10,
        where: Filter = None,
    ) -> CandidatesResult:
        """List the entities that a name may mean: ranked by probability with a context, else by name and popularity.

        Use it to look an entity up, or to see whether a name is ambiguous.
        """
        with self._lock:
            kb = self.linker.kb
            kb.refresh()
            if context is None:
                matches = kb.search_names(name, limit, where)
                return CandidatesResult(candidates=[_candidate(of.entity, None, of.match) for of in matches])
            scored = self._in_context(name, _checked(context), where)[:limit]
            return CandidatesResult(candidates=[_candidate(kb.catalogue[of.row], of.score, None) for of in scored])

    def _in_context(self, name: str, context: str, where: str | None) -> list[Candidate]:
        found = occurrences(context, name, whole_words=True)
        if not found:
            raise DataError(
                f"the context does not contain {one_line(name, 60)!r}; give a text with the name in it, or no context"
            )
        linked: LinkedText = self.linker(context, found[:1], where)
        return [candidate for link in linked.links for candidate in link.candidates]

    def explain(
        self,
        text: Text,
        threshold: Annotated[float | None, Field(description="As of link.")] = None,
        where: Filter = None,
        limit: Annotated[int, Field(ge=1, le=MOST_CANDIDATES, description="Most candidates of a mention.")] = 3,
    ) -> dict[str, Any]:
        """Say why each span of a text is linked or not: status, scores, what they are made of, and the losing candidates.

        Use it when a link looks wrong or is missing. ``status`` is linked, below_threshold, overlapped, repeated or removed.
        """
        with self._lock:
            explained = explain_text(self.linker, _checked(text), where=where, thresholds=self._thresholds(threshold)).to_json()
        for mention in explained["mentions"]:
            mention["candidates"] = mention["candidates"][:limit]
        for link in explained["links"]:
            link["candidates"] = link["candidates"][:limit]
        return explained

    def resolve(self, records: Annotated[list[RecordInput], Field(min_length=1, max_length=MOST_RECORDS)]) -> ResolveResult:
        """Decide for records of things (rows of a table, names that were extracted) which entity each is, or that it is new.

        Nothing is written. Use it before adding entities, so that none is added twice.
        """
        with self._lock:
            plain = [record.model_dump(exclude_defaults=True) for record in records]
            results = Resolver(self.linker.kb, self.linker).match(plain)
        return ResolveResult(results=[_resolved(result.to_json()) for result in results])

    def add(
        self,
        title: Annotated[str, Field(min_length=1, max_length=500, description="Name of the entity.")],
        description: Annotated[
            str, Field(max_length=10_000, description="What it is, in a sentence or two; links depend on it.")
        ],
        id: Annotated[str | None, Field(description="Its id, if it has one that no other entity has.")] = None,
        aliases: Annotated[list[str], Field(description="Other names of it.")] = [],  # noqa: B006 - never changed
        types: Annotated[list[str], Field(description="What it is, such as city or person.")] = [],  # noqa: B006
    ) -> AddedEntity:
        """Add an entity to the knowledge base. It is on the disk when this returns, and linked from the next call on."""
        given = {"title": title.strip(), "text": description, "kb_idx": id, "aliases": aliases, "types": types}
        if not given["title"]:
            raise DataError("the title is blank; give the name of the entity")
        with self._lock:
            kb = self.linker.kb
            entity = kb.add({key: value for key, value in given.items() if value}, note="by a language model")
            return AddedEntity(kb_id=entity.kb_id, row=entity.row, title=entity.title, edit=kb.changes.number)

    def _thresholds(self, threshold: float | None) -> Thresholds:
        return self.linker.thresholds.at(threshold)


def _checked(text: str) -> str:
    checked = check_text(text, "the text")
    if not checked.strip():
        raise SettingsError("the text is empty; give a text with words in it")
    return checked


def _linked_entity(span: dict[str, Any]) -> LinkedEntity:
    names = LinkedEntity.model_fields
    return LinkedEntity(
        **{name: span[name] for name in names} | {"description": one_line(span["description"], DESCRIPTION_LENGTH)}
    )


def _candidate(entity: Entity, score: float | None, match: str | None) -> EntityCandidate:
    return EntityCandidate(
        kb_id=entity.kb_id, row=entity.row, title=entity.title, description=one_line(entity.text, DESCRIPTION_LENGTH),
        url=entity.url, types=list(entity.types), score=score, match=match,
    )  # fmt: skip


def _resolved(result: dict[str, Any]) -> Resolved:
    entity = result["entity"] if result["status"] == "linked" else {"id": None, "row": None, "title": None}
    about = {name: result[name] for name in ("status", "probability", "reasons", "candidates")}
    return Resolved(name=result["record"]["name"], kb_id=entity["id"], row=entity["row"], title=entity["title"], **about)
