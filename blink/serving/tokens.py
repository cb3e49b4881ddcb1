"""The token that edits need."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from blink.errors import SettingsError
from blink.input_files import read_text
from blink.serving.errors import ForbiddenError, UnauthorizedError
from blink.serving.service import ReadyService, Service

TOKEN_VARIABLE = "BLINK_TOKEN"
SHORTEST_TOKEN = 16

_bearer = HTTPBearer(auto_error=False, description="The token of --token-file or BLINK_TOKEN.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def read_token(file: str | None) -> str | None:
    """The token that edits need: the first line of a file, or else the variable BLINK_TOKEN; None without either.

    Raises:
        MissingFileError, DataError: the file cannot be read.
        SettingsError: the token is too short.
    """
    if file is None:
        token, name = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if not token:
            return None
    else:
        name = file
        token = read_text(file, "give --token-file a text file with a token").partition("\n")[0]
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        allowed = f"give at least {SHORTEST_TOKEN} letters and digits, such as those of: openssl rand -hex 16"
        raise SettingsError(f"the token in {name} is too short, or has other than printable characters of ASCII; {allowed}")
    return token


def require_token(service: Service, token: str | None) -> None:
    """Check that a caller may edit.

    Raises:
        ForbiddenError: nobody may.
        UnauthorizedError: the token is missing or wrong.
    """
    if service.token is None:
        raise ForbiddenError("edits are off; start the server with --token-file FILE, and send the token")
    given = (token or "").encode("utf-8", "surrogateescape")
    if not secrets.compare_digest(given, service.token.encode()):
        raise UnauthorizedError("the token is missing or wrong; send it as Authorization: Bearer TOKEN")


def editor(service: ReadyService, credentials: Credentials) -> Service:
    """The service, for callers that may edit. Raises as `require_token` does."""
    require_token(service, credentials.credentials if credentials else None)
    return service


EditedService = Annotated[Service, Depends(editor)]
"""Type of the argument by which an endpoint that edits gets the service."""
