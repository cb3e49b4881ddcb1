"""``blink serve``: links over HTTP."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import (
    FILTER_SECTION,
    MODEL_SECTION,
    RUN_SECTION,
    SCORE_SECTION,
    model_options,
    open_linker,
    where_options,
)
from blink.apps.options import settings_options, take_settings
from blink.apps.sections import SectionedCommand
from blink.extras import require_extra
from blink.machine import set_server_threads
from blink.serving.settings import ServerSettings

SECTIONS = {
    "Server": ("host", "port", "workers", "token_file", "corrections", "log_format"),
    "Who may ask": ("allow_host", "allow_origin"),
    **MODEL_SECTION,
    **SCORE_SECTION,
    **FILTER_SECTION,
    **RUN_SECTION,
    "Limits of requests": ("max_body", "max_texts", "max_characters", "max_spans", "request_seconds", "body_seconds"),
    "Limits of the server": ("max_connections", "queue_texts", "queue_characters", "batch_characters", "drain_seconds"),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@settings_options(ServerSettings, without=("allow_origin", "allow_host", "batch_size"))
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Web origin whose pages may use the server, such as http://127.0.0.1:3333; may be repeated.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Name by which clients may call the server; may be repeated.  [default: any; on 127.0.0.1 the names of this machine]",
)
@where_options
@model_options
def serve(**options: Any) -> None:
    """Answer requests for links over HTTP: on this machine alone, unless --host says otherwise.

    \b
    Examples:
      blink serve
      blink serve --kb my-kb --port 9000 --workers 2 --token-file token.txt
      curl -s localhost:8765/link -d '{"text": "The Nile flows through Egypt."}' -H 'content-type: application/json'
    """
    settings = take_settings(ServerSettings, options)
    set_server_threads()
    for module in ("fastapi", "uvicorn", "prometheus_client", "orjson", "fastapi_offline"):
        require_extra(module, "servers", "serve")
    from blink.serving.run import serve as run

    run(partial(open_linker, **options), settings, say)
