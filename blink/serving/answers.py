"""Bodies of requests and answers, and errors as one line of JSON with the right status."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from blink.data.display import one_line
from blink.errors import BlinkError, BusyError
from blink.serving.errors import ServingError

JSON = "application/json"
LONGEST_ERROR = 500


class Body(BaseModel):
    """A JSON object of a request or an answer; unknown fields are refused, since they are slips of the pen."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class ErrorAnswer(Body):
    """An error."""

    error: str
    """What was found, what is allowed, and what to do, in a line."""


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of JSON. Numbers that JSON does not have, such as NaN, become null."""
    try:
        body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # half of a surrogate pair, or a whole number of more than 64 bits
        body = json.dumps(content).encode()
    return Response(body, status, headers, media_type=JSON)


def error_answer(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON, in a line of limited length."""
    line = one_line(message, LONGEST_ERROR).encode("utf-8", "backslashreplace").decode("utf-8")
    return answer({"error": line}, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Answer all errors in one form."""
    app.add_exception_handler(BlinkError, _of_blink)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def refusal(error: BlinkError) -> Response:
    """An error of ours, with the status of its kind, as an answer."""
    if isinstance(error, ServingError):
        wait = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return error_answer(str(error), error.status, wait | challenge)
    if isinstance(error, BusyError):
        return error_answer(str(error), 503, {"Retry-After": "1"})
    return error_answer(str(error), 400)


async def _of_blink(request: Request, error: Exception) -> Response:
    assert isinstance(error, BlinkError)
    return refusal(error)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_answer(_validation_line(error.errors()[0]), 422)


def _validation_line(fault: dict[str, Any]) -> str:
    location = [str(name) for name in fault["loc"] if name not in ("body", "query", "path")]
    where = ".".join(location)
    if fault["type"] == "json_invalid":
        return f"the body is not JSON ({fault.get('ctx', {}).get('error', fault['msg'])}); send an object"
    if fault["type"] == "extra_forbidden":
        return f"there is no field {where!r}; /docs lists the fields"
    if fault["type"] == "missing":
        return f"{where or 'the body'} is missing; /docs shows an example"
    return f"{where or 'the body'}: {fault['msg']}; /docs shows an example"


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: "there is nothing here; /docs lists the addresses", 405: f"{request.method} is not possible here; see /docs"}
    return error_answer(known.get(error.status_code, str(error.detail)), error.status_code, dict(error.headers or {}))
