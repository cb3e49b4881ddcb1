"""Split texts and names into words: lower-cased, without ASCII punctuation."""

from __future__ import annotations

import string

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def text_words(line: str) -> list[str]:
    """Words of a line of text.

    A token that contains ``_`` is split there and keeps its other punctuation. ASCII punctuation is deleted from all other
    tokens. A token of punctuation only gives no word.
    """
    words: list[str] = []
    for token in line.lower().split():
        words.extend(token.split("_") if "_" in token else [token.translate(_NO_PUNCTUATION)])
    return [word for word in words if word]


def name_words(name: str) -> list[str]:
    """Words of the name of an entity or relation: split at blanks and ``_``, then without ASCII punctuation."""
    return [word for word in (token.translate(_NO_PUNCTUATION) for token in name.lower().replace("_", " ").split()) if word]


def surface_text(text: str) -> str:
    """Remove the annotations of a summary file (``.sm``): ``@surface/...`` becomes ``surface``."""
    return " ".join(_surface(token) for token in text.split())


def _surface(token: str) -> str:
    return token[1:].split("/", 1)[0] if token.startswith("@") and len(token) > 1 else token
