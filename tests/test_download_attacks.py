"""download_models.sh against a server, archives and files that want harm: one line, nothing written elsewhere, never a hang."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from test_download_models import BIG, Checkout, Site, archive, checkout, entry, site  # noqa: F401 - fixtures

from blink.downloads import archives, transfer
from blink.downloads.archives import unpack
from blink.downloads.folder import DownloadError, ModelsFolder, PublishedFile, read_manifest
from blink.downloads.transfer import Transfer, Version, probe

OK = "HTTP/1.1 200 OK\r\n"
BODY = b"x" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def answers() -> Iterator[tuple[str, list[bytes | Callable[[socket.socket], None]]]]:
    """A server that sends raw answers, one a connection, the last one again and again."""
    queue: list[bytes | Callable[[socket.socket], None]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection), suppress(OSError):
                connection.settimeout(10)
                connection.recv(1 << 16)
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", queue
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(transfer, "PROBE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(transfer, "MAX_UNLISTED_BYTES", 5000)


def endless(connection: socket.socket) -> None:
    connection.sendall((OK + "\r\n").encode())
    while True:
        connection.sendall(b"y" * 65536)


def drip(connection: socket.socket) -> None:
    connection.sendall((OK + "Content-Length: 1000\r\n\r\n").encode())
    while True:
        connection.sendall(b"z")
        threading.Event().wait(0.05)


def silent(connection: socket.socket) -> None:
    threading.Event().wait(1)


def answer(*headers: str, body: bytes = BODY, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1") + body


def transferred(address: str, folder: Path, **fields: Any) -> Path:
    """Download one file; the part that an attack may leave is never larger than what is listed."""
    file = PublishedFile(**(entry("f") | fields))
    try:
        Transfer(ModelsFolder(folder, address), file, "f", Version()).run(0)
    finally:
        partial = folder / f"{file.target}.part"
        assert not partial.is_file() or partial.stat().st_size <= (file.bytes or 5000)
    return folder / file.target


LENGTH = f"Content-Length: {len(BODY)}"
REFUSED: dict[str, tuple[bytes | Callable[[socket.socket], None], dict[str, Any]]] = {
    "endless": (endless, {}),
    "endless, listed": (endless, {"bytes": 1000}),
    "about": (answer(body=BODY * 3), {"approx_bytes": 1000}),
    "more than listed": (answer(body=BODY + b"!"), {"bytes": 1000}),
    "another length": (answer("Content-Length: 1001", body=BODY + b"!"), {"bytes": 1000}),
    "short": (answer("Content-Length: 1000000"), {}),
    "drip": (drip, {}),
    "silent": (silent, {}),
    "no http": (b"\x1b[2J garbage\r\n\r\n", {}),
    "long line": (b"HTTP/1.1 200 " + b"x" * 100_000, {}),
    "many headers": (answer(*[f"X-{i}: y" for i in range(1000)]), {}),
    "bad chunks": (answer("Transfer-Encoding: chunked", body=b"zz\r\nabc"), {}),
    "negative chunk": (answer("Transfer-Encoding: chunked", body=b"-5\r\nabc"), {}),
    "to a file": (answer("Location: file:///etc/passwd", status="302 Found", body=b""), {}),
    "to ftp": (answer("Location: ftp://127.0.0.1/x", status="302 Found", body=b""), {}),
    "to data": (answer("Location: data:text/plain,x", status="302 Found", body=b""), {}),
    "in a circle": (answer("Location: /f", status="302 Found", body=b""), {}),
    "odd address": (answer("Location: http://[/", status="302 Found", body=b""), {}),
    "wrong hash": (answer(LENGTH), {"sha256": "0" * 64}),
    "a part that nobody asked for": (answer("Content-Range: bytes 500-999/1000", LENGTH, status="206 Partial Content"), {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_lying_server_is_one_line(
    name: str, answers: tuple[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, queue = answers
    queue.append(REFUSED[name][0])
    with pytest.raises(DownloadError) as error:
        transferred(address, tmp_path, **REFUSED[name][1])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "f").exists()
    assert not {"\x1b", "\x9b"} & set(capsys.readouterr().out)


@pytest.mark.parametrize(
    "headers",
    [
        (LENGTH,),
        (f"Content-Length: {'9' * 5000}",),
        ("Content-Length: \u00b2",),
        ("Content-Length: -1",),
        ("Content-Length: x",),
        (LENGTH, "ETag: \x1b[2J\xff"),
        (LENGTH, 'ETag: "a\r\n  b"'),
        (LENGTH, f'ETag: "{"e" * 9000}"'),
        ("Transfer-Encoding: none",),
    ],
)
def test_odd_headers_harm_nothing(headers: tuple[str, ...], answers: tuple[str, list[Any]], tmp_path: Path) -> None:
    address, queue = answers
    queue.append(answer(*headers))
    probe(ModelsFolder(tmp_path, address), PublishedFile(**entry("f")))
    with suppress(DownloadError):  # a length that is not the body's
        assert transferred(address, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    "range_of", ["bytes 0-599/1000", "bytes 400-700/1000", "bytes 400-999/2000", "bytes */1000", "x", None]
)
def test_a_part_that_does_not_continue_is_not_taken(
    range_of: str | None, answers: tuple[str, list[Any]], tmp_path: Path
) -> None:
    address, queue = answers
    tag = 'ETag: "v"'
    lie = answer(tag, *([f"Content-Range: {range_of}"] if range_of else []), body=b"L" * 600, status="206 Partial Content")
    queue += [answer(tag, LENGTH, body=BODY[:400]), lie, answer(tag, LENGTH)]
    assert transferred(address, tmp_path).read_bytes() == BODY


def test_a_hash_is_shown_once_and_required_afterwards(
    answers: tuple[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, queue = answers
    queue.append(answer(LENGTH))
    path = transferred(address, tmp_path)
    assert f"sha256 {SHA}, recorded in .downloads.json" in capsys.readouterr().out
    path.unlink()
    assert transferred(address, tmp_path).read_bytes() == BODY
    assert f"sha256 {SHA}, as recorded" in capsys.readouterr().out
    path.unlink()
    queue[:] = [answer(LENGTH, body=b"n" * 1000)]
    with pytest.raises(DownloadError, match=f"its first download had {SHA}; .*--accept-changed"):
        transferred(address, tmp_path)
    assert not path.exists()
    file = PublishedFile(**entry("f"))
    Transfer(ModelsFolder(tmp_path, address), file, "f", Version(), accept_changed=True).run(0)
    assert path.read_bytes() == b"n" * 1000
    assert json.loads((tmp_path / ".downloads.json").read_text())["f"]["sha256"] == hashlib.sha256(b"n" * 1000).hexdigest()


def test_a_changed_file_is_taken_on_request(checkout: Checkout, site: Site) -> None:  # noqa: F811
    checkout.fetched()
    (checkout.models / "big.bin").unlink()
    site.files["/big.bin"] = BIG[::-1]
    assert "--accept-changed" in checkout.refused()
    assert "recorded in .downloads.json" in checkout.fetched("--accept-changed")
    assert (checkout.models / "big.bin").read_bytes() == BIG[::-1]


@pytest.mark.parametrize(
    "name", ["a b/c d.bin", "é中/f.bin", "per%cent?#.bin", "q\"u'o`te$(x).bin", "line\nend.bin", "-dash.bin"]
)
def test_odd_names_and_addresses_work(name: str, checkout: Checkout, site: Site) -> None:  # noqa: F811
    from urllib.parse import quote

    site.files["/" + quote("a mirror/" + name, safe="/%~!$&'()*+,;=:@")] = BIG
    checkout.manifest(site.url, entry("odd", path=name, target=name))
    out = checkout.fetched(BLINK_MIRROR=f"{site.url}/a mirror")
    assert (checkout.models / name).read_bytes() == BIG
    assert hashlib.sha256(BIG).hexdigest() in out
    assert "is here" in checkout.fetched()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.parent / "victim"), Path.mkdir])
@pytest.mark.parametrize("name", ["f", "f.part", ".downloads.json"])
def test_no_link_is_followed_and_no_pipe_waited_for(
    make: Callable[[Path], None], name: str, answers: tuple[str, list[Any]], tmp_path: Path
) -> None:
    address, queue = answers
    queue.append(answer(LENGTH))
    (tmp_path / "victim").write_bytes(b"mine")
    make(tmp_path / name)
    with suppress(DownloadError):
        transferred(address, tmp_path)
    assert (tmp_path / "victim").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "content",
    [
        '{"f": 1}', "[]", '{"f": {}}', '{"f": {"sha256": 1, "bytes": 1, "mtime_ns": 1}}', "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=["number", "list", "empty", "types", "deep", "bytes"],
)  # fmt: skip
def test_damaged_records_and_lists_are_one_line(content: str | bytes, tmp_path: Path) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    for name, read in (
        (".downloads.json", lambda: ModelsFolder(tmp_path, "")),
        ("list", lambda: read_manifest(tmp_path / "list")),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DownloadError):
            read()


@pytest.mark.parametrize(
    "field", [{"bytes": "12"}, {"bytes": -1}, {"sha256": 5}, {"groups": [1]}, {"target": "a\0b"}, {"path": 1}, {"purpose": []}]
)
def test_fields_of_wrong_types_are_refused(field: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "list").write_text(json.dumps({"base_url": "", "files": [entry("f", **field)]}))
    with pytest.raises(DownloadError, match="not a valid list"):
        read_manifest(tmp_path / "list")


# ---- archives


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def packed(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
HOSTILE: dict[str, list[tarfile.TarInfo]] = {
    "link to itself": [member("a", SYM, "a")],
    "links in a circle": [member("a", SYM, "b"), member("b", SYM, "a")],
    "hard links in a circle": [member("a", HARD, "b"), member("b", HARD, "a")],
    "long chain": [member("l0"), *[member(f"l{i}", SYM, f"l{i - 1}") for i in range(1, 3000)]],
    "link to a folder": [member("d", tarfile.DIRTYPE), member("l", SYM, "d"), member("l/f")],
    "link that leads out": [member("l", SYM, "../../x")],
    "hard link that leads out": [member("l", HARD, "../x")],
    "absolute link": [member("l", SYM, "/etc/passwd")],
    "absolute name": [member("/tmp/x")],
    "parent": [member("a/../../x")],
    "device": [member("d", tarfile.CHRTYPE)],
    "block device": [member("d", tarfile.BLKTYPE)],
    "pipe": [member("p", tarfile.FIFOTYPE)],
    "same name twice": [member("a"), member("a")],
    "file where a folder is": [member("a"), member("a/b")],
    "name of nothing": [member("")],
    "long name": [member("n" * 300)],
    "many": [member(f"m{i}") for i in range(200)],
    "copies": [member("big", size=600_000), *[member(f"c{i}", SYM, "big") for i in range(150)]],
    "zeros": [member("z", size=4_000_000)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_write_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 150 if name == "many" else 5000)
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000_000)
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 50_000_000)
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "set.tar.gz", *HOSTILE[name])
    with pytest.raises(DownloadError) as error:
        unpack(path, "hash")
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", path]


def test_a_header_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    header = member("x", tarfile.XHDTYPE, size=0)
    header.size = 1 << 34
    import gzip

    path = tmp_path / "set.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(DownloadError):
        unpack(path, "hash")


def test_links_inside_become_copies(tmp_path: Path) -> None:
    content = tmp_path / "set.tar.gz"
    content.write_bytes(archive(("d/a", b"text", ""), ("d/b", None, "a"), ("c", None, "d/b")))
    unpack(content, "hash")
    assert [(tmp_path / "set" / name).read_bytes() for name in ("d/a", "d/b", "c")] == [b"text"] * 3
    assert not any(path.is_symlink() for path in (tmp_path / "set").rglob("*"))
