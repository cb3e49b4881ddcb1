"""Rows of a mention file made ready for linking.

Positions of a row are those of its tokens, without ``[CLS]``. Two ways lead to a `Row`: `RowMaker.row`, which is
what one wants, and `RowMaker.row_like_elq`, which repeats the original's release E with its oddities (``--compat elq``):

* predictions are moved to the whole text by searching for the window in it, which may find an earlier repetition;
* gold that the window leaves out is not counted, and where the window cuts tokens on the left but drops no mention, gold
  is reported in positions of the window;
* a text without labels is never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from blink.data.mention_files import bind
from blink.data.records import Mention, Sample, TokenMention
from blink.data.windows import GoldWindow, Window, split_into_windows, window_around_gold
from blink.errors import DataError
from blink.kb.catalogue import Catalogue
from blink.model.tokenizer import Encoding, Tokenizer

Gold: TypeAlias = tuple[int, int, int]
"""Start, end (exclusive) and catalogue row of a gold mention."""


@dataclass(frozen=True)
class Row:
    """A row as it is linked.

    Attributes:
        sample: what the file says.
        ids: tokens of the whole text.
        windows: what of them the model reads; the whole text where the linker splits it itself.
        stored: whether ``ids`` are those of the file, rather than made from the text.
        offset: added to a position in the windows to give the one that is reported.
        gold: gold mentions as they are reported and counted; None where the row has no labels.
        gold_in_window: those the model can see, in positions of the windows.
    """

    sample: Sample
    ids: tuple[int, ...]
    windows: tuple[Window, ...]
    stored: bool
    offset: int = 0
    gold: tuple[Gold, ...] | None = None
    gold_in_window: tuple[Gold, ...] = ()

    @property
    def start(self) -> int:
        """Where in ``ids`` the windows begin."""
        return self.windows[0].start if self.windows else 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens that the model reads."""
        return self.ids[self.start : self.windows[-1].end] if self.windows else ()


class RowMaker:
    """Makes rows of samples.

    Args:
        tokenizer: of the model.
        catalogue: gold rows are looked up in it where the file was made for another.
        context_length: input length of the model.
        overlap: of windows over long texts.
        position_limit: longest input that the model has positions for.
        from_text: tokenize labelled texts again rather than take the file's tokens, where both are there.
        insist: take the file's tokens, and nothing else.
        whole: let a row's window be its whole text; mentions that are given each get a window of their own later.
        truncates: with the original's way, keep the beginning of unlabelled texts longer than the model reads.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        catalogue: Catalogue,
        *,
        context_length: int,
        overlap: int,
        position_limit: int,
        from_text: bool = False,
        insist: bool = False,
        whole: bool = False,
        truncates: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._catalogue = catalogue
        self._length = context_length
        self._overlap = overlap
        self._limit = position_limit
        self._from_text = from_text
        self._insist = insist
        self._whole = whole
        self._truncates = truncates

    def row(self, sample: Sample) -> Row:
        """A row whose gold is all that the file says, in positions of the whole text.

        Raises:
            DataError: stored tokens are insisted on and missing, or the text is no text.
        """
        sample = next(bind([sample], self._catalogue))
        if not self._takes_stored(sample):
            return self._row_of_text(sample)
        ids, gold = self._stored(sample), _stored_gold(sample)
        if self._whole:
            in_order = None if gold is None else tuple(sorted(gold))
            return Row(sample, ids, (Window(0, len(ids)),), True, 0, in_order, in_order or ())
        if not gold:
            windows = split_into_windows(len(ids), self._length - 2, self._overlap)
            return Row(sample, ids, tuple(windows), True, gold=None if gold is None else ())
        gold_window = window_around_gold(len(ids), [(s, e) for s, e, _ in gold], self._length)
        start = gold_window.window.start
        return Row(sample, ids, (gold_window.window,), True, start, tuple(sorted(gold)), _visible(gold_window, gold))

    def row_like_elq(self, sample: Sample, labelled: bool) -> Row:
        """A row as release E makes it; whether the file is labelled is decided by its first row.

        Raises:
            DataError: a labelled row lacks its tokens or labels, or a text has more tokens than the model positions.
        """
        if not labelled:
            ids = tuple(self._tokenize(sample).ids.tolist())
            ids = ids[: self._limit - 2] if self._truncates else ids
            if len(ids) + 2 > self._limit:
                raise DataError(
                    f"row {sample.id!r} has {len(ids)} tokens and is not cut with --compat elq; the model reads "
                    f"{self._limit - 2}: shorten it, or leave --compat elq out"
                )
            return Row(sample, ids, (Window(0, len(ids)),), False)
        if sample.token_ids is None or sample.token_mentions is None:
            raise DataError(
                f"row {sample.id!r} lacks 'tokenized_text_ids' or 'tokenized_mention_idxs', which --compat elq needs in a "
                "file whose first row is labelled; add them, or leave --compat elq out"
            )
        ids, gold = self._stored(sample), [(m.start, m.end, m.row) for m in sample.token_mentions]
        gold_window = window_around_gold(len(ids), [(s, e) for s, e, _ in gold], self._length)
        offset = _first_position(ids[gold_window.window.start : gold_window.window.end], ids)
        reported = self._elq_gold(gold_window, gold)
        return Row(sample, ids, (gold_window.window,), True, offset, reported, _visible(gold_window, gold))

    def _elq_gold(self, gold_window: GoldWindow, gold: Sequence[Gold]) -> tuple[Gold, ...]:
        visible = [gold[i] for i in gold_window.mentions]
        room = self._length - 2
        shift = gold_window.window.start if len(visible) == len(gold) else 0
        # A single mention that is too long was shortened before.
        return tuple((s - shift, min(e, s + room if len(visible) == 1 else e) - shift, row) for s, e, row in visible)

    def _takes_stored(self, sample: Sample) -> bool:
        if sample.token_ids is None:
            if self._insist:
                raise DataError(f"row {sample.id!r} has no 'tokenized_text_ids', which -n joint_all_ents_pretokenized needs")
            return False
        if self._insist or not sample.text:
            return True
        return sample.token_mentions is not None and not (self._from_text and sample.mentions is not None)

    def _stored(self, sample: Sample) -> tuple[int, ...]:
        ids = sample.token_ids or ()
        try:
            self._tokenizer.require_known(ids)
        except DataError as error:
            raise DataError(f"row {sample.id!r}: {error}") from error
        return ids

    def _row_of_text(self, sample: Sample) -> Row:
        encoding = self._tokenize(sample)
        gold = None if sample.mentions is None else tuple(sorted(_token_span(m, encoding) for m in sample.mentions))
        return Row(sample, tuple(encoding.ids.tolist()), (Window(0, len(encoding.ids)),), False, 0, gold, gold or ())

    def _tokenize(self, sample: Sample) -> Encoding:
        try:
            return self._tokenizer.tokenize([sample.text])[0]
        except DataError as error:
            raise DataError(f"row {sample.id!r}: {error}") from error


def _stored_gold(sample: Sample) -> list[Gold] | None:
    if sample.token_mentions is None:
        return None
    # Only the mentions in characters carry ids, by which they were looked up in this catalogue.
    source: Sequence[Mention | TokenMention] = sample.token_mentions if sample.mentions is None else sample.mentions
    if len(source) != len(sample.token_mentions):
        counts = f"{len(source)} and {len(sample.token_mentions)}"
        raise DataError(f"row {sample.id!r}: 'mentions' and 'tokenized_mention_idxs' must be of one length; found {counts}")
    return [(t.start, t.end, m.row) for t, m in zip(sample.token_mentions, source, strict=True)]


def _visible(gold_window: GoldWindow, gold: Sequence[Gold]) -> tuple[Gold, ...]:
    return tuple((s - 1, e, gold[i][2]) for (s, e), i in zip(gold_window.bounds, gold_window.mentions, strict=True))


def _token_span(mention: Mention, encoding: Encoding) -> Gold:
    """The tokens that a mention's characters overlap; an empty span where there is nothing to read."""
    start, end = encoding.tokens_of(mention.start, mention.end) or (0, 0)
    return start, end, mention.row


def _first_position(window: Sequence[int], text: Sequence[int]) -> int:
    return next(i for i in range(len(text) + 1) if text[i : i + len(window)] == window)
