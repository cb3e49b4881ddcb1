"""The queue and the thread that links: limits, fairness to requests whatever their size, time limits, cancelled clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_toys import TEXTS, client_of, error_of, link_spans, links_of, running, toy_linker

from blink.errors import DataError
from blink.kb.where import Where
from blink.linking import sections
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.opening import twin_of
from blink.serving import engine as engine_module
from blink.serving import lane, long_texts
from blink.serving.engine import Engine
from blink.serving.errors import OverloadedError, TimeLimitError, UnavailableError, WaitedTooLongError
from blink.serving.metrics import Metrics
from blink.serving.queueing import TURN_CHARACTERS, FairQueue, Job, Room
from blink.serving.settings import ServerSettings


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    return toy_linker(tmp_path_factory.mktemp("queue"), window_length=16)


class Gate:
    """Holds the linking thread until it is opened, and notes the texts of each batch."""

    def __init__(self, linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open, self.is_reached = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []
        analyze = linker.analyze

        def gated(texts: list[str], **options: Any) -> Any:
            self.batches.append(list(texts))
            self.is_reached.set()
            assert self.is_open.wait(20)
            return analyze(texts, **options)

        monkeypatch.setattr(linker, "analyze", gated)


def job(texts: list[str], done: Callable[[Any], None] = lambda result: None, deadline: float = float("inf")) -> Job:
    return Job(texts, None, Where(), None, False, deadline, done)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=12), min_size=1, max_size=8),
    batch=st.integers(1, 20_000),
)
def test_every_text_is_taken_once_and_in_order(sizes: list[list[int]], batch: int) -> None:
    room = Room(10_000, 1 << 30)
    queue = FairQueue(room)
    jobs = [job(["x" * size for size in of_job]) for of_job in sizes]
    for each in jobs:
        queue.put(each)
    taken: list[tuple[int, int]] = []
    while room.n_texts:
        texts, _ = queue.take(batch, wait=False) or ([], [])
        assert texts
        assert sum(len(t.text) for t in texts[:-1]) < batch
        taken += [(jobs.index(t.job), t.number) for t in texts]
    assert room.n_characters == 0
    assert sorted(taken) == [(i, n) for i, of_job in enumerate(sizes) for n in range(len(of_job))]
    for i in range(len(jobs)):
        assert [n for j, n in taken if j == i] == sorted(n for j, n in taken if j == i)


@given(large=st.integers(50, 500), small=st.integers(1, 4))
@settings(max_examples=20)
def test_a_large_request_delays_a_small_one_by_a_turn(large: int, small: int) -> None:
    queue = FairQueue(Room(10_000, 1 << 30))
    first, second = job(["x" * 200] * large), job(["y" * 100] * small)
    queue.put(first)
    queue.put(second)
    before = 0
    while second.next_text < small:
        texts, _ = queue.take(2 * TURN_CHARACTERS, wait=False) or ([], [])
        before += sum(len(t.text) for t in texts if t.job is first)
    assert before < 2 * TURN_CHARACTERS + 200


def test_a_full_queue_refuses_and_takes_again() -> None:
    queue = FairQueue(Room(3, 100))
    queue.put(job(["a"] * 10))  # an empty queue takes any request that its own limits let through
    with pytest.raises(OverloadedError):
        queue.put(job(["b"]))
    queue.take(1 << 20, wait=False)
    queue.put(job(["a" * 60]))
    with pytest.raises(OverloadedError):
        queue.put(job(["b" * 60]))
    queue.close()
    with pytest.raises(UnavailableError):
        queue.put(job(["c"]))
    assert [t.text for t in (queue.take(1 << 20, wait=False) or ([], []))[0]] == ["a" * 60]
    assert queue.take(1 << 20, wait=True) is None


def test_late_and_cancelled_jobs_are_not_handed_out() -> None:
    errors: list[Any] = []
    room = Room(100, 1000)
    queue = FairQueue(room)
    late, cancelled, wanted = job(["late"] * 2, errors.append, deadline=0.0), job(["gone"]), job(["wanted"])
    for each in (late, cancelled, wanted):
        queue.put(each)
    cancelled.is_cancelled = True
    texts, _ = queue.take(1 << 20, wait=False) or ([], [])
    assert [t.text for t in texts] == ["wanted"]
    assert isinstance(errors[0], WaitedTooLongError)
    assert (room.n_texts, room.n_characters) == (0, 0)


def test_too_many_texts_get_429_and_the_rest_their_links(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(linker, monkeypatch)
    with client_of(linker, queue_texts=4) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.post, "/link", json={"text": TEXTS[0]})
        assert gate.is_reached.wait(10)
        waiting = [pool.submit(client.post, "/link", json={"text": TEXTS[1]}) for _ in range(4)]
        room = client.app.state.service.engine.room  # type: ignore[attr-defined]
        while room.n_texts < 4:
            time.sleep(0.005)
        refused = client.post("/link", json={"text": TEXTS[2]})
        error_of(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        gate.is_open.set()
        assert all(future.result().status_code == 200 for future in (first, *waiting))
    assert [len(batch) for batch in gate.batches] == [1, 4]


@pytest.mark.parametrize("begun", [False, True])
def test_requests_that_take_too_long_are_told_so(linker: Linker, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    gate = Gate(linker, monkeypatch)
    with client_of(linker, request_seconds=0.2) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/link", json={"text": TEXTS[0]})
        assert gate.is_reached.wait(10)
        if begun:
            error_of(first.result(), 504)
        else:
            late = client.post("/link", json={"text": TEXTS[1]})
            error_of(late, 503)
            assert "retry-after" in late.headers
        gate.is_open.set()
    assert len(gate.batches) == 1, "what nobody waits for is not linked"


def test_cancelled_requests_are_not_linked(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes away while its request waits costs no linking."""
    gate = Gate(linker, monkeypatch)
    with running(linker) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(httpx.post, server.url + "/link", json={"text": TEXTS[0]}, timeout=20)
        assert gate.is_reached.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + "/link", json={"text": "gone"}, timeout=0.3)
        time.sleep(0.2)
        gate.is_open.set()
        assert first.result().status_code == 200
        assert httpx.post(server.url + "/link", json={"text": TEXTS[1]}).status_code == 200
    assert gate.batches == [[TEXTS[0]], [TEXTS[1]]]


def test_a_request_that_fails_fails_alone(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    analyze = linker.analyze

    def failing(texts: list[str], **options: Any) -> Any:
        if "poison" in texts:
            raise RuntimeError("secret of the server")
        return analyze(texts, **options)

    gate = threading.Event()
    with client_of(linker) as client, ThreadPoolExecutor(8) as pool:
        engine = client.app.state.service.engine  # type: ignore[attr-defined]
        monkeypatch.setattr(linker, "analyze", failing)
        pool.submit(lambda: client.portal.call(engine.call, lambda: gate.wait(20)))  # type: ignore[union-attr]
        texts = [*TEXTS[:3], "poison", *TEXTS[3:5]]
        futures = [pool.submit(client.post, "/link", json={"text": text}) for text in texts]
        while engine.room.n_texts < len(texts):
            time.sleep(0.005)
        gate.set()
        responses = [future.result() for future in futures]
    for text, response in zip(texts, responses, strict=True):
        if text == "poison":
            assert "secret" not in error_of(response, 500)
        else:
            assert links_of(response.json()["results"][0]) == link_spans(linker(text))


# -- long texts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of more than 60 characters have several sections."""
    for module in (sections, engine_module, lane):
        monkeypatch.setattr(module, "SECTION_CHARACTERS", 60)


LONG = {"batch_characters": 50}


@pytest.mark.usefixtures("short_sections")
def test_long_texts_are_linked_as_by_the_linker(linker: Linker) -> None:
    with client_of(linker, **LONG) as client:
        texts = [" ".join(TEXTS[i:] + TEXTS[:i]) for i in range(3)]
        results = client.post("/link", json={"texts": [*texts, TEXTS[3]], "threshold": -9.0}).json()["results"]
        for text, result in zip([*texts, TEXTS[3]], results, strict=True):
            spans = [
                (link.start, link.end, link.row)
                for section in linker.stream([text], thresholds=Thresholds(-9.0))
                for link in section.links
            ]
            assert links_of(result) == spans
            assert result["text"] == text


@pytest.mark.usefixtures("short_sections")
def test_long_texts_have_their_turn_by_request(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with two long texts and one with a single one: their sections are linked in turn."""
    order: list[str] = []
    advance = long_texts.LongTexts.advance

    def noted(self: long_texts.LongTexts, *arguments: Any) -> Any:
        order.append(self.next.text[0])
        return advance(self, *arguments)

    monkeypatch.setattr(long_texts.LongTexts, "advance", noted)
    engine = Engine(linker, ServerSettings(**LONG), Metrics())
    texts = {name: f"{name} " + "oslo. " * 60 for name in "AB"}

    async def ask() -> None:
        requests = [engine.link([texts["A"]] * 2), engine.link([texts["B"]])]
        tasks = [asyncio.ensure_future(request) for request in requests]
        await asyncio.sleep(0.05)
        engine.start()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    engine.stop(5)
    both = "".join(order)
    assert "ABABAB" in both
    assert both.count("A") == 2 * both.count("B")
    assert both.endswith("AAA"), "the second long text of A comes after its first"
    assert engine.room.n_texts == 0


@pytest.mark.usefixtures("short_sections")
def test_a_long_text_holds_up_no_short_one(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts are answered while a section of a long one is linked, whatever that takes."""
    gate, is_reached = threading.Event(), threading.Event()
    advance = long_texts.LongTexts.advance

    def held(self: long_texts.LongTexts, *arguments: Any) -> Any:
        is_reached.set()
        assert gate.wait(20)
        return advance(self, *arguments)

    monkeypatch.setattr(long_texts.LongTexts, "advance", held)
    with client_of(linker, **LONG) as client, ThreadPoolExecutor(1) as pool:
        long = pool.submit(client.post, "/link", json={"text": "oslo. " * 60})
        assert is_reached.wait(10)
        for text in ("Oslo", "Java or Mercury?"):
            assert links_of(client.post("/link", json={"text": text}).json()["results"][0]) == link_spans(linker(text))
        assert not long.done()
        gate.set()
        assert long.result().status_code == 200


@pytest.mark.usefixtures("short_sections")
def test_long_texts_count_as_waiting_until_they_are_linked(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(linker, ServerSettings(queue_characters=500, **LONG), Metrics())
    counted: list[int] = []
    advance = long_texts.LongTexts.advance

    def noted(self: long_texts.LongTexts, *arguments: Any) -> Any:
        counted.append(engine.room.n_characters)
        return advance(self, *arguments)

    monkeypatch.setattr(long_texts.LongTexts, "advance", noted)
    engine.start()
    text = "oslo. " * 60
    asyncio.run(engine.link([text]))
    engine.stop(5)
    assert len(counted) > 2
    assert set(counted) == {len(text)}
    assert (engine.room.n_texts, engine.room.n_characters) == (0, 0)


def test_many_own_spans_count_as_a_long_text(linker: Linker) -> None:
    """Each span is a window of its own for the model: many of them are linked beside short texts, not before them."""
    engine = Engine(linker, ServerSettings(), Metrics())
    spans = [tuple((i, i + 1) for i in range(n)) for n in (1, 100)]
    assert [engine._lane_of(["x" * 200], [of_text]) is engine._long for of_text in spans] == [False, True]
    assert engine._lane_of(["x" * 200, "x" * 3000], None) is engine._long


@pytest.mark.parametrize("linker_of", [lambda linker: linker, twin_of])
def test_a_twin_links_alike(linker: Linker, linker_of: Callable[[Linker], Linker]) -> None:
    other = linker_of(linker)
    assert other.kb is linker.kb
    assert other.model is linker.model
    assert other.thresholds == linker.thresholds
    assert [link_spans(linked) for linked in other(list(TEXTS))] == [link_spans(linked) for linked in linker(list(TEXTS))]


def test_engine_errors(linker: Linker) -> None:
    loading = Engine(lambda: linker, ServerSettings(), Metrics())
    with pytest.raises(UnavailableError):
        asyncio.run(loading.link(["a"]))
    engine = Engine(linker, ServerSettings(request_seconds=0.05), Metrics())
    assert asyncio.run(engine.link([])) == []
    with pytest.raises(DataError):
        asyncio.run(engine.link(["a"], spans=[[(0, 5)]]))
    with pytest.raises(WaitedTooLongError):
        asyncio.run(engine.link(["a"]))
    with pytest.raises(TimeLimitError):
        asyncio.run(engine.call(lambda: 1))
    engine.stop(1)
    with pytest.raises(UnavailableError):
        asyncio.run(engine.link(["a"]))
