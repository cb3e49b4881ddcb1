"""A server of the Model Context Protocol, by which language models use a linker as a tool.

On standard input and output, which carry nothing but the protocol, or over HTTP on this machine. The log is on standard error.
"""

from __future__ import annotations

import functools
import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import ToolAnnotations
from pydantic import ValidationError

from blink import __version__
from blink.data.display import one_line
from blink.errors import BlinkError, SettingsError
from blink.linking.linker import Linker
from blink.pipelines.mcp_tools import LinkerTools

logger = logging.getLogger(__name__)

WAIT_S = 5.0
"""Seconds for which the start of the server waits for its linker; then the first call does."""
INSTRUCTIONS = (
    "Links names in texts to the entities of one knowledge base, with ids that do not change. Use link for texts, candidates "
    "to look a name up, explain for links that look wrong, and resolve for lists of things."
)
READS = ("link", "candidates", "explain", "resolve")
WRITES = ("add",)
_TITLES = {
    "link": "Link a text",
    "candidates": "Entities of a name",
    "explain": "Explain links",
    "resolve": "Resolve records",
    "add": "Add an entity",
}


@dataclass(frozen=True)
class Transport:
    """How clients reach the server.

    Attributes:
        http: over HTTP rather than standard input and output.
        host: address that it listens on.
        port: of the address.
    """

    http: bool = False
    host: str = "127.0.0.1"
    port: int = 8766


class LinkerServer(MCPServer):
    """A server whose tools fail with one line that says what was wrong."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool by name, as of `MCPServer.call_tool`."""
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            cause = error.__cause__
            text = _faults(cause) if isinstance(cause, ValidationError) else one_line(str(cause or error))
            raise ToolError(text) from cause


def _faults(error: ValidationError) -> str:
    """The faults of arguments on one line."""
    faults = (f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in error.errors())
    return one_line("; ".join(faults))


def make_server(tools: LinkerTools, allow_edits: bool = False) -> MCPServer:
    """The server of a linker; ``allow_edits`` offers the tools that write, too."""
    server = LinkerServer(
        "blink", title="BLINK entity linker", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    for name in (*READS, *(WRITES if allow_edits else ())):
        hints = ToolAnnotations(read_only_hint=name in READS, destructive_hint=False, open_world_hint=False)
        server.add_tool(_reported(getattr(tools, name)), name=name, title=_TITLES[name], annotations=hints)
    return server


def _reported(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, with its calls in the log, and its mistakes as errors of a tool."""

    @functools.wraps(tool)
    def call(**arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            result = tool(**arguments)
        except BlinkError as error:
            logger.info("%s: %s", tool.__name__, one_line(str(error)))
            raise ToolError(str(error)) from error
        logger.info("%s: %.0f ms", tool.__name__, 1000 * (time.perf_counter() - started))
        return result

    return call


def serve(open_linker: Callable[[], Linker], transport: Transport, allow_edits: bool = False) -> None:
    """Serve until the client closes the connection, or the process is stopped.

    Args:
        open_linker: opens the linker.
        transport: how clients reach it.
        allow_edits: offer the tools that write.

    Raises:
        BlinkError: the linker cannot be opened.
        SettingsError: the port is taken.
    """
    if transport.http:
        _require_free(transport)
    tools = LinkerTools.over(open_linker, WAIT_S)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("blink").setLevel(logging.INFO)
    server = make_server(tools, allow_edits)
    if not transport.http:
        server.run("stdio")
        return
    logger.info("serving MCP at http://%s:%d/mcp", transport.host, transport.port)
    server.run("streamable-http", host=transport.host, port=transport.port)


def _require_free(transport: Transport) -> None:
    try:
        with socket.create_server((transport.host, transport.port)):
            pass
    except OSError as error:
        where = f"{transport.host}:{transport.port}"
        raise SettingsError(f"the server cannot listen on {where} ({error.strerror}); give another --port or --host") from error
