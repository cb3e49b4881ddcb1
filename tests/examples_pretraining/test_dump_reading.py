"""The dump reader: pages, redirects, packing, damage; wikitext to text with links."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretraining_toys import TINY_DUMP, tiny_texts, write_dump

from blink.errors import DataError, MissingFileError
from examples.pretraining.dump import Dump, Site
from examples.pretraining.wikitext import PageLink, paragraphs

pytestmark = pytest.mark.quick


def linked(wikitext: str, site: Site | None = None) -> list[tuple[str, list[tuple[str, str]]]]:
    parsed = paragraphs(wikitext, site or Site())
    return [(p.text, [(p.text[link.start : link.end], link.title) for link in p.links]) for p in parsed]


def test_articles_and_redirects_of_the_main_namespace_alone() -> None:
    pages = list(Dump(TINY_DUMP).pages())
    titles = [page.title for page in pages]
    assert "Mercury (planet)" in titles
    assert not [t for t in titles if t.startswith(("Template:", "Category:"))]
    assert {p.title: p.redirect for p in pages if p.redirect} == {
        "Planet Mercury": "Mercury (planet)", "Quicksilver": "Mercury (element)", "City of Light": "Paris",
        "USA": "United States", "U.S.A.": "USA",
    }  # fmt: skip
    assert sum(page.redirect is None for page in pages) == 34


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_a_packed_dump_reads_like_a_plain_one(pack: object, tmp_path: Path) -> None:
    packed = tmp_path / "dump"
    packed.write_bytes(pack(TINY_DUMP.read_bytes()))  # type: ignore[operator]
    assert list(Dump(packed).pages()) == list(Dump(TINY_DUMP).pages())


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress])
def test_a_dump_that_is_cut_short_is_an_error_of_one_line(pack: object, tmp_path: Path) -> None:
    packed = pack(TINY_DUMP.read_bytes())  # type: ignore[operator]
    truncated = tmp_path / "dump.xml"
    truncated.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="pages-articles") as error:
        list(Dump(truncated).pages())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no MediaWiki XML dump"),
        ("plain words", "no MediaWiki XML dump"),
        ("<html><page/></html>", "<html>, not <mediawiki>"),
        ("<mediawiki></mediawiki>", "holds no pages"),
        ("<mediawiki><page><title>A</title><ns>x</ns></page></mediawiki>", "no MediaWiki XML dump"),
    ],
)
def test_what_is_no_dump(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dump.xml").write_text(content)
    with pytest.raises(DataError, match=message):
        list(Dump(tmp_path / "dump.xml").pages())


def test_a_missing_dump(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="pages-articles"):
        Dump(tmp_path / "none.xml")


def test_old_dumps_name_a_redirect_in_the_text_alone(tmp_path: Path) -> None:
    page = "<page><title>B</title><id>1</id><redirect/><revision><text>#REDIRECT [[a_b#c|x]]</text></revision></page>"
    (tmp_path / "dump.xml").write_text(f"<mediawiki>{page}</mediawiki>")
    (redirect_page,) = Dump(tmp_path / "dump.xml").pages()
    assert redirect_page.redirect == "A b"


def test_progress_reaches_the_size_of_the_file() -> None:
    positions: list[int] = []
    list(Dump(TINY_DUMP).pages(positions.append))
    assert positions == sorted(positions)
    assert positions[-1] == TINY_DUMP.stat().st_size


def test_links_cover_what_is_shown() -> None:
    assert linked("'''Ada''' met [[Charles_Babbage|''Mr'' Babbage]] in [[london#Soho]].") == [
        ("Ada met Mr Babbage in london#Soho.", [("Mr Babbage", "Charles Babbage"), ("london#Soho", "London")])
    ]


def test_letters_behind_a_link_belong_to_it() -> None:
    assert linked("[[apple]]s and [[bus]] es, [[x|ох]]ота, [[y]]2") == [
        ("apples and bus es, охота, y2", [("apples", "Apple"), ("bus", "Bus"), ("охота", "X"), ("y", "Y")])
    ]


def test_what_is_no_running_text_is_left_out() -> None:
    wikitext = (
        "{{Infobox|a=[[B]]}}One<ref>[[C]]</ref>{{t}} &amp; two<!-- no -->.\n{| class=x\n| [[D]]\n|}\n"
        "[[File:x.jpg|thumb|a [[E]]]][[Category:F]][[fr:G]]<br/>[http://h.org here] http://i.org <nowiki>[[j]]</nowiki>"
    )
    assert linked(wikitext) == [("One & two.", []), (" here  [[j]]", [])]


def test_the_namespaces_of_the_wiki_count() -> None:
    site = Site(namespaces={"datei": 6, "kategorie": 14})
    assert linked("[[Datei:x.jpg|y]]a [[Kategorie:Z]][[:Kategorie:Z|b]]", site) == [("a b", [("b", "Kategorie:Z")])]


def test_a_wiki_that_heeds_case() -> None:
    assert Site(first_letter=False).title("iPod") == "iPod"
    assert Site().title(" iPod_touch#x ") == "IPod touch"


def test_paragraphs_end_with_lines_and_the_abstract_with_the_first_heading() -> None:
    parsed = paragraphs("a\n* b [[c]]\n== d ==\ne", Site())
    assert [(p.text.strip(), p.abstract) for p in parsed] == [("a", True), ("b c", True), ("e", False)]
    assert parsed[1].links == (PageLink("C", 3, 4),)


def test_the_tiny_dump_has_no_markup_left() -> None:
    assert not [text for text in tiny_texts() if set("[]{}|<>") & set(text) or "''" in text]


@given(
    st.lists(
        st.sampled_from(["[[a]]", "[[b|", "]]", "\n", "x y", "{{", "}}", "''", "<ref>", "</ref>", "==", "[", "|", "é"]),
        max_size=12,
    )
)
def test_whatever_the_wikitext_links_lie_in_their_paragraph(fragments: list[str]) -> None:
    for paragraph in paragraphs("".join(fragments), Site()):
        assert "\n" not in paragraph.text
        ends = [0, *(end for link in paragraph.links for end in (link.start, link.end)), len(paragraph.text)]
        assert ends == sorted(ends)
        assert all(link.start < link.end and link.title for link in paragraph.links)


def test_escaped_text_is_unescaped(tmp_path: Path) -> None:
    dump = Dump(write_dump(tmp_path / "d.xml", {"A &amp; B": "x &lt;b&gt;y&lt;/b&gt; [[c]]"}))
    (page,) = dump.pages()
    assert (page.title, linked(page.text)) == ("A & B", [("x y c", [("c", "C")])])
