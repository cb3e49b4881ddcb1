"""Answers batches of queries: sentences by the engine, in the batches of other requests, and records by the resolver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from blink.data.records import Link
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.view import View
from blink.kb.where import Where
from blink.linking.decoder import PROBABILITY
from blink.resolve.resolver import Resolution, Resolver
from blink.serving.reconciliation.candidates import (
    UNDECIDED,
    Answer,
    answer_json,
    identified_rows,
    is_certain,
    of_certain_link,
    of_identified,
    of_resolution,
    of_weak_link,
    record_of,
    selectors_of,
    sentence_span,
    type_filter,
)
from blink.serving.reconciliation.queries import ReconciliationQuery
from blink.serving.reconciliation.schema import Schema
from blink.serving.service import Service

_NO_TYPE = Answer(UNDECIDED, 0.0, ("no entity has the type",))
_NO_NAME = Answer(UNDECIDED, 0.0, ("neither a name nor a known id",))


class Reconciler:
    """Answers queries about the knowledge base of a service.

    Args:
        service: whose engine links sentences, and whose searches match records, one batch at a time.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._resolver: Resolver | None = None
        self._schema: tuple[View, Schema] | None = None

    @property
    def kb(self) -> KnowledgeBase:
        """The knowledge base, with the edits of other processes. Raises as `Service.kb` does."""
        kb = self._service.kb
        kb.refresh()
        return kb

    @property
    def schema(self) -> Schema:
        """Types and properties of the knowledge base as it is now. Raises as `Service.kb` does."""
        kb = self.kb
        if self._schema is None or self._schema[0] is not kb.view:
            self._schema = kb.view, Schema.of(kb)
        return self._schema[1]

    async def answers(self, batch: Mapping[str, ReconciliationQuery]) -> dict[str, dict[str, Any]]:
        """The answers of a batch by its keys, each independent of the others.

        Raises:
            BlinkError: as `Engine.link` does.
        """
        schema = self.schema
        queries = list(batch.values())
        links = await self._links(queries, schema)
        threshold = self._service.linker.thresholds.score
        answers = await run_in_threadpool(self._certain, queries, links, schema)
        rest = [i for i in range(len(queries)) if i not in answers]
        # Where the linker is not certain in a sentence, whether anything has the name does not depend on the sentence.
        left = [replace(queries[i], properties={}) if i in links else queries[i] for i in rest]
        matched = await self._service.searches.call(lambda: self._matched(left, schema)) if rest else []
        for i, result in zip(rest, matched, strict=True):
            if isinstance(result, Answer):
                answers[i] = result
            else:
                answers[i] = of_weak_link(links[i], threshold, result) if i in links else of_resolution(result)
        return await run_in_threadpool(
            lambda: {key: self._shown(answers[i], query, schema) for i, (key, query) in enumerate(batch.items())}
        )

    def _certain(
        self, queries: Sequence[ReconciliationQuery], links: Mapping[int, Link | None], schema: Schema
    ) -> dict[int, Answer]:
        """The answers that links and names make certain, by the query's number."""
        kb, threshold = self._service.kb, self._service.linker.thresholds.score
        answers = {}
        for i, link in links.items():
            where = type_filter(queries[i], schema, kb, soft=True)
            selector = kb.selector(where) if where else None
            if link is not None and link.score > threshold and is_certain(link, queries[i], kb, selector):
                answers[i] = of_certain_link(link, threshold)
        return answers

    def _shown(self, answer: Answer, query: ReconciliationQuery, schema: Schema) -> dict[str, Any]:
        kb = self._service.kb
        where = type_filter(query, schema, kb)
        identified = [] if where is None else identified_rows(query, kb, schema)
        rows = [row for row in identified if not where or where.matches(kb.catalogue[row])]
        return answer_json(of_identified(rows, answer, kb, query) if rows else answer, query, kb, schema)

    # -- sentences, in the engine's batches ----------------------------------------------------------------------

    async def _links(self, queries: Sequence[ReconciliationQuery], schema: Schema) -> dict[int, Link | None]:
        """The link of each query that is a name in a sentence, by the query's number; None where its span has none."""
        if self._service.linker.mode != PROBABILITY:
            return {}
        groups: dict[Where, list[int]] = {}
        sentences = [sentence_span(query) for query in queries]
        for i, query in enumerate(queries):
            where = type_filter(query, schema, self._service.kb, soft=True)
            if sentences[i] is not None and where is not None:
                groups.setdefault(where, []).append(i)
        links: dict[int, Link | None] = {}
        for where, numbers in groups.items():
            of_group = [sentence for i in numbers if (sentence := sentences[i]) is not None]
            texts, spans = [text for text, _ in of_group], [[span] for _, span in of_group]
            results = await self._service.engine.link(texts, spans=spans, where=where or None)
            links |= {i: next(iter(result.linked.links), None) for i, result in zip(numbers, results, strict=True)}
        return links

    # -- records, one batch at a time -------------------------------------------------------------------------

    def _matched(self, queries: Sequence[ReconciliationQuery], schema: Schema) -> list[Resolution | Answer]:
        """What the resolver says of queries; an answer where there is nothing that it could match."""
        kb = self._service.kb
        if self._resolver is None:
            self._resolver = Resolver(kb)
        filters = [type_filter(query, schema, kb) for query in queries]
        records = [record_of(query, schema) for query in queries]
        matched = [(i, record) for i, record in enumerate(records) if record is not None and filters[i] is not None]
        selectors = selectors_of(kb, [filters[i] or Where() for i, _ in matched])
        listed = max((query.limit for query in queries), default=1)
        resolutions = self._resolver.match([record for _, record in matched], selectors, listed=listed)
        answers: list[Resolution | Answer] = [_NO_TYPE if each is None else _NO_NAME for each in filters]
        for (i, _), resolution in zip(matched, resolutions, strict=True):
            answers[i] = resolution
        return answers
