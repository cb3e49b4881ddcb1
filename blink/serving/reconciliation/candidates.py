"""Candidates for queries: who they are, how probable, and whether one is certain, new, or a person must decide.

A query with a sentence (the property ``context``) and nothing else is linked in it, as `blink link` links that span; a name
alone is linked as a text of its own. Any other query is a record, matched as `blink resolve run --dry-run` matches it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blink.data.ids import SYSTEMS
from blink.data.occurrences import occurrences
from blink.data.records import Entity, Link
from blink.kb.alias_table import ALIAS as NAME_ALIAS
from blink.kb.alias_table import TITLE, normalise
from blink.kb.attribute_table import folded
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.where import Where
from blink.resolve.records import Record
from blink.resolve.resolver import LINKED, NEW, UNCERTAIN, Resolution
from blink.serving.reconciliation.queries import ReconciliationQuery
from blink.serving.reconciliation.schema import (
    ALIAS,
    CONTEXT,
    DESCRIPTION,
    ID,
    NAME,
    TYPE,
    URL,
    Schema,
    id_of,
    line_at,
    row_of_id,
    rows_of_type,
    values_of,
)

EXISTING, UNDECIDED = "existing", "undecided"
DECISIONS = {LINKED: EXISTING, NEW: NEW, UNCERTAIN: UNDECIDED}
"""What the service says of a query, by what the resolver says of its record."""
LONGEST_DESCRIPTION = 300
LEAST_PROBABILITY = 0.005
"""Of candidates of a linker but the first."""
_RECORD_PROPERTIES = frozenset((NAME, DESCRIPTION, ALIAS, TYPE, CONTEXT, ID, URL))


@dataclass(frozen=True)
class ScoredRow:
    """A candidate: a row of the knowledge base with the probability that it is meant."""

    row: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What is known of a query.

    Attributes:
        decision: ``existing``: the first candidate is meant; ``new``: the knowledge base does not have it; ``undecided``: a
            person must say.
        probability: that the decision ``existing`` or ``new`` is right; of ``undecided`` that it is the first candidate.
        reasons: in words.
        candidates: best first.
    """

    decision: str
    probability: float
    reasons: tuple[str, ...]
    candidates: tuple[ScoredRow, ...] = ()


# -- from a query to what is looked up -------------------------------------------------------------------------------


def type_filter(query: ReconciliationQuery, schema: Schema, kb: KnowledgeBase, *, soft: bool = False) -> Where | None:
    """The filter of a query's types: no condition where they are evidence alone, and None where no entity can fulfil it.

    Args:
        query: with types and strictness.
        schema: of the knowledge base.
        kb: the knowledge base.
        soft: filter by types that are evidence, too, if an entity has one of them.
    """
    known = [schema.type_named(name) for name in query.types]
    names = [name for name in known if name is not None and rows_of_type(kb, name) is not None]
    if not query.types or (query.strictness == "should" and not (soft and names)):
        return Where()
    if not names or (query.strictness == "all" and len(names) < len(known)):
        return None
    return Where.parse([{TYPE: [name]} for name in names] if query.strictness == "all" else {TYPE: names})


def sentence_span(query: ReconciliationQuery) -> tuple[str, tuple[int, int]] | None:
    """The sentence of a query and the characters that are its name, which is a sentence of its own where there is no other.

    None where the sentence has no such name, or the query says more than it.
    """
    if not query.query or not set(query.properties) <= {CONTEXT}:
        return None
    if not query.properties:
        return query.query, (0, len(query.query))
    text = query.texts(CONTEXT)[0]
    found = occurrences(text, query.query, whole_words=True)
    return (text, found[0]) if found else None


def record_of(query: ReconciliationQuery, schema: Schema) -> Record | None:
    """The record of a query: its name, and what its properties say; None if it has no name.

    Values of properties that only some entities have become text; ids of other systems forbid entities with other such ids.
    """
    names = [name for name in (query.query, *query.texts(NAME), *query.texts(ALIAS)) if name]
    if not names:
        return None
    textual = [key for key in query.properties if key not in _RECORD_PROPERTIES and key not in schema.systems]
    system = next((key for key in query.properties if key in schema.systems), None)
    return Record(
        name=names[0],
        description=" ".join(query.texts(DESCRIPTION)),
        context=" ".join((*query.texts(CONTEXT), *(f"{key}: {text}" for key in textual for text in query.texts(key)))),
        types=tuple(dict.fromkeys((*query.types, *query.texts(TYPE)))),
        aliases=tuple(dict.fromkeys(names[1:])),
        id=None if system is None else query.texts(system)[0],
        source=system or "",
    )


def identified_rows(query: ReconciliationQuery, kb: KnowledgeBase, schema: Schema) -> list[int]:
    """Rows of the entities whose id is the query, or a value of the properties ``id``, ``url`` and those of systems of ids."""
    ids = [query.query] if query.query else []
    for key, values in query.properties.items():
        of_values = [value.id or value.text for value in values]
        if key in schema.systems:
            ids += [f"{key}:{kb_id}" for kb_id in of_values]
        if key in (ID, URL) or key in SYSTEMS:
            ids += of_values
    rows = [row for kb_id in ids if (row := row_of_id(kb, kb_id)) is not None]
    return list(dict.fromkeys(rows))


# -- from what was looked up to an answer ----------------------------------------------------------------------------


def of_resolution(resolution: Resolution) -> Answer:
    """The answer of a record that was matched."""
    candidates = [ScoredRow(c.row, c.probability) for c in resolution.candidates if c.row >= 0 and c.probability > 0]
    if resolution.status == LINKED:
        row = resolution.entity.row
        best = ScoredRow(row, resolution.probability)
        candidates = [best, *(c for c in candidates if c.row != row)]
    return Answer(DECISIONS[resolution.status], resolution.probability, resolution.reasons, tuple(candidates))


def of_link(link: Link) -> tuple[ScoredRow, ...]:
    """The candidates of a span that was linked, by a linker whose scores are probabilities, without the least probable."""
    rows = [ScoredRow(c.row, min(max(c.score, 0.0), 1.0)) for c in link.candidates]
    return (*rows[:1], *(of for of in rows[1:] if of.probability >= LEAST_PROBABILITY))


def of_certain_link(link: Link, threshold: float) -> Answer:
    """The answer of a query that was linked with a score above the threshold to an entity of its name."""
    return Answer(EXISTING, link.score, (f"linked with {link.score:.3f}, above {threshold:.3f}",), of_link(link))


def of_weak_link(link: Link | None, threshold: float, resolution: Resolution) -> Answer:
    """The answer of a query whose link is not certain: the resolver says whether the names agree, or are of nothing known."""
    matched = of_resolution(resolution)
    if matched.decision == NEW:  # what the linker takes for lack of better ones is no candidate
        return matched
    linked = () if link is None else of_link(link)
    best = {c.row: c.probability for c in matched.candidates} | {c.row: c.probability for c in linked}
    candidates = [ScoredRow(row, best[row]) for row in sorted(best, key=lambda row: -best[row])]
    if matched.decision == EXISTING and link is not None and link.score > threshold and link.row == matched.candidates[0].row:
        agreed = ScoredRow(link.row, max(best[link.row], matched.probability))
        return Answer(EXISTING, agreed.probability, matched.reasons, (agreed, *(c for c in candidates if c.row != link.row)))
    top = candidates[0].probability if candidates else 0.0
    return Answer(UNDECIDED, top, ("no link is certain",), tuple(candidates))


def is_certain(link: Link | None, query: ReconciliationQuery, kb: KnowledgeBase, selector: RowSelector | None) -> bool:
    """Whether the name alone makes a good link certain.

    A linker that must link a span takes something like it where the knowledge base lacks the thing. So all words of the query
    must be in one name of the entity, and without a sentence no other entity may have exactly the name.

    Args:
        link: of the query.
        query: a name, perhaps with a sentence.
        kb: the knowledge base.
        selector: rows that the link was restricted to.
    """
    if link is None or kb.names is None:
        return False
    words = set(normalise(query.query).split())
    entity = kb.catalogue[link.row]
    if not words or not any(words <= set(normalise(name).split()) for name in (entity.title, *entity.aliases)):
        return False
    if query.properties:
        return True
    named = kb.names.alias_table.lookup(query.query, selector=selector)
    return all(match.row == link.row for match in named if match.kind in (TITLE, NAME_ALIAS))


def of_identified(rows: Sequence[int], answer: Answer, kb: KnowledgeBase, query: ReconciliationQuery) -> Answer:
    """An answer with the entities whose ids were given first: certain if they are one, and the id is no name of another."""
    is_query = row_of_id(kb, query.query) in rows
    others = tuple(c for c in answer.candidates if c.row not in rows)
    others = tuple(c for c in others if _has_name(kb.catalogue[c.row], query.query)) if is_query else others
    is_name = is_query and bool(others)
    certain = len(rows) == 1 and not is_name
    reasons = ("equal ids",) if certain else ("the id is a name of another",) if is_name else ("ids of different entities",)
    of_ids = tuple(ScoredRow(row, 1.0) for row in rows)
    return Answer(EXISTING if certain else UNDECIDED, 1.0, reasons, (*of_ids, *others))


def answer_json(answer: Answer, query: ReconciliationQuery, kb: KnowledgeBase, schema: Schema) -> dict[str, Any]:
    """An answer as the protocol has it, with ``decision``, which is our own, next to ``result``."""
    result: list[dict[str, Any]] = []
    for candidate in answer.candidates:
        line = line_at(kb, candidate.row)
        if line is not None and len(result) < query.limit:  # None if it was removed meanwhile
            is_match = answer.decision == EXISTING and candidate is answer.candidates[0]
            features = _features(answer, candidate, query, line, schema)
            result.append(_candidate_json(line[0], candidate, features, is_match=is_match))
    decision = {"status": answer.decision, "probability": round(answer.probability, 4), "reasons": list(answer.reasons)}
    return {"result": result, "decision": decision}


def _candidate_json(entity: Entity, candidate: ScoredRow, features: Mapping[str, Any], *, is_match: bool) -> dict[str, Any]:
    return {
        "id": id_of(entity),
        "name": entity.title,
        "description": entity.text[:LONGEST_DESCRIPTION],
        "type": [{"id": name, "name": name} for name in entity.types],
        "score": round(100 * candidate.probability, 2),
        "match": is_match,
        "features": [{"id": key, "value": value} for key, value in features.items()],
    }


def _features(
    answer: Answer, candidate: ScoredRow, query: ReconciliationQuery, line: tuple[Entity, Mapping[str, Any]], schema: Schema
) -> dict[str, Any]:
    entity, values = line
    features: dict[str, Any] = {"probability": round(candidate.probability, 4)}
    if query.query:
        features["name_equal"] = _has_name(entity, query.query)
    if query.types:
        own = {folded(name) for name in entity.types}
        features["type_equal"] = any(folded(name) in own for name in query.types)
    for key in query.properties:
        if key in schema.properties:
            own = {folded(str(value)) for value in values_of(entity, values, key)}
            features[f"{key}_equal"] = any(folded(text) in own for text in query.texts(key))
    return features | {"decision_new": answer.decision == NEW, "decision_undecided": answer.decision == UNDECIDED}


def _has_name(entity: Entity, name: str) -> bool:
    form = normalise(name)
    return bool(form) and any(normalise(of) == form for of in (entity.title, *entity.aliases))


def selectors_of(kb: KnowledgeBase, filters: Sequence[Where]) -> list[RowSelector | None]:
    """The rows that each filter allows; None for all. Equal filters give one object."""
    unique = {where: kb.selector(where) if where else None for where in dict.fromkeys(filters)}
    return [unique[where] for where in filters]
