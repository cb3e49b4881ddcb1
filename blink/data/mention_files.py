"""Reads mention files: one text per line, labelled or not, and the raw arrays of the question sets.

There are five layouts, which differ in their keys (`LAYOUTS`):

| layout | keys |
| --- | --- |
| labelled | ``text``, ``mentions`` (characters), ``label_id`` and/or ``wikidata_id``, perhaps ``tokenized_*`` |
| tokenised | ``tokenized_text_ids``, ``tokenized_mention_idxs``, ``label_id``, no ``mentions`` |
| legacy | ``context_left``, ``mention``, ``context_right``: parallel lists, one entry per mention |
| raw | ``utterance``, ``entities``, ``entities_pos``: a file that is one JSON array |
| unlabelled | ``text`` |

A labelled row may say what it does not label: ``partial`` (true: spans without a label are no evidence), or ``unlabelled``
(characters that may hold mentions).
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from blink.data.ids import claims_of, normal_id
from blink.data.offsets import CHARACTERS, Unit, UnitCounts, in_characters
from blink.data.records import NOT_IN_CATALOGUE, Entity, Mention, Sample, TokenMention
from blink.decompression import open_stream
from blink.errors import DataError, MismatchError, MissingFileError
from blink.files import read_json_lines, require_file
from blink.input_files import read_all
from blink.json_text import loads

logger = logging.getLogger(__name__)

Row: TypeAlias = Mapping[str, Any]
TEXT_KEY, LEGACY_KEY = "text", "context_left"
MAX_ROWS_FOR_UNIT = 5000
"""Rows of a file by which the unit of its offsets is determined."""


def read_samples(path: str | Path, text_key: str = TEXT_KEY) -> Iterator[Sample]:
    """Yield the samples of a mention file in order, with one line in memory at a time (a raw array is read whole). The
    file may be compressed, see `blink.decompression`.

    Offsets in bytes or in code units of UTF-16 become characters, with a warning, see `offset_unit`.

    Args:
        path: the file.
        text_key: key of another form of each text with the same character offsets, such as the cased text.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is empty, or a row is malformed; the message names the line.
    """
    path = require_file(path, "give a mention file: JSON lines with 'text', or a raw question set")
    unit, count = offset_unit(_leading_rows(path), path), -1
    for count, (number, row) in enumerate(_rows(path)):
        try:
            yield parse_row(row, default_id=str(count), text_key=text_key, unit=unit)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(
                f"{path}, line {number}: malformed row ({type(error).__name__}: {error}); see the mention file layout"
            ) from error
    if count < 0:
        raise DataError(f"{path} is empty; a mention file has one JSON object a line")


def parse_row(row: Any, default_id: str = "", text_key: str = TEXT_KEY, unit: Unit = CHARACTERS) -> Sample:
    """Convert one decoded row to a `Sample`. Rows of a file may differ in layout.

    Args:
        row: the JSON object.
        default_id: id of a row without one.
        text_key: see `read_samples`.
        unit: of the row's offsets.

    Raises:
        DataError: the layout is unknown, lists differ in length, or the text under ``text_key`` differs in length.
    """
    sample = _parsed(row, default_id)
    sample = sample if LEGACY_KEY in row else in_characters(sample, unit)  # legacy rows have no offsets
    _check(sample)
    return sample if text_key == TEXT_KEY else _respelt(sample, row, text_key)


def offset_unit(rows: Iterable[Any], path: Path) -> Unit:
    """The unit of a file's offsets, by some of its rows; a warning names the file if it is not characters."""
    counts = UnitCounts()
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError, IndexError, OverflowError):  # reported when it is read
        counts.add(_parsed(row, "") for row in rows if isinstance(row, dict) and LEGACY_KEY not in row)
    if (unit := counts.unit()) != CHARACTERS:
        misfits = f"{counts.misfits[CHARACTERS]} of {counts.spans} gold spans after a character that is not ASCII"
        logger.warning(
            "%s: offsets are %s, not characters, and were converted: as characters, %s cut words or lie outside the text",
            path, unit, misfits,
        )  # fmt: skip
    return unit


def _parsed(row: Any, default_id: str) -> Sample:
    if not isinstance(row, dict):
        raise DataError(f"a row must be a JSON object, found {type(row).__name__}")
    for key, parse in LAYOUTS.items():
        if key in row:
            return parse(row, str(row.get("id", row.get("question_id", default_id))))
    raise DataError(f"a row needs one of the keys {', '.join(map(repr, LAYOUTS))}; found {', '.join(map(repr, row)) or 'none'}")


class Rows(Protocol):
    """The interface of a catalogue that `bind` needs."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, row: int) -> Entity:
        """The entity of a row."""

    def row_of(self, kb_id: str) -> int | None:
        """The row of an id."""


def bind(samples: Iterable[Sample], catalogue: Rows) -> Iterator[Sample]:
    """Bind gold mentions to the rows of the catalogue in use.

    A stored row is kept if the mention's id is one of its entity, in any form, or either has no id. Otherwise, as in files for
    another catalogue, the row is looked up by id; an unknown id gives `NOT_IN_CATALOGUE`. Token mentions get the rows of the
    character mentions with the same index.
    """

    def row_in(mention: Mention) -> int:
        if mention.kb_id is None:
            return mention.row
        if 0 <= mention.row < len(catalogue):
            entity = catalogue[mention.row]
            if entity.kb_id in (None, mention.kb_id) or normal_id(mention.kb_id) in dict(claims_of(entity)):
                return mention.row
        row = catalogue.row_of(mention.kb_id)
        return NOT_IN_CATALOGUE if row is None else row

    for sample in samples:
        if sample.mentions is None:
            yield sample
            continue
        rows = [row_in(m) for m in sample.mentions]
        mentions = tuple(replace(m, row=row) for m, row in zip(sample.mentions, rows, strict=True))
        tokens = sample.token_mentions
        if tokens is not None and len(tokens) == len(rows):
            tokens = tuple(replace(m, row=row) for m, row in zip(tokens, rows, strict=True))
        yield replace(sample, mentions=mentions, token_mentions=tokens)


def require_rows(samples: Iterable[Sample], entities: int) -> None:
    """Check that the rows of gold mentions exist in a catalogue of so many entities.

    Raises:
        MismatchError: a row is beyond its end; the message names the sample.
    """
    for sample in samples:
        rows = [m.row for m in sample.mentions or ()] + [m.row for m in sample.token_mentions or ()]
        row = max(rows, default=NOT_IN_CATALOGUE)
        if row >= entities:
            raise MismatchError(
                f"sample {sample.id!r} names row {row} of a catalogue that has {entities} entities; "
                "use the catalogue it was labelled with, or add 'wikidata_id'"
            )


Check: TypeAlias = Callable[[str, Sequence[Sample]], None]
"""Checks the gold of a file: called with its name and its samples."""


def labelled_samples(file: str, catalogue: Rows, check: Check | None = None) -> list[Sample]:
    """Read a labelled mention file, bound to the rows of the catalogue; ``check`` may refuse its gold.

    Raises:
        MissingFileError: there is no such file.
        DataError: it has no gold mentions.
    """
    if not Path(file).is_file():
        raise MissingFileError(f"{file} does not exist; give a labelled mention file")
    samples = list(bind(read_samples(file), catalogue))
    require_rows(samples, len(catalogue))
    if not any(s.mentions for s in samples):
        raise DataError(f"{file} has no gold mentions; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    if check is not None:
        check(file, samples)
    return samples


def evaluation_samples(file: str | Path, text_key: str = TEXT_KEY) -> list[Sample]:
    """The samples of a mention file, either all with character-level gold, or all without gold.

    Args:
        file: the mention file.
        text_key: key of its texts, see `read_samples`.

    Raises:
        DataError: only some samples have gold, or gold is token-level.
    """
    samples = list(read_samples(file, text_key))
    unlabelled = next((s.id for s in samples if s.mentions is None), None)
    if unlabelled is not None and any(s.labelled for s in samples):
        raise DataError(
            f"{file}: {unlabelled!r} has no gold mentions in characters and others have gold; "
            "evaluation needs 'mentions' with 'label_id' or 'wikidata_id' in every row, or in none"
        )
    return samples


def row_of(sample: Sample) -> dict[str, Any]:
    """The row of a mention file for a sample with mentions in characters, or without labels; `parse_row` reads it."""
    row: dict[str, Any] = {"id": sample.id, "text": sample.text}
    if sample.mentions is not None:
        row |= {
            "mentions": [[m.start, m.end] for m in sample.mentions],
            "label_id": [m.row for m in sample.mentions],
            "wikidata_id": [m.kb_id for m in sample.mentions],
            "entity": [m.title for m in sample.mentions],
        }
    row |= {"unlabelled": [list(span) for span in sample.unlabelled]} if sample.unlabelled else {}
    return row | ({"partial": True} if sample.partial else {})


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    with open_stream(path) as stream:
        head = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    yield from enumerate(_array(path), 1) if head.startswith(b"[") else read_json_lines(path)


def _leading_rows(path: Path) -> Iterator[Any]:
    return (row for _, row in itertools.islice(_rows(path), MAX_ROWS_FOR_UNIT))


def _array(path: Path) -> list[Any]:
    try:
        with open_stream(path) as stream:
            rows: list[Any] = loads(read_all(stream, path).removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise DataError(
            f"{path} begins as a JSON array and cannot be read as one ({error}); download the file again"
        ) from error
    return rows


def _labelled_or_not(row: Row, sample_id: str) -> Sample:
    spans, rows, kb_ids = row.get("mentions"), row.get("label_id"), row.get("wikidata_id")
    if spans is None and rows is None:
        return Sample(sample_id, _text(row), token_ids=_ids(row))
    if spans is None and rows and row.get("tokenized_mention_idxs") is None:
        raise DataError("'label_id' needs 'mentions' (characters) or 'tokenized_mention_idxs' as well")
    if spans is None and rows:
        return _tokenised(row, sample_id)
    spans = [] if spans is None else spans
    columns = {"label_id": rows, "wikidata_id": kb_ids, "entity": row.get("entity")}
    table = list(_parallel("mentions", spans, columns))
    if rows is None and kb_ids is None and spans:
        raise DataError("'mentions' need 'label_id' or 'wikidata_id' as well")
    mentions = tuple(
        Mention(int(s), int(e), NOT_IN_CATALOGUE if r is None else int(r), _kb_id(q), t) for (s, e), r, q, t in table
    )
    unlabelled = tuple((int(start), int(end)) for start, end in row.get("unlabelled") or ())
    partial = bool(row.get("partial", False))
    return Sample(sample_id, _text(row), mentions, _ids(row), _token_mentions(row), partial, unlabelled)


def _tokenised(row: Row, sample_id: str) -> Sample:
    if row.get("text") is not None and row.get("mentions") is not None:
        return _labelled_or_not(row, sample_id)
    return Sample(sample_id, str(row.get("text") or ""), None, _ids(row), _token_mentions(row))


def _legacy(row: Row, sample_id: str) -> Sample:
    columns = {"mention": row["mention"], "context_right": row["context_right"]}
    columns |= {key: row.get(key) for key in ("label_id", "wikidata_id", "title")}
    text: str | None = None
    mentions = []
    for before, mention, right, label, kb_id, title in _parallel("context_left", row["context_left"], columns):
        text_of_entry = f"{before}{mention}{right}"
        if text is not None and text_of_entry != text:
            raise DataError("the entries of 'context_left', 'mention' and 'context_right' spell different texts")
        text = text_of_entry
        mentions.append(
            Mention(
                len(before), len(before) + len(mention), NOT_IN_CATALOGUE if label is None else int(label), _kb_id(kb_id), title
            )
        )
    return Sample(sample_id, text or "", tuple(mentions))


def _raw(row: Row, sample_id: str) -> Sample:
    table = _parallel("entities", row.get("entities") or [], {"entities_pos": row.get("entities_pos") or []})
    # A start of -1 means that the position of the mention is unknown.
    mentions = tuple(
        Mention(int(pos[0]), int(pos[1]), NOT_IN_CATALOGUE, _kb_id(q)) for q, pos in table if pos and int(pos[0]) >= 0
    )
    return Sample(sample_id, str(row["utterance"]), mentions)


LAYOUTS: dict[str, Callable[[Row, str], Sample]] = {
    LEGACY_KEY: _legacy,
    "utterance": _raw,
    "tokenized_text_ids": _tokenised,
    TEXT_KEY: _labelled_or_not,
}
"""Key -> parser of the layout; the first key that a row has determines its layout."""


def _parallel(name: str, first: Any, others: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Zip the lists of one row. A missing list is replaced with None values.

    Raises:
        DataError: the lists differ in length.
    """
    if not isinstance(first, list):
        raise DataError(f"{name!r} must be a list, found {type(first).__name__}")
    for key, column in others.items():
        if column is not None and (not isinstance(column, list) or len(column) != len(first)):
            length = len(column) if isinstance(column, list) else type(column).__name__
            raise DataError(f"{key!r} and {name!r} must be lists of one length; found {length} and {len(first)}")
    columns = (itertools.repeat(None) if column is None else column for column in others.values())
    return zip(first, *columns)  # noqa: B905 - repeat(None) is endless


def _kb_id(value: Any) -> Any:
    """An id of a gold entity; a whole number is its digits, as in catalogues. Others than text are refused by `_check`."""
    return str(value) if type(value) is int else None if value == "" else value


def _token_mentions(row: Row) -> tuple[TokenMention, ...] | None:
    spans = row.get("tokenized_mention_idxs")
    if spans is None:
        return None
    table = _parallel("tokenized_mention_idxs", spans, {"label_id": row.get("label_id")})
    return tuple(TokenMention(int(s), int(e), NOT_IN_CATALOGUE if r is None else int(r)) for (s, e), r in table)


def _ids(row: Row) -> tuple[int, ...] | None:
    ids = row.get("tokenized_text_ids")
    return None if ids is None else tuple(map(int, ids))


def _text(row: Row) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise DataError(f"'text' must be a string, found {type(text).__name__}")
    return text


def _respelt(sample: Sample, row: Row, key: str) -> Sample:
    """The sample with the text under ``key``, without stored tokens, which belong to the other text."""
    text = row.get(key)
    if not isinstance(text, str):
        problem = f"found {type(text).__name__}" if key in row else f"the row has only {', '.join(map(repr, row))}"
        raise DataError(f"{key!r} must be a string, {problem}; name a key that every row has")
    if len(text) != len(sample.text):
        lengths = f"{len(text)} characters and the row's own text {len(sample.text)}"
        raise DataError(f"{key!r} has {lengths}; offsets of mentions would not fit: spell it character for character")
    if sample.mentions is None and sample.token_mentions is not None:
        raise DataError(f"gold in tokens does not carry over to {key!r}; give 'mentions' in characters")
    return replace(sample, text=text, token_ids=None, token_mentions=None)


def _check(sample: Sample) -> None:
    for mention in sample.mentions or ():
        if not 0 <= mention.start < mention.end <= len(sample.text):
            bounds = f"[{mention.start}, {mention.end})"
            raise DataError(f"mention {bounds} lies outside the text of {len(sample.text)} characters, or is empty")
        if not isinstance(mention.kb_id, str | None):
            raise DataError(f"an id in 'wikidata_id' must be a string such as 'Q90', found {mention.kb_id!r}")
    for token_mention in sample.token_mentions or ():
        if sample.token_ids is None or not 0 <= token_mention.start < token_mention.end <= len(sample.token_ids):
            raise DataError(
                f"token mention [{token_mention.start}, {token_mention.end}) lies outside 'tokenized_text_ids', or is empty"
            )
