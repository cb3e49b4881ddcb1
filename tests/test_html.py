"""Linked texts as HTML: everything is escaped, no character is lost, nothing is loaded from elsewhere."""

from __future__ import annotations

import colorsys
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.display import printable
from blink.data.html import STYLE, html_fragment, html_page
from blink.data.records import Candidate, Link, LinkedText

VOID = {"meta", "br"}
NASTY = '<script>alert(1)</script> & "quoted" \x1b]8;; \x00 \ud800 \u202e \' -->'


class Page(HTMLParser):
    """Checks that elements are closed, and collects what a browser would show or do."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.marks = "", []
        self._inside: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self._inside.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._inside.pop()

    def handle_data(self, data: str) -> None:
        if "blink-text" in self._inside and "small" not in self.open:
            self.text += data
            if "mark" in self.open:
                self.marks.append(data)


def link(text: str, start: int, end: int, *, title: str = "One", score: float = 0.9, **more: object) -> Link:
    others = (
        Candidate(0, "Q1", title, score),
        Candidate(1, None, "Two & <b>", 0.1234),
        Candidate(2, "Q3", "Three", 0.02),
        Candidate(3, None, "Four", 0.001),
    )
    return Link(start, end, text[start:end], 0, "Q1", title, score, others, **more)  # type: ignore[arg-type]


@st.composite
def linked_texts(draw: st.DrawFn) -> LinkedText:
    text = draw(st.text(st.one_of(st.characters(), st.sampled_from("<>&\"'\n\x1b\ud800")), max_size=30))
    strings = st.text(max_size=12) | st.just(NASTY)
    links = []
    for _ in range(draw(st.integers(0, 3)) if text else 0):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        url = draw(
            st.none() | st.sampled_from(['https://x.org/?a="b"&c=<d>', "javascript:alert(1)", "HTTP://y.org/'", "data:x"])
        )
        more = {"description": draw(strings), "url": url, "types": tuple(draw(st.lists(strings, max_size=2)))}
        links.append(link(text, start, end, title=draw(strings), score=draw(st.floats(0, 1)), **more))
    return LinkedText(text, tuple(sorted(links, key=lambda x: x.start)))


@given(linked_texts(), st.integers(0, 4))
def test_every_character_is_shown_once_and_nothing_is_markup(linked: LinkedText, candidates: int) -> None:
    for content in (html_fragment(linked, candidates=candidates), "".join(html_page([linked], title=NASTY))):
        content.encode("utf-8")
        shown = Page(content)
        assert shown.text == printable(linked.text)
        assert {tag for tag, _ in shown.tags} <= {
            "html", "head", "meta", "title", "style", "body", "main", "h1", "article", "div", "mark", "a", "small", "ul", "li",
            "ol", "b", "code", "span", "details", "summary",
        }  # fmt: skip
        for tag, attributes in shown.tags:
            assert attributes.keys() <= {
                "class", "style", "title", "href", "target", "rel", "dir", "open", "lang", "charset", "content", "name",
                "http-equiv",
            }  # fmt: skip
            if tag == "a":
                assert str(attributes["href"]).lower().startswith(("http://", "https://"))
                assert attributes["rel"] == "noopener noreferrer"
        assert "\x1b" not in content


def test_a_link_has_its_entity_score_and_losers() -> None:
    text = "Paris is in Texas."
    linked = LinkedText(text, (link(text, 0, 5, title="Paris", score=0.98765, description="A city.", types=("city",)),))
    content = linked.to_html()
    page = Page(content)
    assert page.marks == ["Paris"]
    (mark,) = [attributes for tag, attributes in page.tags if tag == "mark" and "title" in attributes]
    assert mark["title"] == "Paris (Q1) · 0.988 · city\nA city."
    assert "Two &amp; &lt;b&gt; (row 1) 0.123 · Three (Q3) 0.020" in content
    assert "Four" not in linked.to_html(candidates=4)
    assert "<small>" not in content  # the title is the mention
    assert "Two" not in linked.to_html(candidates=0)
    assert "Three" not in linked.to_html(candidates=2)
    assert linked._repr_html_() == content


def test_a_type_has_one_colour_in_all_texts() -> None:
    text = "Paris, Oslo, Bern"

    def hues(*types: tuple[str, ...]) -> list[str | None]:
        links = tuple(link(text, at, at + 4, types=of) for at, of in zip((0, 7, 13), types, strict=True))
        return [a["style"] for tag, a in Page(LinkedText(text, links).to_html()).tags if tag == "mark" and "title" in a]

    city, person, untyped = hues(("city",), ("person", "city"), ())
    assert len({city, person, untyped}) == 3
    assert hues((), ("city", "town"), ("person",)) == [untyped, city, person]


def test_overlapping_links_are_all_listed() -> None:
    text = "Paris, Texas"
    linked = LinkedText(text, (link(text, 0, 5, score=0.4), link(text, 0, 12, title="Paris, Texas", score=0.6)))
    page = Page(linked.to_html())
    assert page.marks == ["Paris, Texas"]
    assert [tag for tag, _ in page.tags].count("li") == 2


def test_a_page_holds_all_texts_and_loads_nothing() -> None:
    page = "".join(html_page([LinkedText("one"), LinkedText("two")], title="A & B"))
    assert page.startswith("<!doctype html>")
    assert page.count("<article") == 2
    assert "A &amp; B" in page
    assert "no links" in page
    assert not any(name in page for name in ("src=", "<link", "@import", "url("))
    assert "default-src 'none'" in page


@pytest.mark.parametrize("n", [0, 1])
def test_to_html_makes_an_element_or_a_page(n: int) -> None:
    linked = LinkedText("one", () if not n else (link("one", 0, 3),))
    assert linked.to_html(page=True) == "".join(html_page([linked]))
    assert linked.to_html() == html_fragment(linked)
    assert f"{n} link<" in linked.to_html() or "no links" in linked.to_html()


def luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_mentions_of_every_colour_can_be_read() -> None:
    pairs = re.findall(r"color:#(\w+);background:hsl\(var\(--hue,0\) var\(--sat,(\d+)%\) (\d+)%\)", STYLE)
    assert len(pairs) == 2  # light and dark
    for colour, saturation, lightness in pairs:
        written = luminance(
            *(int(c * 2 if len(colour) == 3 else c, 16) / 255 for c in re.findall("." * (len(colour) // 3), colour))
        )
        for hue in range(360):
            for of in (0, int(saturation) / 100):
                behind = luminance(*colorsys.hls_to_rgb(hue / 360, int(lightness) / 100, of))
                darker, lighter = sorted((written, behind))
                assert (lighter + 0.05) / (darker + 0.05) >= 4.5
