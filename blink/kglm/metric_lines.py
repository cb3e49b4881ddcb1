"""Metrics as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LONG = frozenset(("by_relation",))
"""Tables too long to be read; files of metrics have them."""


def metric_lines(metrics: Mapping[str, Any], indent: int = 0) -> Iterator[str]:
    """Nested metrics, a line each: numbers of one mapping on one line behind its name."""
    metrics = {k: v for k, v in metrics.items() if k not in LONG}
    numbers = {k: v for k, v in metrics.items() if not isinstance(v, Mapping)}
    if numbers:
        yield " " * indent + "  ".join(f"{key} {_formatted(value)}" for key, value in numbers.items())
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            plain = not any(isinstance(v, Mapping) for v in value.values())
            if plain:
                yield " " * indent + f"{key}: " + "  ".join(f"{k} {_formatted(v)}" for k, v in value.items())
            else:
                yield " " * indent + f"{key}:"
                yield from metric_lines(value, indent + 2)


def _formatted(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
