"""The NIF endpoints: the links of `blink link`, as other implementations of NIF read them, with the figures of `blink eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from benchmarks.gerbil_client import GerbilDocument, annotations_of, gerbil_scores, turtle_of
from blink.data.mention_files import labelled_samples
from blink.evaluation.counts import evaluated_text
from blink.evaluation.report import evaluate
from blink.linking.linker import Linker
from blink.serving.nif_document import FORMATS, NifContext, NifPhrase, read_nif, write_nif

WIKIDATA = "http://www.wikidata.org/entity/"
SAMPLES = 100
TEXTS = [
    "The Nile 👏 flows through Egypt.",
    "Angela Merkel met Emmanuel Macron in Paris.",
    "𝔊oethe lived in Weimar 🇩🇪 and saw Rome.",
    "Nothing to see here.",
]
GERBIL_HEADERS = {"content-type": "application/x-turtle;charset=UTF-8", "accept": "application/x-turtle"}


def post(client: TestClient, path: str, document: str | bytes, **headers: str) -> httpx.Response:
    content = document.encode() if isinstance(document, str) else document
    return client.post(path, content=content, headers=GERBIL_HEADERS | headers)


def links_of(linker: Linker, texts: Sequence[str], spans: Any = None) -> list[list[tuple[int, int, str, float]]]:
    linked = linker(list(texts), spans=spans)
    return [[(x.start, x.end, f"{WIKIDATA}{x.kb_id}", round(x.score, 6)) for x in of.links] for of in linked]


def test_a2kb_has_the_links_of_the_linker(starter_client: TestClient, starter_linker: Linker) -> None:
    for text, links in zip(TEXTS, links_of(starter_linker, TEXTS), strict=True):
        document = turtle_of(GerbilDocument("http://example.org/d", text, ((0, 3),)))  # phrases are not for A2KB
        answer = post(starter_client, "/nif/a2kb?uris=wikidata", document)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/x-turtle")
        assert annotations_of(answer.text) == {"http://example.org/d": [pytest.approx(link, abs=2e-6) for link in links]}


def test_d2kb_answers_the_spans_that_were_given(starter_client: TestClient, starter_linker: Linker) -> None:
    spans = [[(4, 8), (26, 31)], [(0, 13), (37, 42)], [(0, 6), (16, 22)], [(0, 7)]]
    expected = links_of(starter_linker, TEXTS, spans)
    documents = [
        GerbilDocument(f"http://example.org/{i}", text, tuple(of))
        for i, (text, of) in enumerate(zip(TEXTS, spans, strict=True))
    ]
    answer = post(starter_client, "/nif/d2kb?uris=wikidata", turtle_of(*documents))
    read = annotations_of(answer.text)
    assert list(read) == [document.uri for document in documents]
    for links, linked, of in zip(expected, read.values(), spans, strict=True):
        assert [(start, end) for start, end, *_ in linked] == of
        by_span = {link[:2]: link for link in links}
        assert [link for link in linked if link[:2] in by_span] == [pytest.approx(link, abs=2e-6) for link in links]


def test_phrases_keep_their_addresses(starter_client: TestClient) -> None:
    context = NifContext("http://e.org/#char=0,30", TEXTS[0], (NifPhrase("http://e.org/p1", 4, 8),))
    document = turtle_of(GerbilDocument(context.uri, context.text)).rstrip() + (
        "\n<http://e.org/p1> nif:beginIndex 4 ; nif:endIndex 8 ; nif:referenceContext <http://e.org/#char=0,30> ."
    )
    (read,) = read_nif(post(starter_client, "/nif/d2kb", document).content)
    assert [phrase.uri for phrase in read.phrases] == ["http://e.org/p1"]


def test_what_names_no_entity_has_a_uri_outside_of_wikis_or_none(starter_client: TestClient) -> None:
    document = turtle_of(GerbilDocument("http://e.org/d", TEXTS[0], ((4, 8),)))
    of_nil = annotations_of(post(starter_client, "/nif/d2kb?threshold=1.5", document).text)["http://e.org/d"]
    assert of_nil == [(4, 8, "http://aksw.org/notInWiki/Nile", None)]
    omitted = post(starter_client, "/nif/d2kb?threshold=1.5&nil=omit", document).text
    assert "taIdentRef" not in omitted
    assert annotations_of(omitted)["http://e.org/d"] == [(4, 8, None, None)]


@pytest.mark.parametrize("media_type", FORMATS)
def test_all_forms_are_read_and_written(starter_client: TestClient, media_type: str) -> None:
    document = write_nif([(NifContext("http://e.org/d", TEXTS[0]), [])], media_type)
    answer = post(starter_client, "/nif/a2kb", document, **{"content-type": media_type, "accept": "*/*"})
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert [(p.start, p.end) for p in read_nif(answer.content, media_type)[0].phrases] == [(4, 8), (25, 30)]


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "message"),
    [
        ("/nif/a2kb", {"content-type": "text/html"}, b"", 415, "allowed are text/turtle"),
        ("/nif/a2kb", {"content-type": "text/turtle; charset=latin-1"}, b"", 415, "send UTF-8"),
        ("/nif/a2kb", {}, b"", 400, "no nif:Context"),
        ("/nif/d2kb", {}, b"\xff\xfe", 400, "not application/x-turtle"),
        ("/nif/a2kb?uris=ftp:", {}, b"", 400, "allowed are url"),
        ("/nif/a2kb?threshold=nan", {}, b"", 422, "threshold"),
        ("/nif/d2kb?nil=perhaps", {}, b"", 422, "nil"),
    ],
)
def test_bad_requests_are_one_line(
    starter_client: TestClient, path: str, headers: dict[str, str], content: bytes, status: int, message: str
) -> None:
    answer = post(starter_client, path, content, **headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_gerbil_counts_what_eval_counts(starter_client: TestClient, starter_linker: Linker, root: Path) -> None:
    file = root / "tests" / "data" / "everyday.jsonl"
    samples = labelled_samples(str(file), starter_linker.kb.catalogue)[:SAMPLES]
    gold = [[(m.start, m.end, f"{WIKIDATA}{m.kb_id}") for m in sample.mentions or ()] for sample in samples]
    documents = [GerbilDocument(f"http://example.org/{i:04}", sample.text) for i, sample in enumerate(samples)]
    read = annotations_of(post(starter_client, "/nif/a2kb?uris=wikidata", turtle_of(*documents)).text)
    linked = starter_linker([sample.text for sample in samples])
    texts = [evaluated_text(sample, of) for sample, of in zip(samples, linked, strict=True)]
    report = evaluate(texts, n_resamples=1).overall
    assert report.weak.predicted > SAMPLES / 2
    for scores, weak in ((report.weak, True), (report.strong, False)):
        micro = gerbil_scores(gold, [[(*link[:2], str(link[2])) for link in of] for of in read.values()], weak=weak).micro
        assert micro == pytest.approx((scores.precision, scores.recall, scores.f1))


def test_gerbil_averages_documents() -> None:
    right, wrong = (0, 3, "a"), (5, 8, "b")
    scores = gerbil_scores([[right], [], [right, wrong], [right]], [[right], [], [right], [(1, 3, "a")]])
    assert scores.micro == pytest.approx((1, 3 / 4, 6 / 7))
    assert scores.macro == pytest.approx((1, 7 / 8, 11 / 12))
    assert gerbil_scores([[right]], [[(1, 3, "a")]], weak=False).micro == (0, 0, 0)
