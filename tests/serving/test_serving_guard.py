"""What stands before the application: hosts and origins, sizes and times of requests, connections, the log, the metrics."""

from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from serving_toys import RunningServer, client_of, error_of, running, toy_linker

from blink.linking.linker import Linker
from blink.serving import logs, protocol
from blink.serving.metrics import Metrics
from blink.serving.run import LOCAL_NAMES, allowed_hosts, exposure_warning
from blink.serving.service import Service
from blink.serving.settings import ServerSettings


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    return toy_linker(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="module")
def server(linker: Linker) -> Iterator[RunningServer]:
    with running(linker, max_body=1000, body_seconds=0.5, max_connections=40) as server:
        server.service.hosts = LOCAL_NAMES
        yield server


def exchange(server: RunningServer, content: bytes, *, wait_s: float = 3.0) -> bytes:
    """All that the server answers to bytes on a connection."""
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname, url.port), timeout=wait_s) as connection:
        connection.sendall(content)
        chunks = []
        try:
            while chunk := connection.recv(65536):
                chunks.append(chunk)
        except (TimeoutError, ConnectionResetError):
            pass
        return b"".join(chunks)


def status_of(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert list(json.loads(body)) == ["error"]
    return int(head.split(b" ", 2)[1])


def test_bodies_are_limited_with_and_without_a_length(server: RunningServer) -> None:
    too_long = json.dumps({"text": "x" * 2000}).encode()
    for content in (too_long, iter([too_long[:700], too_long[700:]]), iter([too_long] * 9)):
        response = httpx.post(server.url + "/link", content=content, headers={"content-type": "application/json"})
        assert "1,000 bytes" in error_of(response, 413)
    lies = b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{}"
    assert status_of(exchange(server, lies)) in (408, 413)


def test_slow_bodies_and_heads_end(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    started = b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    assert status_of(exchange(server, started)) == 408
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: loc"):
        assert status_of(exchange(server, beginning)) == 408


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 30_000, 431),
        (b"GET /" + b"a" * 200_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /link HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused(server: RunningServer, content: bytes, status: int) -> None:
    answer = exchange(server, content)
    # A body that turns out to be none ends the connection of a request that is being answered.
    assert answer == b"" or status_of(answer) == status


def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    requests = b"".join(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % name for name in (b"healthz", b"nothing", b"readyz"))
    answer = exchange(server, requests, wait_s=0.5)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_too_many_connections_are_refused(server: RunningServer) -> None:
    url = urlsplit(server.url)
    connections = [socket.create_connection((url.hostname, url.port)) for _ in range(40)]
    try:
        time.sleep(0.1)
        assert status_of(exchange(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 503
    finally:
        for connection in connections:
            connection.close()
    time.sleep(0.1)
    assert httpx.get(server.url + "/healthz").status_code == 200


def test_pages_of_other_sites_are_refused(server: RunningServer) -> None:
    """Names that are made to lead to this machine, and pages of other origins; those of the server itself may ask."""
    port = urlsplit(server.url).port
    for host in (f"localhost:{port}", "127.0.0.1", "[::1]:8765", "LOCALHOST"):
        assert httpx.get(server.url + "/healthz", headers={"host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", ""):
        error_of(httpx.get(server.url + "/healthz", headers={"host": host}), 403)
    own = {"host": f"localhost:{port}", "origin": f"http://localhost:{port}"}
    assert httpx.get(server.url + "/healthz", headers=own).status_code == 200
    for origin in ("http://evil.example", "null", f"http://localhost:{port + 1}", "http://localhost", ""):
        response = httpx.post(server.url + "/link", json={"text": "a"}, headers={"origin": origin})
        error_of(response, 403)
        assert "access-control-allow-origin" not in response.headers


def test_origins_that_are_allowed_may_read_answers(linker: Linker) -> None:
    with client_of(linker, allow_origin=("http://127.0.0.1:3333",), max_body=100) as client:
        headers = {"origin": "http://127.0.0.1:3333"}
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        preflight = client.options("/link", headers=headers | asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == headers["origin"]
        for body in ({"text": "a"}, {"text": "a" * 200}):
            response = client.post("/link", json=body, headers=headers)
            assert response.headers["access-control-allow-origin"] == headers["origin"]
        other = client.options("/link", headers={"origin": "http://evil.example"} | asked)
        assert "access-control-allow-origin" not in other.headers
        error_of(client.post("/link", json={"text": "a"}, headers={"origin": "http://evil.example"}), 403)


def test_names_and_warnings_follow_the_address() -> None:
    local, all_addresses = ServerSettings(), ServerSettings(host="0.0.0.0")
    assert allowed_hosts(local) == LOCAL_NAMES
    assert allowed_hosts(ServerSettings(allow_host=("my.example",))) == LOCAL_NAMES | {"my.example"}
    assert allowed_hosts(all_addresses) is None
    assert allowed_hosts(ServerSettings(host="0.0.0.0", allow_host=("My.Example",))) == {"my.example", "0.0.0.0"}
    assert exposure_warning(local, None) is None
    assert "nobody can edit" in (exposure_warning(all_addresses, None) or "")
    assert "has the token" in (exposure_warning(all_addresses, "t") or "")


def test_health_before_while_and_after(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(linker) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        assert client.get("/readyz").json() == {"status": "ready"}
        monkeypatch.setattr(service.engine._long, "_linker", None)
        assert "loaded" in error_of(client.get("/readyz"), 503)
        assert "loaded" in error_of(client.post("/link", json={"text": "a"}), 503)
        assert client.get("/healthz").json() == {"status": "ok"}
        assert "blink_ready 0.0" in client.get("/metrics").text
        monkeypatch.undo()
        service.is_draining = True
        response = client.get("/readyz")
        assert "stopping" in error_of(response, 503)
        assert response.headers["connection"] == "close"
        assert client.get("/healthz").status_code == 200


def test_metrics_have_routes_and_no_names_of_clients(linker: Linker) -> None:
    """Labels are routes, methods and statuses of the server: a client cannot add any."""
    with client_of(linker) as client:
        for number in range(5):
            client.get(f"/nothing/{number}")
            client.get(f"/entities/Q{number}")
            client.request(f"METHOD{number}", "/link")
        client.post("/link", json={"text": "Oslo"})
        page = client.get("/metrics").text
    assert 'blink_requests_total{method="GET",route="other",status="404"} 5.0' in page
    assert 'route="/entities/{key:path}",status="404"} 5.0' in page
    assert 'blink_requests_total{method="other",route="other",status="405"} 5.0' in page or 'method="other"' in page
    assert "METHOD" not in page
    assert "nothing" not in page
    assert "blink_kb_rows 20.0" in page
    assert float(next(line for line in page.splitlines() if line.startswith("blink_resident_bytes")).split()[1]) > 1e7


def test_routes_are_counted_once() -> None:
    metrics = Metrics()
    metrics.request("/link", "POST", 200, 0.5)
    metrics.links(3)
    metrics.edit("add")
    page = metrics.page().decode()
    assert "blink_links_total 3.0" in page
    assert 'blink_edits_total{kind="add"} 1.0' in page
    assert 'blink_request_seconds_bucket{le="0.5",route="/link"} 1.0' in page


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_log_has_a_line_a_request_without_texts(linker: Linker, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up(log_format)
    with client_of(linker) as client:
        client.post("/link", json={"text": "Oslo"})
        client.get("/entities?q=secret")
        client.get("/a%0Ab%1b[31m" + "c" * 500)
        client.get("/healthz")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "secret" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    if log_format == "json":
        first: dict[str, Any] = json.loads(lines[0])
        assert (first["method"], first["path"], first["status"]) == ("POST", "/link", 200)
    else:
        assert " POST /link 200 " in lines[0]


def test_failures_of_the_server_are_logged_and_not_shown(
    linker: Linker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(f"cannot read {tmp_path}/secret")

    with client_of(linker) as client:
        monkeypatch.setattr(type(linker.kb), "search_names", fail)
        message = error_of(client.get("/entities", params={"q": "a"}), 500)
    assert "secret" not in message
    assert str(tmp_path) not in message
    assert "secret" in caplog.text


def test_a_client_of_the_application_needs_no_port(linker: Linker) -> None:
    with client_of(linker) as client:
        assert isinstance(client, TestClient)
        assert client.get("/healthz").headers["x-content-type-options"] == "nosniff"
