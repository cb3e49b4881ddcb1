"""The windows stage: long texts are read in windows, of whole sentences or of a fixed length; requested spans get one each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from blink.data.sentences import LINE_ENDS, TEXT, boundaries
from blink.data.windows import Window, WindowSizes, pack_sentences, split_into_windows, window_overlap
from blink.errors import DataError
from blink.linking.analysis import TokenizedText, WindowInput, has_capitals
from blink.linking.spans import CharacterSpan
from blink.model.tokenizer import Tokenizer


class Windows:
    """Makes model inputs of texts.

    Args:
        tokenizer: whose special tokens frame an input.
        context_length: tokens of an input, ``[CLS]`` and ``[SEP]`` included.
        max_mention_length: longest span that must fit in a window, in tokens less one.
        window_length: tokens of a window of whole sentences, special tokens included, which only a longer sentence exceeds;
            0 for windows of ``context_length`` tokens that overlap.
    """

    def __init__(self, tokenizer: Tokenizer, context_length: int, max_mention_length: int, window_length: int = 0) -> None:
        self.tokenizer = tokenizer
        self.room = context_length - 2
        self.overlap = window_overlap(self.room, max_mention_length)
        self.target = min(window_length - 2, self.room) if window_length else None

    def inputs(self, texts: Sequence[TokenizedText]) -> list[list[WindowInput]]:
        """The windows of each text; a text without tokens has none."""
        return [list(self._split(text)) for text in texts]

    def requested(self, texts: Sequence[TokenizedText], spans: Sequence[Sequence[CharacterSpan]]) -> list[list[WindowInput]]:
        """A window for each requested span, with as much context as there is, on both sides.

        Raises:
            DataError: a span is outside its text, or holds no token.
        """
        return [[self._around(text, *span) for span in of_text] for text, of_text in zip(texts, spans, strict=True)]

    def _split(self, text: TokenizedText) -> Iterator[WindowInput]:
        n_tokens = len(text.encoding.ids)
        if self.target is None:
            yield from (self._input(text, window) for window in split_into_windows(n_tokens, self.room, self.overlap))
            return
        if n_tokens <= self.target and not text.is_cased and LINE_ENDS.isdisjoint(text.text):
            yield from [self._input(text, Window(0, n_tokens))] if n_tokens else []
            return
        bounds, ranks = _token_bounds(text)
        joins = set(bounds[ranks == TEXT].tolist())
        for window in pack_sentences(n_tokens, bounds, ranks, WindowSizes(self.room, self.target, self.overlap)):
            yield self._input(text, window, is_joined=not joins.isdisjoint((window.start, window.end)))

    def _input(
        self, text: TokenizedText, window: Window, requested: tuple[int, int] | None = None, is_joined: bool = False
    ) -> WindowInput:
        encoding = text.encoding
        # Without a capital letter in the window, lower case tells nothing, whatever the rest of the text is like.
        codes = encoding.codes if has_capitals(text.text, encoding.offsets, window) else encoding.ids
        ids = [self.tokenizer.cls_id, *codes[window.start : window.end].tolist(), self.tokenizer.sep_id]
        return WindowInput(text, window, ids, requested, is_joined)

    def _around(self, text: TokenizedText, start: int, end: int) -> WindowInput:
        first, past = _tokens_of(text, start, end)
        n_tokens, past = len(text.encoding.ids), min(past, first + self.room)
        begin = max(0, min(first - (self.room - (past - first)) // 2, n_tokens - self.room))
        window = Window(begin, min(begin + self.room, n_tokens))
        return self._input(text, window, (first - begin + 1, min(past, window.end) - begin))


def _token_bounds(text: TokenizedText) -> tuple[np.ndarray, np.ndarray]:
    """Tokens before which a text may be split, ascending, and the ranks of these boundaries. *Shape:* (b,), int64, each."""
    sites = list(boundaries(text.text))
    if not sites:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at = np.searchsorted(text.encoding.offsets[:, 0], [site.at for site in sites])
    bounds, indices = np.unique(at, return_inverse=True)
    ranks = np.zeros(len(bounds), dtype=np.int64)
    np.maximum.at(ranks, indices, np.array([site.rank for site in sites], dtype=np.int64))
    inside = (bounds > 0) & (bounds < len(text.encoding.ids))
    return bounds[inside], ranks[inside]


def _tokens_of(text: TokenizedText, start: int, end: int) -> tuple[int, int]:
    """Tokens ``[first, past)`` that a span of characters overlaps."""
    if not 0 <= start < end <= len(text.text):
        raise DataError(
            f"span [{start}, {end}) lies outside the text of {len(text.text)} characters, or is empty; give character offsets"
        )
    tokens = text.encoding.tokens_of(start, end)
    if tokens is None:
        raise DataError(
            f"span [{start}, {end}) ({text.text[start:end]!r}) holds nothing to read; give a span with letters or digits"
        )
    return tokens
