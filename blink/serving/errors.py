"""What a server says when it cannot answer, with the HTTP status of each kind of error."""

from __future__ import annotations

from blink.errors import BlinkError


class ServingError(BlinkError):
    """A request that is not answered; the status of its answer is `status`."""

    status = 400
    retry_after_s: int | None = None


class OverloadedError(ServingError):
    """The queue is full."""

    status, retry_after_s = 429, 1


class UnavailableError(ServingError):
    """The linker is not loaded yet, or the server stops."""

    status, retry_after_s = 503, 1


class WaitedTooLongError(ServingError):
    """The time of a request was over before anything was linked."""

    status, retry_after_s = 503, 1


class TimeLimitError(ServingError):
    """The time of a request was over while it was linked."""

    status = 504


class ForbiddenError(ServingError):
    """Edits are off, or the caller may not use the server."""

    status = 403


class UnauthorizedError(ServingError):
    """The token is missing or wrong."""

    status = 401


class UnknownEntityError(ServingError):
    """There is no such entity."""

    status = 404


class SlowBodyError(ServingError):
    """A client did not send its request in time."""

    status = 408


class TooLargeError(ServingError):
    """A request has more than it may have."""

    status = 413


class UnsupportedMediaError(ServingError):
    """The body has a form that the endpoint does not read."""

    status = 415
