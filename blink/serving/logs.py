"""The log on standard error: a line a request and a line an event, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

from blink.terminal import escaped


class TextLines(logging.Formatter):
    """``12:00:01 POST /link 200 12.3 ms`` for a request, the message for anything else."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        clock, fields = datetime.fromtimestamp(record.created).strftime("%H:%M:%S"), _fields(record)
        if fields:
            return f"{clock} {fields['method']} {fields['path']} {fields['status']} {fields['ms']} ms"
        line = f"{clock} {record.levelname.lower()}: {escaped(record.getMessage())}"
        return line if not record.exc_info else f"{line}\n{escaped(self.formatException(record.exc_info))}"


class JsonLines(logging.Formatter):
    """An object a line: ``time``, ``level``, ``event``, and what is known of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        values = {"time": time, "level": record.levelname.lower(), "event": record.getMessage(), **_fields(record)}
        if record.exc_info:
            values["trace"] = self.formatException(record.exc_info)
        return escaped(json.dumps(values, ensure_ascii=False))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def set_up(log_format: str) -> None:
    """Write the log of this process to standard error.

    Args:
        log_format: ``text`` or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    for name in ("blink", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "blink" else logging.ERROR)
