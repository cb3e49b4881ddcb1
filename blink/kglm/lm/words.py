"""Texts and names to words: lower-cased, without ASCII punctuation."""

from __future__ import annotations

import string

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def text_words(line: str) -> list[str]:
    """Words of a line of text.

    A token that contains ``_`` is split there and keeps its other punctuation; of any other, ASCII punctuation is deleted.
    Nothing is left of a token that was punctuation alone.
    """
    words: list[str] = []
    for token in line.lower().split():
        words.extend(token.split("_") if "_" in token else [token.translate(_NO_PUNCTUATION)])
    return [word for word in words if word]


def name_words(name: str) -> list[str]:
    """Words of the name of an entity or relation: split at blanks and ``_``, then without ASCII punctuation."""
    return [word for word in (part.translate(_NO_PUNCTUATION) for part in name.lower().replace("_", " ").split()) if word]


def surface_text(text: str) -> str:
    """The text of a summary file (``.sm``) without its annotations: of ``@surface/...`` only the surface is kept."""
    return " ".join(_surface(token) for token in text.split())


def _surface(token: str) -> str:
    return token[1:].split("/", 1)[0] if token.startswith("@") and len(token) > 1 else token
