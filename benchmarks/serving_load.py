"""Clients that load a server and check each answer against what its request must get."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from blink.data.records import LinkedText

SCORE_TOLERANCE = 2e-3
"""Scores of a text differ by the batch that it is in, in the last digits of single precision."""
NAME_LETTERS = "bcdfghjklmnpqrstvwxz"


class LostError(Exception):
    """A connection ended without an answer to a request that was sent on it."""


class WrongError(Exception):
    """An answer is not what its request must get."""


class Connection:
    """A connection of HTTP/1.1 that stays open."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.port = 0

    async def open(self) -> None:
        """Connect, unless it is open."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
            self.port = self._streams[1].get_extra_info("sockname")[1]

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer.

        Raises:
            LostError: there is none.
        """
        await self.open()
        assert self._streams is not None
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{self._authorization}Content-Length: {len(content)}\r\n"
        try:
            writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            answer = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise LostError(f"{method} {path}") from error
        if "connection: close" in lines:
            self.close()
        return int(lines[0].split(" ")[1]), json.loads(answer)

    def close(self) -> None:
        """Close it; the next request connects again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Texts:
    """The texts of the load, by kind, with their links by the linker itself."""

    linked: dict[str, list[LinkedText]]

    def pick(self, kind: str, draw: random.Random) -> LinkedText:
        """One of a kind."""
        return draw.choice(self.linked[kind])


@dataclass
class Counts:
    """What became of requests.

    Attributes:
        outcomes: ``right``, ``wrong``, ``lost`` and ``refused``, by how many.
        seconds: to the answer, by kind of request.
        lost: time, port of the connection, and request of each that was lost.
        wrong: the first few answers that were not what they must be.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    lost: list[tuple[float, int, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, begin: float) -> None:
        """Count an answered request."""
        self.outcomes["right"] += 1
        self.seconds.setdefault(kind, []).append(time.perf_counter() - begin)


Request = Callable[[Connection, Counts, float], Awaitable[None]]
"""Sends requests on a connection and checks the answers; its last argument is when the first was due."""


class Load:
    """Draws requests.

    Args:
        texts: to link.
        weights: of the kinds of requests: ``one``, ``eight``, ``spans``, ``medium``, ``long`` and ``edit``.
        seed: of the draws.
    """

    def __init__(self, texts: Texts, weights: dict[str, float], seed: int) -> None:
        self._texts, self._weights, self._draw = texts, weights, random.Random(seed)
        self._n_entities, self._seed = 0, seed

    def next(self) -> Request:
        """The next request, or several of one edit."""
        (kind,) = self._draw.choices(list(self._weights), list(self._weights.values()))
        if kind == "edit":
            self._n_entities += 1
            name = "".join(self._draw.choices(NAME_LETTERS, k=9)).capitalize()
            return lambda connection, counts, due: _edit(connection, counts, due, name, f"{self._seed}-{self._n_entities}")
        pool = {"eight": "one", "spans": "one"}.get(kind, kind)
        expected = [self._texts.pick(pool, self._draw) for _ in range(8 if kind == "eight" else 1)]
        return lambda connection, counts, due: _link(connection, counts, due, kind, expected)


async def _link(connection: Connection, counts: Counts, due: float, kind: str, expected: Sequence[LinkedText]) -> None:
    body: dict[str, Any] = {"texts": [linked.text for linked in expected], "candidates": 1, "descriptions": False}
    if kind == "spans":
        body["spans"] = [[[link.start, link.end] for link in linked.links] for linked in expected]
    answer = await _answer(connection, counts, "POST", "/link", body)
    if answer is None:
        return
    for result, linked in zip(answer["results"], expected, strict=True):
        _check(result["text"] == linked.text, f"the answer is about another text: {result['text']:.80}")
        links = [(link["start"], link["end"]) for link in result["links"]]
        _check(links == [(link.start, link.end) for link in linked.links], f"other links of {linked.text:.200}: {links}")
        for link, other in zip(result["links"], linked.links, strict=True):
            same = kind == "spans" or (link["row"] == other.row and abs(link["score"] - other.score) < SCORE_TOLERANCE)
            _check(same, f"another link of {linked.text:.200}: {link}, not {other}")
    counts.note(kind, due)


async def _edit(connection: Connection, counts: Counts, due: float, name: str, kb_id: str) -> None:
    """Add an entity, link its name, change it, read it, remove it, and see that it is gone."""
    entity = {"title": name, "text": f"A made-up thing, number {kb_id}.", "kb_id": f"bench-{kb_id}"}
    added = await _answer(connection, counts, "POST", "/entities", entity, status=201)
    if added is None:
        return
    row = added["entity"]["row"]
    counts.note("add", due)
    begin = time.perf_counter()
    text = f"We saw {name} again."
    body = {"text": text, "spans": [[7, 7 + len(name)]], "where": f"id=bench-{kb_id}"}
    answer = await _answer(connection, counts, "POST", "/link", body)
    rows = None if answer is None else [link["row"] for link in answer["results"][0]["links"]]
    _check(rows in (None, [row]), f"{name} is linked to {rows}, not to {row}")
    counts.note("link to it", begin)
    begin = time.perf_counter()
    await _answer(connection, counts, "PATCH", f"/entities/bench-{kb_id}", {"tags": [f"tag-{kb_id}"]})
    counts.note("update", begin)
    begin = time.perf_counter()
    shown = await _answer(connection, counts, "GET", f"/entities/bench-{kb_id}")
    _check(shown is None or (shown["tags"], shown["row"]) == ([f"tag-{kb_id}"], row), f"{name} was not updated: {shown}")
    counts.note("get", begin)
    begin = time.perf_counter()
    await _answer(connection, counts, "DELETE", f"/entities/bench-{kb_id}")
    counts.note("remove", begin)
    begin = time.perf_counter()
    answer = await _answer(connection, counts, "POST", "/link", body)
    _check(answer is None or answer["results"][0]["links"] == [], f"{name} is linked though it was removed")
    counts.note("link to none", begin)


async def _answer(
    connection: Connection, counts: Counts, method: str, path: str, body: Any = None, *, status: int = 200
) -> Any:
    """The JSON of an answer; None where the server had no time for the request."""
    got, answer = await connection.ask(method, path, body)
    if got in (429, 503, 504):
        counts.outcomes["refused"] += 1
        return None
    _check(got == status, f"{method} {path} has status {got}: {answer}")
    return answer


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise WrongError(message)


async def _run(request: Request, connection: Connection, counts: Counts, due: float) -> None:
    try:
        await request(connection, counts, due)
    except LostError as error:
        counts.outcomes["lost"] += 1
        counts.lost.append((time.time(), connection.port, str(error)))
    except (WrongError, ValueError, KeyError, TypeError) as error:
        counts.outcomes["wrong"] += 1
        counts.wrong = [*counts.wrong, repr(error)][:20]
    except OSError:
        counts.outcomes["not connected"] += 1
        await asyncio.sleep(0.05)


async def closed_loop(url: str, token: str, loads: Sequence[Load], seconds: float, counts: Counts) -> float:
    """A client for each load sends a request as soon as it has the answer to the last; requests (right ones) a second."""
    before, begin = counts.outcomes["right"], time.perf_counter()

    async def client(load: Load) -> None:
        connection = Connection(url, token)
        while time.perf_counter() - begin < seconds:
            await _run(load.next(), connection, counts, time.perf_counter())
        connection.close()

    await asyncio.gather(*(client(load) for load in loads))
    return (counts.outcomes["right"] - before) / (time.perf_counter() - begin)


async def open_loop(url: str, token: str, load: Load, rate: float, seconds: float, counts: Counts) -> None:
    """Requests that are due at random times, ``rate`` a second on average, whatever became of earlier ones."""
    draw, idle, tasks = random.Random(7), list[Connection](), set[asyncio.Task[None]]()

    @asynccontextmanager
    async def connection() -> AsyncIterator[Connection]:
        one = idle.pop() if idle else Connection(url, token)
        yield one
        idle.append(one)

    async def send(request: Request, due: float) -> None:
        async with connection() as one:
            await _run(request, one, counts, due)

    begin = due = time.perf_counter()
    while due - begin < seconds:
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.ensure_future(send(load.next(), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for one in idle:
        one.close()
