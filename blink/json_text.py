"""JSON from files: what is wrong with it in one line, however deep, long or broken it is."""

from __future__ import annotations

import json
from typing import Any

from blink.limits import exceeded, limit

_FEW_BRACKETS = 8
"""As most lines have: so few are never too deep, and the limit is not looked up for them."""


def loads(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: it is not UTF-8, not JSON, or deeper than the limit ``json_depth``; the message says so and where.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        where = "" if b"\n" in content.strip() else " of the line"
        raise ValueError(f"not UTF-8 (byte {error.start + 1}{where})") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column" if "\n" in text.strip() else "column"
        raise ValueError(f"not JSON ({error.msg} at {where} {error.colno})") from error
    except (ValueError, RecursionError) as error:  # brackets too deep, or a number of thousands of digits
        raise ValueError("not JSON that can be read (nested too deep, or a number too long)") from error
    brackets = content.count(b"[") + content.count(b"{")
    if brackets > _FEW_BRACKETS and brackets > (most := limit("json_depth")) and _is_deeper(value, most):
        raise ValueError(exceeded("json_depth"))
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects are more than ``most`` levels deep."""
    level = [value] if isinstance(value, (list, dict)) else []
    for _ in range(most):
        inner = (child for of in level for child in (of.values() if isinstance(of, dict) else of))
        level = [child for child in inner if isinstance(child, (list, dict))]
        if not level:
            return False
    return True
