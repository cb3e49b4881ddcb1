"""Links as data frames: indices, kept columns, types and missing values."""

from __future__ import annotations

import pandas as pd
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.frames import TYPES
from blink.errors import DataError, SettingsError
from blink.linking.linker import Linker

TEXTS = ("Georgia 0 and Oslo 7", "the ohio river 3", "", "Lake Garda 4 is near Mount Elbrus 6 . Turing 9", "nothing")


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    folder = tmp_path_factory.mktemp("frames")
    model = toys.model(3)
    return Linker(model, toys.knowledge_base(folder / "kb", model, toys.rows()), threshold=-8.0, device="cpu", precision="fp32")


def rows(linker: Linker, texts: list[str]) -> list[tuple[object, ...]]:
    return [tuple(span.values()) for linked in linker(texts) for span in linked.to_spans()]


def values(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return [tuple(None if pd.isna(v) else v for v in row) for row in frame[list(TYPES)].itertuples(index=False, name=None)]


@settings(max_examples=12)
@given(texts=st.lists(st.sampled_from((*TEXTS, None, float("nan"))), max_size=6), batch_size=st.integers(1, 5))
def test_rows_are_the_links_and_keep_the_index(linker: Linker, texts: list[object], batch_size: int) -> None:
    index = [f"doc-{number * 7 % 5}" for number in range(len(texts))]  # not unique, not sorted
    frame = pd.DataFrame({"body": pd.Series(texts, dtype="object"), "year": range(len(texts))}).set_index(
        pd.Index(index, name="id")
    )
    links = linker.to_frame(frame, "body", keep=["year"], batch_size=batch_size)
    present = [text for text in texts if isinstance(text, str)]
    assert values(links) == rows(linker, present)
    counts = [len(linked.links) for linked in linker(present)]
    of_links = [
        number
        for number, count in zip([i for i, t in enumerate(texts) if isinstance(t, str)], counts, strict=True)
        for _ in range(count)
    ]
    assert list(links["year"]) == of_links
    assert list(links.index) == [index[number] for number in of_links]
    assert links.index.name == "id"


@pytest.mark.parametrize("texts", [[], [""], list(TEXTS), pd.Series(TEXTS, index=range(10, 15)), (text for text in TEXTS)])
def test_types_do_not_depend_on_what_is_linked(linker: Linker, texts: object) -> None:
    links = linker.to_frame(texts)  # type: ignore[arg-type]
    assert {name: str(dtype) for name, dtype in links.dtypes.items()} == TYPES


def test_lists_count_from_zero_and_join(linker: Linker) -> None:
    links = linker.to_frame(TEXTS)
    assert links.index.name == "text"
    assert values(links) == rows(linker, list(TEXTS))
    joined = pd.DataFrame({"body": TEXTS}).join(links, how="inner")
    assert all(row.body[row.start : row.end] == row.mention for row in joined.itertuples())
    assert len(joined) == len(links) > 3


def test_mistakes_say_what_is_allowed(linker: Linker) -> None:
    frame = pd.DataFrame({"body": ["a"], "score": [1]})
    for call, words in (
        (lambda: linker.to_frame(frame), "no column 'text'; it has body, score"),
        (lambda: linker.to_frame(frame, "body", keep=["score"]), "'score' cannot be kept"),
        (lambda: linker.to_frame(["a"], keep=["year"]), "keep names columns"),
        (lambda: linker.to_frame("Paris"), "one string was given"),
    ):
        with pytest.raises(SettingsError, match=words):
            call()
    with pytest.raises(DataError, match="the text at 'x' is int"):
        linker.to_frame(pd.Series(["a", 5], index=["w", "x"]))
