"""The starter's linker, once for all tests of the server, and a client of an application over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from blink.linking.linker import Linker
from blink.serving.app import create_app
from blink.serving.service import Service


@pytest.fixture(scope="session")
def starter_linker(starter: Path) -> Linker:
    """The linker of `blink.load()`."""
    return Linker.from_pretrained()


@pytest.fixture(scope="session")
def starter_client(starter_linker: Linker) -> Iterator[TestClient]:
    """A client of an application over the starter; errors of the server are answers."""
    with TestClient(create_app(Service.of(starter_linker)), raise_server_exceptions=False) as client:
        yield client
