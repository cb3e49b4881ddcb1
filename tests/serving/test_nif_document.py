"""NIF documents: read as written, by an independent library too; offsets are code points; nothing is fetched."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.serving.entity_uris import OWN, STYLES, nil_uri, uri_writer
from blink.serving.nif_document import FORMATS, TURTLE, NifContext, NifLink, NifPhrase, read_nif, write_nif

pytestmark = pytest.mark.quick

PREFIXES = """@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
# As GERBIL's library writes a document: classes, typed indices, an address with the span. The emoji is one code point.
GERBIL = (
    PREFIXES
    + """
<http://www.aksw.org/gerbil/NifWebService/request_0#char=0,21>
        a nif:RFC5147String , nif:String , nif:Context ;
        nif:beginIndex "0"^^xsd:nonNegativeInteger ; nif:endIndex "21"^^xsd:nonNegativeInteger ;
        nif:isString "Peter applauds 👏 Mary"^^xsd:string .
<http://www.aksw.org/gerbil/NifWebService/request_0#char=17,21>
        a nif:RFC5147String , nif:String , nif:Phrase ;
        nif:anchorOf "Mary"^^xsd:string ;
        nif:beginIndex "17"^^xsd:nonNegativeInteger ; nif:endIndex "21"^^xsd:nonNegativeInteger ;
        nif:referenceContext <http://www.aksw.org/gerbil/NifWebService/request_0#char=0,21> .
"""
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@st.composite
def contexts(draw: st.DrawFn) -> list[NifContext]:
    made = []
    for number in range(draw(st.integers(1, 3))):
        text = draw(TEXTS)
        ends = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(lambda span: span[0] < span[1])
        spans = sorted(draw(st.sets(ends, max_size=4)))
        # Two contexts of one address differ in their fragment alone.
        uri = f"http://example.org/d{draw(st.integers(0, 1))}#char=0,{len(text)}_{number}"
        made.append(NifContext(uri, text, tuple(NifPhrase("", *span) for span in spans)))
    return made


def spans_of(context: NifContext) -> list[tuple[int, int]]:
    return [(phrase.start, phrase.end) for phrase in context.phrases]


def linked(context: NifContext) -> list[NifLink]:
    return [NifLink(phrase, f"http://example.org/e/{i}", 0.5) for i, phrase in enumerate(context.phrases)]


@settings(max_examples=60, deadline=None)
@given(contexts(), st.sampled_from(sorted(FORMATS)))
def test_what_is_written_is_read_as_it_was(written: list[NifContext], media_type: str) -> None:
    read = read_nif(write_nif([(context, linked(context)) for context in written], media_type), media_type)
    assert [(c.uri, c.text, spans_of(c)) for c in read] == [(c.uri, c.text, spans_of(c)) for c in written]


@settings(max_examples=40, deadline=None)
@given(contexts())
def test_an_independent_library_reads_the_links(written: list[NifContext]) -> None:
    pynif = pytest.importorskip("pynif")
    document = write_nif([(context, linked(context)) for context in written]).decode()
    read = {str(context.uri): context for context in pynif.NIFCollection.loads(document, format="turtle").contexts}
    assert set(read) == {context.uri for context in written}
    for context in written:
        expected = {(p.start, p.end, f"http://example.org/e/{i}", 0.5) for i, p in enumerate(context.phrases)}
        assert {(p.beginIndex, p.endIndex, p.taIdentRef, p.score) for p in read[context.uri].phrases} == expected
        assert all(p.mention == context.text[p.beginIndex : p.endIndex] for p in read[context.uri].phrases)


def test_offsets_of_gerbil_are_code_points() -> None:
    (context,) = read_nif(GERBIL.encode())
    assert [context.text[p.start : p.end] for p in context.phrases] == ["Mary"]
    with pytest.raises(DataError, match="code points"):  # units of UTF-16, as Java's strings have them
        read_nif(
            GERBIL.replace('"17"^^', '"18"^^')
            .replace('"21"^^xsd:nonNegativeInteger ;\n        nif:ref', '"22"^^xsd:int ;\n nif:ref')
            .encode()
        )


def test_a_phrase_may_be_all_of_its_text() -> None:
    whole = """<http://e.org/#char=0,4> a nif:Context{} ; nif:isString "Rome" ; nif:beginIndex 0 ; nif:endIndex 4 ;
        nif:referenceContext <http://e.org/#char=0,4>{} ."""
    assert spans_of(read_nif((PREFIXES + whole.format("", "")).encode())[0]) == []  # a context that refers to itself
    assert spans_of(read_nif((PREFIXES + whole.format(", nif:Phrase", ' ; nif:anchorOf "Rome"')).encode())[0]) == [(0, 4)]
    context = NifContext("http://e.org/#char=0,4", "Rome", (NifPhrase("", 0, 4),))
    (read,) = read_nif(write_nif([(context, [NifLink(context.phrases[0], "http://e.org/x", 1.0)])]))
    assert spans_of(read) == [(0, 4)]
    assert read.phrases[0].uri != read.uri


AB = '<http://e.org/a> nif:isString "ab" . [] nif:referenceContext <http://e.org/a>'
MALFORMED: dict[str, tuple[str, str]] = {
    "no RDF": ("nonsense", "is not text/turtle"),
    "nothing": ("", "no nif:Context"),
    "no text": ("<http://e.org/a> a nif:Context .", "no nif:Context"),
    "two texts": ('<http://e.org/a> nif:isString "a", "b" .', "2 texts"),
    "a blank context": ('[] nif:isString "a" .', "blank node"),
    "a NUL": ('<http://e.org/a> nif:isString "a\\u0000" .', "NUL"),
    "outside": (AB + " ; nif:beginIndex 1 ; nif:endIndex 3 .", "code points"),
    "empty": (AB + " ; nif:beginIndex 1 ; nif:endIndex 1 .", "code points"),
    "no end": (AB + " ; nif:beginIndex 1 .", "endIndex"),
    "a long number": (AB + " ; nif:beginIndex " + "9" * 6000 + " .", "beginIndex"),
    "nested": ("<http://e.org/a> nif:isString " + "[ nif:x " * 5000, "is not text/turtle"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_documents_are_one_clear_line(name: str) -> None:
    document, message = MALFORMED[name]
    with pytest.raises(DataError, match=message) as error:
        read_nif((PREFIXES + document).encode())
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.sampled_from(sorted(FORMATS)))
def test_any_bytes_are_read_or_refused(content: bytes, media_type: str) -> None:
    try:
        message = f"{len(read_nif(content, media_type))} contexts"
    except DataError as error:
        message = str(error)
    assert "\n" not in message


def test_more_contexts_than_allowed_are_refused() -> None:
    document = write_nif([(NifContext(f"http://e.org/{i}", "a"), []) for i in range(3)])
    assert len(read_nif(document, max_contexts=3)) == 3
    with pytest.raises(DataError, match="at most 2"):
        read_nif(document, max_contexts=2)


@pytest.mark.parametrize("context", ['"http://example.org/context"', '{"@import": "http://example.org/context"}', '[{}, "x"]'])
def test_remote_contexts_of_json_ld_are_not_fetched(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError, match="ld\\+json"):
        read_nif(f'{{"@context": {context}, "@id": "http://e.org/a"}}'.encode(), "application/ld+json")


PARIS = Entity(7, "Paris", kb_id="Q90", url="https://en.wikipedia.org/wiki/Paris")
EXPECTED = {
    "url": "https://en.wikipedia.org/wiki/Paris",
    "wikidata": "http://www.wikidata.org/entity/Q90",
    "wikipedia": "https://en.wikipedia.org/wiki/Paris",
    "dbpedia": "http://dbpedia.org/resource/Paris",
    "https://example.org/e/": "https://example.org/e/Q90",
}


@pytest.mark.parametrize("style", EXPECTED)
def test_uris_are_those_of_the_system(style: str) -> None:
    assert uri_writer(style)(PARIS) == EXPECTED[style]


def test_entities_without_a_uri_have_one_of_their_id_or_row() -> None:
    assert [uri_writer("dbpedia")(Entity(3, "x", kb_id=kb_id)) for kb_id in ("a b", None)] == [f"{OWN}a%20b", f"{OWN}row:3"]
    assert uri_writer("url")(Entity(3, "x", kb_id="m1", ids=(("wikidata", "Q5"),))) == "http://www.wikidata.org/entity/Q5"
    assert uri_writer("dbpedia")(Entity(3, "x", url="https://en.wikipedia.org/wiki/São_Paulo")).endswith("/São_Paulo")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*STYLES, "urn:a1:"]), st.text(max_size=20), st.text(max_size=20))
def test_any_entity_has_a_valid_uri(style: str, kb_id: str, url: str) -> None:
    uri = uri_writer(style)(Entity(0, "x", kb_id=kb_id or None, url=f"http://e.org/{url}" if url else None))
    context = NifContext("http://e.org/a", "ab", ())
    document = write_nif([(context, [NifLink(NifPhrase("", 0, 1), uri), NifLink(NifPhrase("", 1, 2), nil_uri(url))])])
    assert len(read_nif(document)[0].phrases) == 2


@pytest.mark.parametrize("style", ["", "ftp://x/", "https://", "http://a b/", "urn:", "WIKIDATA ", "http://x/<"])
def test_other_styles_are_refused(style: str) -> None:
    with pytest.raises(SettingsError, match="allowed are"):
        uri_writer(style)


def test_turtle_is_the_default() -> None:
    assert read_nif(GERBIL.encode(), TURTLE) == read_nif(GERBIL.encode())
