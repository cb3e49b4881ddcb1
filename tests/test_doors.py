"""Titles and ids of others are harmless wherever they leave: in tables of spreadsheets, in HTML and in Markdown."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.bulk.tables import table_lines
from blink.cells import figure_text, markdown_code, markdown_table, markdown_text, plain_cell, safe_cell
from blink.data.html import html_fragment, html_page
from blink.data.link_formats import LinkFormat
from blink.data.records import Candidate, Entity, Link, LinkedSection, LinkedText
from blink.hub.cards import CardOptions, Figure, card
from blink.kglm.text_init.plot import Points, write_html
from blink.kglm.text_init.vectors import Space, read_folder, write_folder
from blink.model.card import CARD_FILE, add_entry
from blink.serving.logs import JsonLines, TextLines
from blink.serving.reconciliation.pages import entity_fragment, preview_page, type_fragment

FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "'quoted", '="a"&"b"']
HTML = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '" onmouseover="alert(1)', "' autofocus onfocus='alert(1)",
    "</script><svg onload=alert(1)>", "<!--", "--><b>", "&lt;b&gt;", "{{data}}", "]]>", "javascript:alert(1)",
]  # fmt: skip
MARKDOWN = [
    "[x](javascript:alert(1))", "![x](http://example.org/seen.png)", "a | b", "`code`", "<b>bold</b>", "**bold** _it_ a_b",
    "# head", "[x]: http://example.org", "\\`x", "a\n\n## b", "<http://example.org>", "~~~", "\\|", "a\\",
]  # fmt: skip
HARMLESS = {"color", "hsl", "var"}
ALL = [*FORMULAS, *HTML, *MARKDOWN]
SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝")


def link(text: str) -> Link:
    losers = (Candidate(0, text, text, 0.9), Candidate(1, text, text, 0.1))
    address = f"https://example.org/{text}" if text.startswith('"') else text
    return Link(0, len(text), text, 0, text, text, 0.9, losers, description=text, url=address, types=(text,))


def linked(text: str) -> LinkedText:
    return LinkedText(text, (link(text),))


def cells_of(table: str, delimiter: str) -> Iterator[str]:
    for row in csv.reader(io.StringIO(table, newline=""), delimiter=delimiter):
        yield from row


def runs_no_formula(table: str, delimiter: str) -> None:
    cells = list(cells_of(table, delimiter))
    assert cells
    for cell in cells:
        assert not cell.lstrip(" ").startswith(SIGNS) or cell.lstrip("-").replace(".", "").isdigit(), cell


@pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_links_hold_no_formula(name: str, delimiter: str) -> None:
    sections = [LinkedSection(text, (link(text),), is_first=True, is_last=True) for text in ALL]
    form = LinkFormat(name, candidates=2)
    runs_no_formula("".join(form.pieces(sections)), delimiter)
    rows = [
        {"id": t, "fields": {t: t}, "file": t, "text": t, "links": [link(t).to_json()]} for t in ALL
    ] + [{"id": t, "error": t} for t in ALL]  # fmt: skip
    table = "".join(table_lines(rows, delimiter))
    runs_no_formula(table, delimiter)
    assert set(ALL) <= {plain_cell(cell) for cell in cells_of(table, delimiter)}


@given(st.text())
def test_cells_are_undone_exactly(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text
    assert not safe_cell(text).lstrip().startswith(SIGNS)


def test_cells_of_other_programs_stay() -> None:
    assert plain_cell("'Til Tuesday") == "'Til Tuesday"


def test_data_frames_become_tables_without_formulas() -> None:
    pandas = pytest.importorskip("pandas")
    from blink.data.frames import for_spreadsheets, links_frame

    frame = links_frame(ALL, lambda texts: map(linked, texts))
    assert list(frame["title"]) == ALL
    table = for_spreadsheets(frame).to_csv(index=False)
    runs_no_formula(table, ",")
    assert pandas.read_csv(io.StringIO(table))["start"].tolist() == [0] * len(ALL)


def test_labels_of_vectors_hold_no_formula_and_are_read_back(tmp_path: Path) -> None:
    names = [text.replace("\n", " ").replace("\r", " ") for text in ALL]
    space = Space("entity", [f"{t}{i}" for i, t in enumerate(names)], np.zeros((len(names), 2), np.float32), names, names,
                  list(range(len(names))))  # fmt: skip
    write_folder(space, tmp_path)
    runs_no_formula((tmp_path / "entity_labels.tsv").read_bytes().decode(), "\t")
    again = read_folder(tmp_path)
    assert (again.ids, again.names, again.types) == (space.ids, space.names, space.types)


def test_ranks_of_a_graph_hold_no_formula() -> None:
    pytest.importorskip("pykeen")
    from types import SimpleNamespace

    import torch

    from blink.kglm.graph.runner import _rank_lines

    names = [text for text in ALL if not set(text) & set("\t\r\n")]
    graph = SimpleNamespace(entities=names, relations=names)
    ranks = SimpleNamespace(**{name: torch.ones(2 * len(names)) for name in ("realistic", "optimistic", "equal")})
    triples = np.array([[i, i, i] for i in range(len(names))])
    runs_no_formula("".join(_rank_lines(ranks, triples, graph)), "\t")  # type: ignore[arg-type]


class Page(HTMLParser):
    """Collects what a browser would run or open."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.comments: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def shape(content: str) -> list[tuple[str, tuple[str, ...]]]:
    """Elements with the names of their attributes; addresses are of the web."""
    page = Page(content)
    assert not page.comments
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert name not in ("href", "src") or urlsplit(value or "").scheme in ("http", "https"), value
    return [(tag, tuple(attributes)) for tag, attributes in page.tags]


def without_links(elements: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    return [element for element in elements if element[0] != "a"]


@pytest.mark.parametrize("text", ALL)
def test_html_has_the_elements_of_harmless_text(text: str, tmp_path: Path) -> None:
    """Every page of a hostile text has the elements and attributes of the page of a plain one."""

    def pages(of: str, folder: Path) -> list[str]:
        entity = Entity(row=0, title=of, text=of, kb_id=of, types=(of,), aliases=(of,), url=of)
        folder.mkdir()
        write_html(Points.of(np.zeros((1, 2)), [of], [of]), folder / "plot.html", of)
        plot = (folder / "plot.html").read_text()
        return [
            html_fragment(linked(of)), "".join(html_page([linked(of)], title=of)), preview_page(entity),
            entity_fragment(entity), type_fragment(of, 2), plot,
        ]  # fmt: skip

    for hostile, plain in zip(pages(text, tmp_path / "hostile"), pages("plain", tmp_path / "plain"), strict=True):
        assert without_links(shape(hostile)) == without_links(shape(plain))


def rendered(markdown: str) -> str:
    library = pytest.importorskip("markdown_it")
    return str(library.MarkdownIt("commonmark").enable("table").render(markdown))


@pytest.mark.parametrize("text", ALL)
def test_cards_show_the_text_and_nothing_else(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    entry = {
        "figures": [{text: text}], "recipe": {"name": text}, "kb": {"name": text, "entities": 1, "sha256": text},
        "measured": {text: text}, "trained_on": text, "finished": text, "versions": {text: text}, "seconds": 1.0,
        "command": ["blink", text], "data": [{"role": text, "file": text, "sha256": text, "texts": 1}],
    }  # fmt: skip
    add_entry(folder, "train", entry)
    generated = (folder / CARD_FILE).read_text().split("\n# ", 1)[1]
    figure = Figure(text, 0.5, text, text, text)
    hub = card("model", "owner/name", {text: text}, CardOptions(figures=[figure])).split("---\n\n", 1)[1]
    for page in (generated, hub):
        elements = Page("\n".join(line for line in rendered(page).split("\n") if not line.startswith("<!--"))).tags
        names = {tag for tag, _ in elements}
        assert names <= {"h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong"}
        assert all(set(attributes) <= {"class", "style"} for _, attributes in elements)


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), min_size=1))
def test_markdown_shows_each_character(text: str) -> None:
    plain = " ".join(text.split())
    content = "\n".join(markdown_table(["a", "b"], [[markdown_text(text), markdown_code(text)]]))
    cells: list[str] = []
    page = HTMLParser(convert_charrefs=True)
    page.handle_data = cells.append  # type: ignore[method-assign]
    page.feed(rendered(content).partition("<tbody>")[2])
    page.close()
    assert plain in " ".join("".join(cells).split())
    assert json.dumps(plain)


@pytest.mark.parametrize("text", ["$\\frac{$", "$x$", "a $ b", "$^$ \x1b[2J\x00", *ALL])
def test_figures_take_any_title(text: str, tmp_path: Path) -> None:
    from blink.kglm.text_init.plot import draw_png

    draw_png(Points.of(np.zeros((1, 2)), [text], [text]), tmp_path / "plot.png", text)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "$" not in figure_text(text).replace("\\$", "")


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_logs_hold_no_code_of_a_terminal(form: logging.Formatter) -> None:
    record = logging.LogRecord("blink", logging.WARNING, "", 0, "title %s", ("\x1b[2J\x9b\u202e\ud800",), None)
    try:
        raise ValueError("\x1b]0;x\x07")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = form.format(record)
    assert not {"\x1b", "\x9b", "\u202e", "\x07", "\ud800"} & set(line)
