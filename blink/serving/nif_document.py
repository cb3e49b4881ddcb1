"""Documents of NIF 2.x, the RDF vocabulary of annotated texts in which GERBIL sends texts and reads links.

Offsets count Unicode code points, as those of Python do; GERBIL converts them to and from Java's UTF-16. Nothing is ever
fetched: a JSON-LD document that names a remote context is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

from blink.data.text_lines import text_fault
from blink.errors import DataError, first_line
from blink.extras import require_extra
from blink.serving.entity_uris import OWN

NIF = "http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#"
ITSRDF = "http://www.w3.org/2005/11/its/rdf#"
XSD = "http://www.w3.org/2001/XMLSchema#"
RDF_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
FORMATS = {
    "text/turtle": "TURTLE",
    "application/x-turtle": "TURTLE",
    "application/n-triples": "N_TRIPLES",
    "application/ld+json": "JSON_LD",
}
"""Media types of documents, and pyoxigraph's names of their formats."""
TURTLE = "text/turtle"
BASE = "http://nif.invalid/document"
"""What relative addresses of a document are relative to."""
_STRING, _BEGIN, _END, _ANCHOR, _CONTEXT = (
    NIF + name for name in ("isString", "beginIndex", "endIndex", "anchorOf", "referenceContext")
)
_INDEX = re.compile(r"\d{1,18}", re.ASCII)
_MENTION_TYPES = frozenset(NIF + name for name in ("Phrase", "Word"))

_Properties: TypeAlias = dict[str, list[Any]]


@dataclass(frozen=True)
class NifPhrase:
    """A span of a context.

    Attributes:
        uri: of the phrase; "" for one that has none.
        start: first code point.
        end: past the last code point.
    """

    uri: str
    start: int
    end: int


@dataclass(frozen=True)
class NifContext:
    """A text of a document.

    Attributes:
        uri: of the context.
        text: what it says.
        phrases: spans that were given with it, by position.
    """

    uri: str
    text: str
    phrases: tuple[NifPhrase, ...] = ()


@dataclass(frozen=True)
class NifLink:
    """A phrase with what it names.

    Attributes:
        phrase: the span.
        entity: URI of the entity; None for a phrase that names none.
        confidence: score of the link; None where there is none.
    """

    phrase: NifPhrase
    entity: str | None = None
    confidence: float | None = None


@dataclass
class _Graph:
    """The statements of a document by subject; each object as pyoxigraph gives it."""

    subjects: dict[Any, _Properties] = field(default_factory=dict)

    def add(self, subject: Any, predicate: str, value: Any) -> None:
        self.subjects.setdefault(subject, {}).setdefault(predicate, []).append(value)


def read_nif(content: bytes, media_type: str = TURTLE, max_contexts: int | None = None) -> list[NifContext]:
    """The contexts of a document, in its order.

    Args:
        content: the document.
        media_type: one of `FORMATS`.
        max_contexts: most contexts; None for no limit.

    Raises:
        DataError: it is no document of its format, has no text, or a phrase does not fit its text.
        SettingsError: pyoxigraph is not installed.
    """
    graph = _parsed(content, media_type)
    texts = {subject: _text_of(subject, properties) for subject, properties in graph.subjects.items() if _STRING in properties}
    if not texts:
        raise DataError("the document has no nif:Context with nif:isString; give one for each text")
    if max_contexts is not None and len(texts) > max_contexts:
        raise DataError(f"the document has {len(texts)} contexts; send at most {max_contexts} at once")
    phrases: dict[Any, list[NifPhrase]] = {subject: [] for subject in texts}
    for subject, properties in graph.subjects.items():
        for context in properties.get(_CONTEXT, ()):
            if context in texts and (subject != context or _is_mention(properties)):
                phrases[context].append(_phrase(subject, properties, texts[context]))
    return [
        NifContext(subject.value, text, tuple(sorted(phrases[subject], key=lambda of: (of.start, of.end, of.uri))))
        for subject, text in texts.items()
    ]


def write_nif(contexts: Iterable[tuple[NifContext, Sequence[NifLink]]], media_type: str = TURTLE) -> bytes:
    """A document with contexts and their links.

    Args:
        contexts: each with its links; phrases without a URI are given one.
        media_type: one of `FORMATS`.

    Raises:
        SettingsError: pyoxigraph is not installed.
    """
    rdf = require_extra("pyoxigraph", "NIF documents", "serve")
    contexts = list(contexts)
    documents = Counter(_document(context.uri) for context, _ in contexts)
    quads: list[Any] = []
    for context, links in contexts:
        quads += _statements(rdf, context.uri, ("Context", "String", "RFC5147String"), {
            _STRING: rdf.Literal(context.text), _BEGIN: _index(rdf, 0), _END: _index(rdf, len(context.text)),
        })  # fmt: skip
        for link in links:
            quads += _link_statements(rdf, context, link, is_alone=documents[_document(context.uri)] == 1)
    prefixes = {"nif": NIF, "itsrdf": ITSRDF, "xsd": XSD}
    written: bytes = rdf.serialize(quads, format=getattr(rdf.RdfFormat, FORMATS[media_type]), prefixes=prefixes)
    return written


# -- reading -------------------------------------------------------------------------------------------------------


def _parsed(content: bytes, media_type: str) -> _Graph:
    rdf = require_extra("pyoxigraph", "NIF documents", "serve")
    graph = _Graph()
    try:
        for quad in rdf.parse(content, format=getattr(rdf.RdfFormat, FORMATS[media_type]), base_iri=BASE):
            graph.add(quad.subject, quad.predicate.value, quad.object)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"the document is not {media_type}: {first_line(error)}") from error
    return graph


def _text_of(subject: Any, properties: _Properties) -> str:
    uri = getattr(subject, "value", "")
    values = {getattr(value, "value", "") for value in properties[_STRING]}
    if _is_blank(subject):
        raise DataError("a nif:Context is a blank node; give it an address")
    if len(values) > 1:
        raise DataError(f"the context {uri} has {len(values)} texts (nif:isString); give one")
    (text,) = values
    if (fault := text_fault(text)) is not None:
        raise DataError(f"the text of {uri} has {fault}; give well-formed text")
    return text


def _is_mention(properties: _Properties) -> bool:
    """Whether what is its own context is a phrase over all of the text, too, rather than a context that refers to itself."""
    types = {getattr(of, "value", "") for of in properties.get(RDF_TYPE, ())}
    return _ANCHOR in properties or bool(types & _MENTION_TYPES)


def _phrase(subject: Any, properties: _Properties, text: str) -> NifPhrase:
    uri = "" if _is_blank(subject) else subject.value
    where = f"the phrase {uri or 'without an address'}"
    start, end = (_offset(properties, name, where) for name in (_BEGIN, _END))
    if not start < end <= len(text):
        raise DataError(f"{where} is [{start}, {end}) of a text of {len(text)} code points; offsets count Unicode code points")
    anchors = {getattr(anchor, "value", "") for anchor in properties.get(_ANCHOR, ())}
    if anchors and text[start:end] not in anchors:
        said, is_there = sorted(anchors)[0][:60], text[start:end][:60]
        raise DataError(f"{where} has nif:anchorOf {said!r}, its offsets say {is_there!r}; offsets count Unicode code points")
    return NifPhrase(uri, start, end)


def _is_blank(subject: Any) -> bool:
    """Whether a subject has no address, as blank nodes and quoted triples."""
    return str(subject)[:1] != "<" or not hasattr(subject, "value")


def _offset(properties: _Properties, name: str, where: str) -> int:
    values = {getattr(value, "value", "").strip() for value in properties.get(name, ())}
    if len(values) != 1 or not _INDEX.fullmatch(value := values.pop()):
        raise DataError(f"{where} has no nif:{name.removeprefix(NIF)} that is one whole number")
    return int(value)


# -- writing -------------------------------------------------------------------------------------------------------


def _link_statements(rdf: Any, context: NifContext, link: NifLink, *, is_alone: bool) -> list[Any]:
    phrase = link.phrase
    values = {
        _ANCHOR: rdf.Literal(context.text[phrase.start : phrase.end]),
        _BEGIN: _index(rdf, phrase.start),
        _END: _index(rdf, phrase.end),
        _CONTEXT: rdf.NamedNode(context.uri),
    }
    if link.entity is not None:
        values[ITSRDF + "taIdentRef"] = _node(rdf, link.entity)
    if link.confidence is not None:
        number = rdf.NamedNode(XSD + "double")
        values[ITSRDF + "taConfidence"] = rdf.Literal(f"{link.confidence:.6f}", datatype=number)
    uri = phrase.uri or _phrase_uri(context, phrase, is_alone=is_alone)
    return _statements(rdf, uri, ("Phrase", "String", "RFC5147String"), values)


def _statements(rdf: Any, uri: str, types: Sequence[str], values: Mapping[str, Any]) -> list[Any]:
    subject = rdf.NamedNode(uri)
    of_types = [rdf.Quad(subject, rdf.NamedNode(RDF_TYPE), rdf.NamedNode(NIF + name)) for name in types]
    return of_types + [rdf.Quad(subject, rdf.NamedNode(name), value) for name, value in values.items()]


def _node(rdf: Any, uri: str) -> Any:
    try:
        return rdf.NamedNode(uri)
    except ValueError:  # an address of the catalogue that is none
        return rdf.NamedNode(OWN + quote(uri, safe="", errors="replace"))


def _phrase_uri(context: NifContext, phrase: NifPhrase, *, is_alone: bool) -> str:
    """The URI of a phrase in the form of RFC 5147, or one made of that of the context where others would have it, too."""
    uri = f"{_document(context.uri)}#char={phrase.start},{phrase.end}"
    return uri if is_alone and uri != context.uri else f"{context.uri}_{phrase.start}_{phrase.end}"


def _document(uri: str) -> str:
    return uri.partition("#")[0]


def _index(rdf: Any, value: int) -> Any:
    return rdf.Literal(str(value), datatype=rdf.NamedNode(XSD + "nonNegativeInteger"))
