"""Links as a data frame of pandas, one row a link: of a list of texts, or of a column of a data frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from blink.cells import safe_cell
from blink.data.records import LinkedText
from blink.errors import DataError, SettingsError
from blink.extras import require_extra

if TYPE_CHECKING:
    import pandas as pd

    Texts: TypeAlias = "pd.DataFrame | pd.Series[Any] | Iterable[str]"

TYPES = {
    "start": "int64", "end": "int64", "mention": "string", "row": "int64", "kb_id": "string", "title": "string",
    "score": "float64", "description": "string", "url": "string",
}  # fmt: skip
"""Columns of the links and their types; ``string`` has missing values where an entity has no id or address."""


def links_frame(
    texts: Texts, link: Callable[[list[str]], Iterable[LinkedText]], column: str = "text", keep: Sequence[str] = ()
) -> pd.DataFrame:
    """The links of texts, one row a link, with the index of the text that each is in.

    Args:
        texts: a data frame, a series, or any iterable of texts, whose index counts from 0 and is called ``text``. Missing
            values have no links.
        link: links a list of texts.
        column: of the texts in a data frame.
        keep: columns of the data frame that each row repeats.

    Returns:
        the columns of ``keep`` and `TYPES`, for texts without links too.

    Raises:
        SettingsError: pandas is not installed, or a column is missing or has the name of one of `TYPES`.
        DataError: a value is no text; the message has its index.
    """
    pandas = require_extra("pandas", "data frames", "frames")
    series, kept = _texts_and_kept(pandas, texts, column, keep)
    present = [position for position, value in enumerate(series.tolist()) if _is_text(pandas, value, series.index, position)]
    linked = link([series.iloc[position] for position in present])
    spans = [(position, span) for position, of_text in zip(present, linked, strict=True) for span in of_text.to_spans()]
    rows = [position for position, _ in spans]
    columns = {name: pandas.array([span[name] for _, span in spans], dtype=dtype) for name, dtype in TYPES.items()}
    frame = pandas.DataFrame(columns, index=series.index.take(rows))
    for place, name in enumerate(keep):
        frame.insert(place, name, kept[name].iloc[rows].array)
    return frame


def for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy for ``to_csv`` and ``to_excel``: no cell of text is a formula, see `blink.cells.safe_cell`.

    Carriage returns become line ends: pandas does not quote them, so that a table would have a row more.
    """

    def safe(value: Any) -> Any:
        return safe_cell(value.replace("\r\n", "\n").replace("\r", "\n")) if isinstance(value, str) else value

    return frame.apply(lambda column: column.map(safe, na_action="ignore"))


def _texts_and_kept(pandas: Any, texts: Any, column: str, keep: Sequence[str]) -> tuple[Any, Any]:
    if isinstance(texts, str):
        raise SettingsError("one string was given where texts are expected; give a list, a series or a data frame")
    if isinstance(texts, pandas.DataFrame):
        missing = [name for name in (column, *keep) if name not in texts.columns]
        if missing:
            names = ", ".join(map(str, texts.columns))
            raise SettingsError(f"the data frame has no column {missing[0]!r}; it has {names}; name one with column=...")
        clash = next((name for name in keep if name in TYPES), None)
        if clash is not None:
            raise SettingsError(f"the column {clash!r} cannot be kept, since links have one of this name; rename it")
        return texts[column], texts
    if keep:
        raise SettingsError("keep names columns of a data frame, and texts are none; give a data frame")
    if isinstance(texts, pandas.Series):
        return texts, None
    values = list(texts)
    return pandas.Series(values, index=pandas.RangeIndex(len(values), name="text"), dtype="object"), None


def _is_text(pandas: Any, value: Any, index: Any, position: int) -> bool:
    if isinstance(value, str):
        return True
    if pandas.api.types.is_scalar(value) and pandas.isna(value):
        return False
    raise DataError(
        f"the text at {index[position]!r} is {type(value).__name__}, not a string; convert it, or name another column"
    )
