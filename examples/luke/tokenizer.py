"""Tokenizer without special tokens and truncation."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

CACHED_CHARACTERS = 32
CACHED_TOKENS = 6
CACHED_TEXTS = 1 << 18
"""Maximum short texts that are cached, in both directions."""


class PlainTokenizer:
    """Converts text into token ids.

    It uses vocabulary and merges of a LUKE tokenizer without its special tokens. Otherwise ``[MASK]`` in a text would get an id
    for which the model has no row, and ``</s>`` would end the text.

    Args:
        tokenizer: LUKE's tokenizer, byte-level like RoBERTa's.

    Attributes:
        begin, end, pad: ids of the special tokens around and after a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = tokenizer.backend_tokenizer
        self._backend = Tokenizer(backend.model)
        # The caller decides on the space before a word, whatever the setting of the tokenizer.
        self._backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._backend.decoder = backend.decoder
        self.begin, self.end, self.pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        self._cache: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._texts: dict[tuple[int, ...], str] = {}
        self._opens: dict[int, bool] = {}

    def encode(self, text: str, *, space: bool = True) -> list[int]:
        """Ids of a text.

        Args:
            text: any text; trailing spaces are removed.
            space: encode with a leading space, as a word inside a text.
        """
        text = text.rstrip()
        cached = self._cache.get((text, space))
        if cached is not None:
            return list(cached)
        ids: list[int] = self._backend.encode(self._prefixed(text, space)).ids if text else []
        if len(text) <= CACHED_CHARACTERS and len(self._cache) < CACHED_TEXTS:
            self._cache[text, space] = tuple(ids)
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Characters ``[start, end)`` of each token that `encode` makes of a text. Tokens of one character have all of it."""
        stripped = text.rstrip()
        if not stripped:
            return []
        prefixed = self._prefixed(stripped, True)
        added = len(prefixed) - len(stripped)
        return [(max(start - added, 0), end - added) for start, end in self._backend.encode(prefixed).offsets]

    def text(self, ids: Sequence[int]) -> str:
        """Decode ids, with a leading space if the first token has one."""
        key = tuple(ids)
        cached = self._texts.get(key)
        if cached is None:
            cached = self._backend.decode(list(ids), skip_special_tokens=False)
            if len(key) <= CACHED_TOKENS and len(self._texts) < CACHED_TEXTS:
                self._texts[key] = cached
        return cached

    def opens_word(self, token: int) -> bool:
        """Whether a word can begin with this token: it has a leading space, or is punctuation."""
        if token not in self._opens:
            text = self.text([token])
            self._opens[token] = text[:1] == " " or (bool(text) and is_punctuation(text[0]))
        return self._opens[token]

    def _prefixed(self, text: str, space: bool) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")  # JSON may contain half a surrogate pair
        return " " + text if space and not text[0].isspace() else text


def is_punctuation(character: str) -> bool:
    """Punctuation of Unicode, and every ASCII character that is neither letter, digit nor space (``$``, ``+``, ``^``)."""
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_sign or unicodedata.category(character).startswith("P")
