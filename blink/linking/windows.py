"""The windows stage: texts longer than one input are read in overlapping windows, requested spans get a window each."""

from __future__ import annotations

from collections.abc import Sequence

from blink.data.windows import Window, split_into_windows, window_overlap
from blink.errors import DataError
from blink.linking.analysis import TokenizedText, WindowInput
from blink.linking.spans import CharacterSpan
from blink.model.tokenizer import Tokenizer


class Windows:
    """Makes model inputs of texts.

    Args:
        tokenizer: whose special tokens frame an input.
        context_length: tokens of an input, ``[CLS]`` and ``[SEP]`` included.
        max_mention_length: longest span that must fit in a window, in tokens less one.
    """

    def __init__(self, tokenizer: Tokenizer, context_length: int, max_mention_length: int) -> None:
        self.tokenizer = tokenizer
        self.room = context_length - 2
        self.overlap = window_overlap(self.room, max_mention_length)

    def inputs(self, texts: Sequence[TokenizedText]) -> list[list[WindowInput]]:
        """The windows of each text; a text without tokens has none."""
        return [
            [self._input(text, window) for window in split_into_windows(len(text.encoding.ids), self.room, self.overlap)]
            for text in texts
        ]

    def requested(self, texts: Sequence[TokenizedText], spans: Sequence[Sequence[CharacterSpan]]) -> list[list[WindowInput]]:
        """A window for each requested span, with as much context as there is, on both sides.

        Raises:
            DataError: a span is outside its text, or holds no token.
        """
        return [[self._around(text, *span) for span in of_text] for text, of_text in zip(texts, spans, strict=True)]

    def _input(self, text: TokenizedText, window: Window, requested: tuple[int, int] | None = None) -> WindowInput:
        ids = text.encoding.codes[window.start : window.end].tolist()
        return WindowInput(text, window, [self.tokenizer.cls_id, *ids, self.tokenizer.sep_id], requested)

    def _around(self, text: TokenizedText, start: int, end: int) -> WindowInput:
        first, past = _tokens_of(text, start, end)
        n_tokens, past = len(text.encoding.ids), min(past, first + self.room)
        begin = max(0, min(first - (self.room - (past - first)) // 2, n_tokens - self.room))
        window = Window(begin, min(begin + self.room, n_tokens))
        return self._input(text, window, (first - begin + 1, min(past, window.end) - begin))


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
