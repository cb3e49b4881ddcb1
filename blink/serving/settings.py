"""Settings of the server: where it listens, who may use it, and what a request may ask for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from blink.runs.fields import Line, Positive
from blink.runs.settings import Settings

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
WorkerCount = Annotated[int, Field(ge=1, le=256)]


class ServerSettings(Settings):
    """All settings of `blink serve` that are not the linker's."""

    host: Line = "127.0.0.1"
    """address to listen on; 0.0.0.0 for all"""
    port: Port = 8765
    """port to listen on; 0 for any free one"""
    workers: WorkerCount = 1
    """processes that link, each with a model of its own; they share the files of the knowledge base"""
    token_file: Line | None = None
    """file with the token that edits need; BLINK_TOKEN holds one too; without either nobody edits"""
    corrections: Line | None = None
    """mention file that takes corrections of links"""
    allow_origin: tuple[Line, ...] = ()
    """web origin that may read answers in a browser, such as http://127.0.0.1:3333; may be repeated"""
    allow_host: tuple[Line, ...] = ()
    """name by which clients may call the server; may be repeated; by default any, or this machine's on 127.0.0.1"""
    log_format: Literal["text", "json"] = "text"
    """form of the log on standard error"""
    max_body: Positive = 8 << 20
    """bytes of a request"""
    max_texts: Positive = 1000
    """texts of a request"""
    max_characters: Positive = 1 << 20
    """characters of a text"""
    max_spans: Positive = 2000
    """own mentions of a request"""
    queue_texts: Positive = 10_000
    """texts that may wait to be linked; further requests get status 429"""
    queue_characters: Positive = 16 << 20
    """characters that may wait to be linked; further requests get status 429"""
    batch_characters: Positive = 2048
    """characters that are linked together at most; longer texts are linked apart, so that they delay no short ones"""
    request_seconds: Seconds = 60.0
    """time for a request, its wait included"""
    body_seconds: Seconds = 30.0
    """time in which a client must have sent its request"""
    drain_seconds: Seconds = 30.0
    """time for the requests that are accepted when the server is stopped"""
    batch_size: Positive = 64
    """windows of texts that go through the model at once"""
    max_connections: Positive = 1000
    """open connections of a process"""
