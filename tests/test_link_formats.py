"""The formats of linked texts: what is written can be read again, and no spreadsheet runs it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.cells import plain_cell, safe_cell
from blink.data.link_formats import COLUMNS, FORMATS, LinkFormat
from blink.data.records import Candidate, Link, LinkedSection, LinkedText
from blink.errors import SettingsError

Run = Callable[..., tuple[int, str, str]]

strings = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["=1+1", "+1", "-1", "@x", "\t=1", "\r\n", "'", "''=1", " =cmd|'/C calc'!A0", "＝1", '"', "a,b\tc\nd\re"]
)


@st.composite
def texts(draw: st.DrawFn) -> list[LinkedText]:
    result = []
    for _ in range(draw(st.integers(0, 3))):
        text = draw(strings.filter(bool))
        links = []
        for number in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text) - 1))
            end = draw(st.integers(start + 1, len(text)))
            scores = sorted(draw(st.lists(st.floats(-9, 1, width=32), min_size=1, max_size=3)), reverse=True)
            candidates = tuple(Candidate(i, draw(st.none() | strings), draw(strings), score) for i, score in enumerate(scores))
            best = candidates[0]
            about = (best.row, best.kb_id, best.title, best.score, candidates, draw(strings), draw(st.none() | strings))
            links.append(Link(start, end, text[start:end], *about, ("city",) * number))
        result.append(LinkedText(text, tuple(links)))
    return result


def sections(linked: list[LinkedText]) -> list[LinkedSection]:
    """The texts in sections, each of one link and a last one of none."""
    parts = []
    for of in linked:
        bounds = list(pairwise(range(len(of.links) + 1)))
        slices = [of.links[a:b] for a, b in bounds] + [()]
        parts += [LinkedSection(of.text, links, i == 0, i == len(slices) - 1) for i, links in enumerate(slices)]
    return parts


def written(form: LinkFormat, linked: list[LinkedText]) -> str:
    whole = "".join(form.pieces([LinkedSection(of.text, of.links, True, True) for of in linked]))
    assert "".join(form.pieces(sections(linked))) == whole
    return whole


@given(texts(), st.none() | st.integers(0, 3), st.none() | st.integers(0, 6), st.sampled_from([",", "\t"]))
def test_a_table_holds_every_character_and_no_formula(
    linked: list[LinkedText], candidates: int | None, digits: int | None, delimiter: str
) -> None:
    form = LinkFormat("csv" if delimiter == "," else "tsv", candidates, digits)
    head, *rows = list(csv.reader(io.StringIO(written(form, linked), newline=""), delimiter=delimiter))
    assert head == [*COLUMNS, *(["candidates"] if candidates else [])]
    links = [(number, link) for number, of in enumerate(linked, 1) for link in of.links]
    assert len(rows) == len(links)
    for cells, (number, link) in zip(rows, links, strict=True):
        row = dict(zip(head, cells, strict=True))
        assert [int(row[name]) for name in ("text_id", "start", "end", "row")] == [number, link.start, link.end, link.row]
        texts_of_row = [plain_cell(row[name]) for name in ("mention", "kb_id", "title", "types", "description", "url")]
        assert texts_of_row == [
            link.mention, link.kb_id or "", link.title, "|".join(link.types), link.description, link.url or "",
        ]  # fmt: skip
        assert float(row["score"]) == pytest.approx(link.score, abs=0.51 * 10.0 ** -(4 if digits is None else digits))
        for name in ("mention", "kb_id", "title", "description", "url", "candidates"):
            assert not row.get(name, "").lstrip().startswith(("=", "+", "-", "@"))
            assert not row.get(name, "").startswith(("\t", "\r", "\n"))


@given(strings)
def test_a_safe_cell_is_undone(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text
    assert safe_cell(text) == text or safe_cell(text) == "'" + text


@given(texts(), st.none() | st.integers(0, 3))
def test_json_is_that_of_python(linked: list[LinkedText], candidates: int | None) -> None:
    values = [json.loads(line) for line in written(LinkFormat("json", candidates), linked).split("\n")[:-1]]
    expected = [of.to_json() for of in linked]
    for value in expected:
        for link in value["links"]:
            link["candidates"] = link["candidates"][:candidates]
    assert values == expected
    assert written(LinkFormat("jsonl", candidates), linked) == written(LinkFormat("json", candidates), linked)
    ascii_only = written(LinkFormat("json", candidates, is_ascii=True), linked)
    assert ascii_only.isascii()
    assert [json.loads(line) for line in ascii_only.splitlines()] == expected


@given(texts())
def test_scores_have_the_digits_that_are_asked_for(linked: list[LinkedText]) -> None:
    for line in written(LinkFormat("json", digits=2), linked).split("\n")[:-1]:
        for link in json.loads(line)["links"]:
            for scored in (link, *link["candidates"]):
                assert scored["score"] == round(scored["score"], 2)


@given(texts())
def test_text_has_a_line_for_each_link_and_shown_loser(linked: list[LinkedText]) -> None:
    for n in (0, 1, 3):
        lines = written(LinkFormat("text", n), linked)
        assert lines.count(" -> ") >= sum(len(of.links) for of in linked)
        assert lines.count("\n      or ") == sum(len(link.candidates[1:n]) for of in linked for link in of.links)
        assert "\x1b" not in lines


def test_a_page_holds_all_texts() -> None:
    page = written(LinkFormat("html"), [LinkedText("one"), LinkedText("two")])
    assert page.count("<article") == 2
    assert page.rstrip().endswith("</html>")


def test_wrong_formats_are_refused() -> None:
    for wrong in ({"name": "xml"}, {"candidates": -1}, {"digits": -1}):
        with pytest.raises(SettingsError):
            LinkFormat(**wrong)  # type: ignore[arg-type]


class TestCommand:
    @pytest.mark.parametrize("form", FORMATS)
    def test_every_format_has_the_same_links(self, blink: Run, starter: Path, form: str) -> None:
        status, out, err = blink("link", "Warsaw is in Poland.", "nothing here", "--format", form)
        assert (status, err) == (0, "")
        assert out.count("Warsaw") >= 1
        assert "Q270" in out
        assert "Q36" in out

    def test_flags_are_formats(self, blink: Run, starter: Path) -> None:
        pages = [blink("link", "Warsaw", *flags) for flags in (["--html"], ["--format", "html"])]
        assert pages[0] == pages[1]
        assert pages[0][1].startswith("<!doctype html>")
        status, _, err = blink("link", "Warsaw", "--json", "--format", "csv")
        assert status != 0
        assert "csv and json are given; give one" in err

    def test_compressed_lines_and_their_numbers(self, blink: Run, starter: Path, tmp_path: Path) -> None:
        file = tmp_path / "texts"
        file.write_bytes(gzip.compress(b"nothing here\nWarsaw is in Poland.\n"))
        status, out, _ = blink("link", "--file", file, "--format", "csv", "--candidates", "1")
        assert status == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        assert {row["text_id"] for row in rows} == {"2"}
        assert rows[0]["candidates"].startswith("Warsaw (Q270) 0.9")

    def test_options_of_what_is_printed_do_not_go_with_out(self, blink: Run, tmp_path: Path) -> None:
        for options in (["--format", "csv"], ["--candidates", "2"], ["--digits", "2"], ["--html"]):
            status, _, err = blink("link", "--file", "x", "--out", tmp_path / "links.jsonl", *options)
            assert status != 0
            assert "in the form of its name" in err
