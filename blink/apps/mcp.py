"""``blink mcp``: the linker as tools of language models."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import model_options, open_linker, where_options
from blink.extras import require_extra


@click.command()
@click.option("--allow-edits", is_flag=True, help="Offer the tool that adds entities to the knowledge base.")
@click.option("--http", is_flag=True, help="Serve over HTTP rather than standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --http.")
@click.option("--port", type=click.IntRange(1, 65535), default=8766, show_default=True, help="Port to listen on, with --http.")
@where_options
@model_options
def mcp(allow_edits: bool, http: bool, host: str, port: int, **options: Any) -> None:
    """Let language models link texts: a server of the Model Context Protocol.

    Its tools are link, candidates, explain, resolve and, with --allow-edits, add. Clients start the command themselves: give it
    to them as `blink mcp`. Standard output carries the protocol and nothing else.

    \b
    Examples:
      blink mcp --kb my-kb --allow-edits
      blink mcp --http --port 9000
    """
    require_extra("mcp.server", "servers of MCP", "mcp")
    from blink.pipelines.mcp_server import Transport, serve

    options.pop("batch_size")  # a call has one text
    if http and host not in ("127.0.0.1", "localhost", "::1"):
        say(f"listening on {host}: whoever reaches this machine can use the tools{', and edit' if allow_edits else ''}")
    serve(partial(open_linker, **options), Transport(http, host, port), allow_edits)
