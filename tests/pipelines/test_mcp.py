"""The server of MCP, through the client of the official SDK, over the standard streams of a real process and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from blink.linking.linker import Linker

pytest.importorskip("mcp.client.client")
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

TEXT = "Who governed Georgia 0 before Atlanta 2 burned?"
MODES = ["legacy", "auto"]
"""How clients begin: the handshake of earlier versions of the protocol, and the current way."""


def command(folders: Path, *more: str) -> list[str]:
    options = ["--model", str(folders / "model"), "--kb", str(folders / "kb"), "--threshold", "0.01", "--backend", "onnx"]
    return ["-m", "blink.apps.cli", "mcp", *options, *more]


def with_client(folders: Path, log: Path, mode: str, use: Callable[[Client], Awaitable[None]], *more: str) -> None:
    """Start a server, connect to it, and run ``use``."""

    async def run() -> None:
        parameters = StdioServerParameters(command=sys.executable, args=command(folders, *more), env=dict(os.environ))
        with log.open("w") as stderr:
            async with Client(stdio_client(parameters, errlog=stderr), mode=mode) as client:
                await use(client)

    asyncio.run(asyncio.wait_for(run(), 200))


def line_of(result: Any) -> str:
    """The one line of a failed call."""
    (content,) = result.content
    assert result.is_error
    assert "\n" not in content.text
    return str(content.text)


@pytest.fixture(scope="module")
def linker(folders: Path) -> Linker:
    return Linker.from_pretrained(folders / "model", folders / "kb", threshold=0.01, backend="onnx")


def test_tools_over_standard_streams(folders: Path, linker: Linker, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["link", "candidates", "explain", "resolve"]  # none that writes
        assert all(tool.description and tool.annotations.read_only_hint for tool in tools.values())
        assert tools["link"].output_schema["properties"].keys() == {"links", "threshold", "score_kind"}
        assert tools["link"].input_schema["required"] == ["text"]

        result = await client.call_tool("link", {"text": TEXT})
        keys = ("start", "end", "mention", "kb_id", "row", "title", "score")
        got = [tuple(link[key] for key in keys) for link in result.structured_content["links"]]
        assert got == [tuple(getattr(link, key) for key in keys) for link in linker(TEXT).links] != []
        assert json.loads(result.content[0].text) == result.structured_content  # for clients without structured content
        high = await client.call_tool("link", {"text": TEXT, "threshold": 0.99999})
        assert high.structured_content["links"] == []
        where = await client.call_tool("link", {"text": TEXT, "where": "id=Q102"})
        assert {link["kb_id"] for link in where.structured_content["links"]} == {"Q102"}

        alone = (await client.call_tool("candidates", {"name": "atlanta 2"})).structured_content["candidates"]
        assert (alone[0]["title"], alone[0]["match"], alone[0]["score"]) == ("Atlanta 2", "title", None)
        ranked = (await client.call_tool("candidates", {"name": "Atlanta 2", "context": TEXT, "limit": 3})).structured_content
        expected = linker(TEXT, [(30, 39)]).links[0].candidates[:3]
        assert [(c["row"], c["score"]) for c in ranked["candidates"]] == [(c.row, c.score) for c in expected]

        explained = (await client.call_tool("explain", {"text": TEXT, "limit": 1})).structured_content
        assert [m["mention"] for m in explained["mentions"] if m["status"] == "linked"] == [
            m.mention for m in linker(TEXT).links
        ]
        assert max(len(m["candidates"]) for m in explained["mentions"]) == 1

        records = [{"name": "Atlanta 2", "id": "Q102"}, {"name": "Zorblax", "description": "a moon"}]
        resolved = (await client.call_tool("resolve", {"records": records})).structured_content["results"]
        assert [record["name"] for record in resolved] == ["Atlanta 2", "Zorblax"]
        assert (resolved[1]["status"], resolved[1]["kb_id"]) == ("new", None)

        for arguments, words in (
            ({}, "text: Field required"),
            ({"text": 5}, "text: Input should be a valid string"),
            ({"text": "  "}, "the text is empty"),
            ({"text": TEXT, "where": "colour=red"}, "no 'colour' to filter by"),
            ({"text": TEXT, "threshold": "high"}, "threshold: Input should be a valid number"),
        ):
            assert words in line_of(await client.call_tool("link", arguments))
        assert "the context does not contain 'Oslo'" in line_of(
            await client.call_tool("candidates", {"name": "Oslo", "context": TEXT})
        )
        assert "limit: Input should be less than" in line_of(
            await client.call_tool("candidates", {"name": "Oslo", "limit": 999})
        )
        assert "records.0.name: Field required" in line_of(await client.call_tool("resolve", {"records": [{}]}))
        assert "add" in line_of(await client.call_tool("add", {"title": "Zorblax", "description": "a moon"}))

    log = tmp_path / "log"
    with_client(folders, log, "auto", use)
    assert "link: the text is empty" in log.read_text()


def test_entities_are_added_where_edits_are_allowed(folders: Path, tmp_path: Path) -> None:
    linker = Linker.from_pretrained(folders / "model", folders / "kb", backend="onnx")
    linker.kb.save_pretrained(tmp_path / "kb")

    async def use(client: Client) -> None:
        assert "add" in [tool.name for tool in (await client.list_tools()).tools]
        new = {"title": "Zorblax", "description": "A moon.", "id": "X1", "aliases": ["Zorb"], "types": ["moon"]}
        added = (await client.call_tool("add", new)).structured_content
        assert (added["kb_id"], added["row"], added["edit"]) == ("X1", 20, 1)
        found = (await client.call_tool("candidates", {"name": "zorb", "where": "type=moon"})).structured_content["candidates"]
        assert [(c["kb_id"], c["match"], c["types"]) for c in found] == [("X1", "alias", ["moon"])]
        assert "X1" in line_of(await client.call_tool("add", new))  # the id is taken
        assert "the title is blank" in line_of(await client.call_tool("add", {"title": " ", "description": ""}))

    with_client(folders, tmp_path / "log", "legacy", use, "--allow-edits", "--kb", str(tmp_path / "kb"))
    assert len(type(linker.kb).open(tmp_path / "kb").catalogue) == 21


def test_streams_carry_the_protocol_alone(folders: Path) -> None:
    version = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": version},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "link", "arguments": {"text": TEXT}}},
    ]
    process = subprocess.Popen(
        [sys.executable, *command(folders)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("this is no JSON\n" + "".join(json.dumps(request) + "\n" for request in requests))
    process.stdin.flush()
    answers: dict[Any, Any] = {}
    while 2 not in answers:
        answer = json.loads(process.stdout.readline())
        answers[answer.get("id")] = answer
    assert answers[1]["result"]["serverInfo"]["name"] == "blink"
    assert answers[2]["result"]["structuredContent"]["links"]
    process.stdin.close()
    assert process.wait(60) == 0  # the client is gone
    assert process.stdout.read() == ""


def test_what_cannot_start_says_why_in_a_line(
    folders: Path, tmp_path: Path, blink: Callable[..., tuple[int, str, str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = ["--http", "--port", str(taken.getsockname()[1])]
        for more, words in ((["--kb", str(tmp_path)], "is not a knowledge base"), (http, "cannot listen on 127.0.0.1")):
            status, out, err = blink(*command(folders, *more)[2:])
            assert (status, out, err.count("\n")) == (1, "", 1), err
            assert words in err


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_over_http(folders: Path, linker: Linker, mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command(folders, "--http", "--port", str(port))], stderr=subprocess.PIPE, text=True
    )

    async def run() -> None:
        async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
            result = await client.call_tool("link", {"text": TEXT})
            assert [link["row"] for link in result.structured_content["links"]] == [link.row for link in linker(TEXT).links]

    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        asyncio.run(asyncio.wait_for(run(), 100))
    finally:
        process.terminate()
        process.wait(30)
