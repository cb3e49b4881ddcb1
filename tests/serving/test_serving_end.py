"""The end of a server and of its workers: what was accepted is answered, a killed worker comes back."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_toys import TEXTS, error_of, link_spans, links_of, running, toy_linker
from serving_workers import answer_pids, fail_to_open

from blink.errors import BlinkError, SettingsError
from blink.linking.linker import Linker
from blink.serving.run import listen
from blink.serving.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    return toy_linker(tmp_path_factory.mktemp("end"))


def gated(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], threading.Event]:
    """The texts whose linking has begun, and the event that it may go on."""
    begun, may_continue, analyze = list[str](), threading.Event(), linker.analyze

    def waiting(texts: list[str], **options: Any) -> Any:
        begun.extend(texts)
        assert may_continue.wait(20)
        return analyze(texts, **options)

    monkeypatch.setattr(linker, "analyze", waiting)
    return begun, may_continue


def test_a_stopping_server_answers_what_it_accepted(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are linked, that wait, and that are sent on open connections; new connections are refused."""
    begun, may_continue = gated(linker, monkeypatch)
    with running(linker) as server, ThreadPoolExecutor(8) as pool, httpx.Client(base_url=server.url) as idle:
        idle.get("/healthz").raise_for_status()
        futures = [pool.submit(httpx.post, server.url + "/link", json={"text": text}, timeout=20) for text in TEXTS]
        while not begun or server.service.engine.room.n_texts + len(begun) < len(TEXTS):
            time.sleep(0.005)
        server.server.should_exit = True
        while not server.service.is_draining:
            time.sleep(0.005)
        on_open_connection = idle.get("/readyz")
        assert "stopping" in error_of(on_open_connection, 503)
        assert on_open_connection.headers["connection"] == "close"
        time.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/healthz")
        may_continue.set()
        for text, future in zip(TEXTS, futures, strict=True):
            assert links_of(future.result().json()["results"][0]) == link_spans(linker(text))
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_what_is_not_linked_in_time_is_answered_too(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_continue = gated(linker, monkeypatch)
    with running(linker, drain_seconds=0.5) as server, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(httpx.post, server.url + "/link", json={"text": text}, timeout=20) for text in TEXTS[:3]]
        while not begun:
            time.sleep(0.005)
        server.server.should_exit = True
        for future in futures:
            assert "stopped" in error_of(future.result(), 503)
        may_continue.set()


def test_a_taken_port_and_a_wrong_address_are_one_line() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match="--port"):
            listen("127.0.0.1", port)
    for host in ("no such host", "203.0.113.1", "\ud800", "a" * 300):
        with pytest.raises(SettingsError, match=r"address|listened"):
            listen(host, 0)


# -- worker processes -------------------------------------------------------------------------------------------------


def supervised(target: Callable[[socket.socket, bool], None], body: Callable[[int], None]) -> list[str]:
    """Run a supervisor of two workers in this thread while ``body`` runs in another; the lines that it says."""
    lines: list[str] = []
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    failures: list[BaseException] = []

    def run_body() -> None:
        try:
            body(port)
        except BaseException as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    thread = threading.Thread(target=run_body)
    try:
        supervisor = Supervisor(target, 2, listener, 5.0, lines.append)
        signal.signal(signal.SIGTERM, supervisor._signalled)
        thread.start()
        supervisor.run()
    finally:
        thread.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    return lines


def ask(port: int) -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"?")
        pid, is_first = connection.recv(100).decode().split()
        return int(pid), is_first


def until(port: int, is_enough: Callable[[dict[int, str]], bool]) -> dict[int, str]:
    """Ask until the answers are enough; the workers that answered, and whether each is the first."""
    answers: dict[int, str] = {}
    end = time.monotonic() + 30
    while not is_enough(answers):
        assert time.monotonic() < end, answers
        pid, is_first = ask(port)
        answers[pid] = is_first
    return answers


def test_a_killed_worker_comes_back_and_the_other_continues() -> None:
    def body(port: int) -> None:
        before = until(port, lambda answers: len(answers) == 2)
        assert sorted(before.values()) == ["False", "True"], "one worker alone answers while it loads"
        killed = next(pid for pid, is_first in before.items() if is_first == "True")
        os.kill(killed, signal.SIGKILL)
        time.sleep(0.1)
        after = until(port, lambda answers: len(answers.keys() - before.keys()) == 1)
        assert killed not in after
        assert set(after.values()) == {"False"}

    lines = supervised(answer_pids, body)
    (line,) = lines
    assert re.fullmatch(r"blink: worker \d+ was ended by signal 9; another is started in 1 s", line)


def test_workers_that_cannot_start_end_the_server_with_one_line() -> None:
    with pytest.raises(BlinkError, match="no such model; name another"):
        supervised(fail_to_open, _until_refused)


def _until_refused(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.05)


# -- the command ------------------------------------------------------------------------------------------------------


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server as a process, once it is ready, and its address."""
    command = [sys.executable, "-m", "blink.apps.cli", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "BLINK_BACKEND": "onnx", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        match = re.search(r"listening on (http://[\d.]+:\d+)", line)
        url = match[1] if match else url
        if "is ready" in line:
            break
    return process, url


def test_the_command_serves_the_starter_and_ends_with_0(starter: Path) -> None:
    """From the command to the end by a signal under load: each request is answered, or was never accepted."""
    process, url = start()
    text = "The Nile flows through Egypt."
    answered, refused = [], []

    def load() -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while True:
                steps = list[str]()
                how = {"trace": lambda step, about, steps=steps: steps.append(step)}
                try:
                    response = http.post("/link", json={"text": text}, extensions=how)
                except httpx.TransportError:
                    # A new connection: one that waited in the backlog of the closed listener was never accepted.
                    assert "connection.connect_tcp.started" in steps
                    return refused.append(1)
                answered.append([link["title"] for link in response.json()["results"][0]["links"]])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 12:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert process.wait(30) == 0
    assert len(refused) == 4, "each client was refused a new connection, and lost no request"
    assert set(map(tuple, answered)) == {("Nile", "Egypt")}
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
