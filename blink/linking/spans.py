"""Parses the spans of callers: pairs, labelled spans, mappings, numpy arrays, mentions and links."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from blink.data.records import Link, Mention
from blink.errors import DataError

CharacterSpan: TypeAlias = tuple[int, int]
"""Characters ``[start, end)`` of a text."""
SpanLike: TypeAlias = Sequence[Any] | Mapping[str, Any] | np.ndarray | Mention | Link
"""Types that `character_span` accepts."""
_REMEDY = "give (start, end), (start, end, label), or a mapping with 'start' and 'end'"


def character_spans(spans: Iterable[SpanLike] | np.ndarray) -> tuple[CharacterSpan, ...]:
    """The spans of one text; see `character_span`."""
    if isinstance(spans, str | bytes | Mapping) or not isinstance(spans, Iterable):
        raise DataError(f"the spans of a text are {spans!r:.60}; give a list of spans, perhaps an empty one")
    return tuple(map(character_span, spans))


def character_span(span: SpanLike) -> CharacterSpan:
    """A span as two integers.

    Args:
        span: ``(start, end)`` or ``(start, end, label)``, a mapping with the keys ``start`` and ``end``, a row of a numpy
            array, a `Mention` or a `Link`. Labels are ignored. Floats count if they are whole numbers.

    Raises:
        DataError: it is something else.
    """
    if isinstance(span, Mention | Link):
        return span.start, span.end
    if isinstance(span, Mapping):
        if not {"start", "end"} <= span.keys():
            raise DataError(f"a span has the keys {', '.join(map(repr, span)) or 'none'}; {_REMEDY}")
        return _offset(span["start"], span), _offset(span["end"], span)
    if isinstance(span, str | bytes) or not isinstance(span, Sequence | np.ndarray) or len(span) not in (2, 3):
        raise DataError(f"a span is {span!r:.60}; {_REMEDY}")
    return _offset(span[0], span), _offset(span[1], span)


def _offset(value: Any, span: object) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and float(value).is_integer():
        return int(float(value))
    raise DataError(f"offset {value!r} of the span {span!r:.60} is no whole number; give character offsets as integers")
