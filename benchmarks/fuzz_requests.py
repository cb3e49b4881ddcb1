"""Requests of a fuzzer: those of the OpenAPI document, and mutations of valid ones down to their bytes."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import unittest
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from benchmarks.fuzz_probe import RawRequest

JSON, FORM, TURTLE = b"application/json", b"application/x-www-form-urlencoded", b"text/turtle"
NIF = "http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#"
DOCUMENT = """@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .
<http://e.org/d> a nif:Context ; nif:isString "The Nile \\U0001F44F flows." .
[] nif:referenceContext <http://e.org/d> ; nif:beginIndex 4 ; nif:endIndex 8 ; nif:anchorOf "Nile" ."""
CONTEXT = {"pid": "context", "v": "Zorblax is a moon."}
DESCRIPTION = {"pid": "description", "v": ["a violinist", 7, True, {"id": "m1", "name": "x"}]}
BATCH = {
    "q0": {"query": "Zorblax", "type": "moon", "type_strict": "any", "limit": 3, "properties": [CONTEXT]},
    "q1": {"query": "Ann", "properties": [DESCRIPTION]},
}
EXTEND = {"ids": ["m1", "x"], "properties": [{"id": "alias", "settings": {"limit": 1}}, {"id": "year"}]}
VALID: tuple[tuple[str, str, bytes, Any], ...] = (
    ("POST", "/link", JSON, {"text": "The Nile flows through Zorblax.", "spans": [[4, 8]], "candidates": 2, "threshold": 0.5}),
    ("POST", "/link", JSON, {"texts": ["Ann Quillon", "Zorblax"], "where": "type=moon", "explain": True}),
    ("POST", "/resolve", JSON, {"records": ["Zorblax", {"name": "A. Quillon", "description": "violinist", "type": "person"}]}),
    ("POST", "/entities", JSON, {"title": "Moon", "text": "x", "types": ["moon"], "ids": {"own": "1"}}),
    ("PATCH", "/entities/m1", JSON, {"text": "A moon."}),
    ("DELETE", "/entities/m9", JSON, {}),
    ("POST", "/nif/a2kb?uris=wikidata", TURTLE, DOCUMENT),
    ("POST", "/nif/d2kb?nil=omit&threshold=0.5", TURTLE, DOCUMENT),
    ("POST", "/nif/d2kb", b"application/ld+json", [{"@id": "http://e.org/d", f"{NIF}isString": [{"@value": "Nile"}]}]),
    ("POST", "/reconcile", FORM, urlencode({"queries": json.dumps(BATCH)})),
    ("POST", "/reconcile", JSON, {"queries": BATCH}),
    ("POST", "/reconcile", FORM, urlencode({"extend": json.dumps(EXTEND)})),
    ("GET", "/reconcile?" + urlencode({"queries": json.dumps(BATCH), "callback": "cb"}), b"", ""),
    ("GET", "/reconcile/suggest/entity?prefix=Zor&cursor=1", b"", ""),
    ("GET", "/reconcile/suggest/property?prefix=a", b"", ""),
    ("GET", "/reconcile/flyout/type?id=moon", b"", ""),
    ("GET", "/reconcile/preview?id=m1", b"", ""),
    ("GET", "/reconcile/view?id=m1", b"", ""),
    ("GET", "/reconcile/properties?type=moon&limit=2", b"", ""),
    ("GET", "/entities?q=Zor&limit=2&where=type%3Dmoon", b"", ""),
    ("GET", "/entities/m1", b"", ""),
    *(("GET", path, b"", "") for path in ("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json")),
    ("GET", "/static/..%2f..%2fetc%2fpasswd", b"", ""),
)
TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b"%00",
    b"%ff",
    b"%",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"-1",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"null",
    b"true",
    b'""',
    b"{}",
    b"[]",
    b"\r\n\r\n",
    b"../",
    b"..%2f",
    b"%2e%2e/",
    b"' OR 1=1",
    b"<script>",
    b"{{7*7}}",
    b"${jndi:x}",
    "\u202e\U0001f469\u200d\U0001f680".encode(),
    b"a" * 3000,
    b"&" * 300,
    b"=",
    b"\\",
    b'"',
    b"@prefix x: <y> .",
    b"[ [ [ ",
    b"<http://e.org/d>",
    b"( " * 500,
    b'"@context":"http://127.0.0.1:9/c"',
    b"row:99999999999999999999",
    b"\xf4\x90\x80\x80",
)
"""Bytes that break parsers."""
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-encoding", b"gzip"),
    (b"content-encoding", b"br"),
    (b"accept", b"application/ld+json"),
    (b"accept", b"\xff"),
    (b"accept", b"*/*;q=nan"),
    (b"authorization", b"Bearer \xff"),
    (b"authorization", b"Basic !!!"),
    (b"origin", b"null"),
    (b"origin", b"http://[::1"),
    (b"host", b"[::1"),
    (b"host", b"a b"),
    (b"host", b"\xff:x"),
    (b"content-length", b"-5"),
    (b"content-length", b"9" * 30),
    (b"content-type", b"text/turtle; charset=utf-16"),
    (b"content-type", b"multipart/form-data; boundary="),
    (b"content-type", b"application/json; charset=\x00"),
    (b"transfer-encoding", b"chunked"),
    (b"x-forwarded-host", b"e.org"),
    (b"cookie", b"a=" + b"b" * 3000),
    (b"range", b"bytes=5-1"),
    (b"if-none-match", b'"' * 50),
    (b"expect", b"100-continue"),
    (b"traceparent", b"00-" + b"f" * 60),
    (b"accept-language", b"x" * 2000),
    (b"upgrade", b"websocket"),
    (b"te", b"trailers"),
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "")


def mutated_requests(seed: int, token: str) -> Iterator[RawRequest]:
    """Endless mutations of valid requests: of bytes, tokens, headers, methods, paths and encodings.

    Args:
        seed: of the random numbers.
        token: that edits need; few requests have it.
    """
    generator = random.Random(seed)
    while True:
        yield _mutated(generator, token)


def _mutated(generator: random.Random, token: str) -> RawRequest:
    method, target, media_type, content = generator.choice(VALID)
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    path, _, query = target.encode().partition(b"?")
    headers = [(b"host", b"127.0.0.1:8765")] + ([(b"content-type", media_type)] if media_type else [])
    if generator.random() < 0.05:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    for _ in range(generator.choice((0, 1, 1, 1, 2, 4))):
        body = generator.choice(BYTE_MUTATIONS)(body, generator)
    if generator.random() < 0.3:
        query = generator.choice(BYTE_MUTATIONS)(query, generator)
    if generator.random() < 0.1:
        path = generator.choice(BYTE_MUTATIONS)(path, generator)
    if generator.random() < 0.2:
        headers.append(generator.choice(HEADERS))
    if generator.random() < 0.05:
        method = generator.choice(METHODS)
    if generator.random() < 0.05:
        body = generator.choice((gzip.compress, zlib.compress))(body)
    return RawRequest(method, b"/" + path.lstrip(b"/"), query, tuple(headers), _chunked(body, generator), "mutation")


def _chunked(body: bytes, generator: random.Random) -> tuple[bytes, ...]:
    if len(body) < 2 or generator.random() < 0.8:
        return (body,)
    middle = generator.randrange(1, len(body))
    return body[:middle], b"", body[middle:]


def _flip(data: bytes, generator: random.Random) -> bytes:
    values = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        if values:
            values[generator.randrange(len(values))] = generator.randrange(256)
    return bytes(values)


def _insert(data: bytes, generator: random.Random) -> bytes:
    at = generator.randint(0, len(data))
    return data[:at] + generator.choice(TOKENS) + data[at:]


def _replace(data: bytes, generator: random.Random) -> bytes:
    """Replace what stands between two delimiters, so that the rest stays well-formed."""
    marks = [i for i, byte in enumerate(data) if byte in b'":,[]{}&= ']
    if len(marks) < 2:
        return generator.choice(TOKENS)
    first = generator.randrange(len(marks) - 1)
    return data[: marks[first] + 1] + generator.choice(TOKENS) + data[marks[first + 1] :]


def _truncate(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randint(0, len(data))]


def _repeat(data: bytes, generator: random.Random) -> bytes:
    start, end = sorted((generator.randint(0, len(data)), generator.randint(0, len(data))))
    return data[:start] + data[start:end] * generator.choice((2, 3, 30)) + data[end:]


def _random(data: bytes, generator: random.Random) -> bytes:
    return generator.randbytes(generator.choice((0, 1, 5, 300)))


BYTE_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _insert, _insert, _replace, _replace, _replace, _truncate, _repeat, _random,
)  # fmt: skip


def document_requests(schema: dict[str, Any], examples: int, seed: int) -> Iterator[RawRequest]:
    """Requests that schemathesis makes of an OpenAPI document: those that it allows, and those that break it.

    Args:
        schema: the document.
        examples: requests of each operation, half of each kind.
        seed: of the random numbers.
    """
    import schemathesis
    from schemathesis import GenerationMode

    loaded = schemathesis.openapi.from_dict(schema)
    for operation in (result.ok() for result in loaded.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            yield from _examples(operation.as_strategy(generation_mode=mode), max(1, examples // 2), seed)


def _examples(strategy: Any, count: int, seed: int) -> list[RawRequest]:
    """At most so many requests of a strategy; none of one that has no examples, such as of a request that nothing breaks."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable

    requests: list[RawRequest] = []
    how: dict[str, Any] = {"database": None, "deadline": None, "phases": [Phase.generate]}

    @seeded(seed)
    @settings(max_examples=count, suppress_health_check=list(HealthCheck), **how)
    @given(strategy)
    def collect(case: Any) -> None:
        requests.append(_of_case(case))

    with contextlib.suppress(Unsatisfiable, unittest.SkipTest):
        collect()
    return requests


def _of_case(case: Any) -> RawRequest:
    import requests

    arguments = case.as_transport_kwargs(base_url="http://127.0.0.1:8765")
    arguments = {
        key: value
        for key, value in arguments.items()
        if key in ("method", "url", "headers", "params", "data", "json", "cookies", "files")
    }
    try:
        prepared = requests.Request(**arguments).prepare()
        url = urlsplit(prepared.url or "")
        path, query, headers, body = url.path, url.query, dict(prepared.headers), prepared.body
    except (ValueError, requests.RequestException):  # what no client could send
        path, query, headers, body = quote(case.formatted_path), "", {}, b""
    content = body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogatepass")
    raw = [(_latin(name).lower(), _latin(value)) for name, value in headers.items() if name.lower() != "content-length"]
    return RawRequest(case.method.upper(), path.encode("utf-8", "replace") or b"/", query.encode("utf-8", "replace"),
                      ((b"host", b"127.0.0.1:8765"), *raw), (content,), f"schemathesis {case.method} {case.path}")  # fmt: skip


def _latin(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


def broken_bytes(seed: int) -> Iterator[tuple[list[bytes], bool]]:
    """Endless bytes that are no, or hardly, HTTP, among requests that are; and whether the client then closes its half."""
    generator = random.Random(seed)
    while True:
        data = _valid_bytes(generator) if generator.random() < 0.4 else _hardly_http(generator)
        for _ in range(generator.choice((0, 0, 1, 2))):
            data = generator.choice(BYTE_MUTATIONS)(data, generator)
        yield [data * generator.choice((1, 1, 1, 2, 5)) if len(data) < 5000 else data], generator.random() < 0.2


def _valid_bytes(generator: random.Random) -> bytes:
    """A valid request, in one piece or in chunks."""
    method, target, media_type, content = generator.choice(VALID)
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: 127.0.0.1:8765", b"content-type: " + (media_type or JSON)]
    if generator.random() < 0.7:
        return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"connection: close"]) + b"\r\n\r\n" + body
    chunk = b"%x\r\n" % len(body) + body + b"\r\n" if body else b""
    return b"\r\n".join([*lines, b"transfer-encoding: chunked", b"connection: close"]) + b"\r\n\r\n" + chunk + b"0\r\n\r\n"


def _hardly_http(generator: random.Random) -> bytes:
    """A mutated request with lengths that are wrong, other ends of lines, and chunks that are none."""
    request = _mutated(generator, "")
    target = request.path.replace(b" ", b"%20") + (b"?" + request.query if request.query else b"")
    body = b"".join(request.body)
    lines = [(request.method.encode() or b"\xff") + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers]
    length = b"content-length: %d" % len(body)
    lines.append(generator.choice((length, length, length, b"content-length: 99999", b"transfer-encoding: chunked")))
    lines.append(generator.choice((b"connection: close",) * 6 + (b"connection: keep-alive", b"connection: upgrade, \x01")))
    head = generator.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")).join(lines) + b"\r\n\r\n"
    return head + generator.choice((body, body, body, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n", b"zz\r\n" + body))
