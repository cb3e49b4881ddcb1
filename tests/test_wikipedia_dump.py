"""Wikipedia's XML dump: introductions, names with their counts, redirects, and the same bytes however the dump is read."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import dump_toys as toys
import mwparserfromhell
import numpy as np
import pytest
from dump_toys import page
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.dumps import name_counts, segments
from blink.dumps.journal import Journal
from blink.dumps.name_counts import NameCounts
from blink.dumps.run import Summary, run_job
from blink.dumps.segments import Dump
from blink.dumps.titles import TitleTable, Wiki, hashes, normal_title
from blink.dumps.wikipedia import WikipediaOptions, wikipedia_job
from blink.dumps.wikitext import paragraphs
from blink.errors import DataError, MismatchError

PARIS = """{{Short description|Capital of France}}
{{Infobox settlement
| name = Paris
| image = [[File:A.jpg|thumb|a [[river]]]]
| flag = {{flag|{{nowrap|FR}}}}
}}
[[File:Seine.jpg|thumb|left|The [[Seine]] in '''Paris''']]
'''Paris''' ({{IPA|fr|x}}; <!-- hidden [[Rome]] -->) is the [[Capital city|capital]] of [[france]].<ref name="a">{{cite web|title=x|url=y}}</ref> It has&nbsp;{{convert|5|km|mi}} of [[river]]s &amp; parks<ref name="a" />.

{| class="wikitable"
| [[Rome]] || {{x}}
|}
* a list
== History ==
See [[Rome#History|old Rome]], [[Rome|the Eternal City]] and [[the_Eternal City]]. [[Category:Cities]] [[fr:Paris]]
"""  # noqa: E501
PAGES = [
    page(10, "Paris", PARIS),
    page(11, "City of Light", redirect="Paris"),
    page(12, "Paname", redirect="City of Light"),  # a chain
    page(13, "Loop A", redirect="Loop B"),
    page(14, "Loop B", redirect="Loop A"),
    page(15, "Treaty of Paris", redirect="Paris#History"),
    page(
        16,
        "Rome",
        "'''Rome''' is the capital of [[Italy]], not [[Paris]] or [[city of Light|Paree]] or [[City of Light|paree]].",
    ),
    page(17, "The Eternal City", redirect="Rome"),
    page(18, "France", "'''France''' is a country with [[Paris]], [[Paris]] and [[PARIS]]. [[Paname|Paree]] too."),
    page(19, "Paris (disambiguation)", "'''Paris''' may be:\n* [[Paris]]\n* ''[[Paris (film)]]'', a film\n{{disambiguation}}"),
    page(20, "Paris (film)", "'''''Paris''''' is a [[film]] by nobody, see [[Paris (film)|Paris]]."),
    page(21, "List of cities", "* [[Rome]]\n* [[Rome]]"),
    page(22, "Category:Cities", "x", namespace=14),
    page(23, "Template:X", "[[Paris]]", namespace=10),
    page(24, "Stub", "{{stub}}"),
    "  <page>\n    <title>Broken</title>\n    <ns>0</ns>\n    <id>25</id>\n    <text>a & b</text>\n  </page>\n",
]
PROPS = (
    "CREATE TABLE `page_props` (`pp_page` int);\nINSERT INTO `page_props` VALUES (10,'wikibase_item','Q90',NULL),"
    "(10,'page_image','A.jpg',NULL),(16,'wikibase-badge-Q1','1',NULL),(16,'wikibase_item','Q220',NULL);\n"
)
WIKI = Wiki.of(toys.HEAD.encode())


def made(
    tmp_path: Path, pages: list[str] = PAGES, how: str = "plain", workers: int = 1, **options: Any
) -> tuple[Path, Summary]:
    out = tmp_path / f"out-{how}-{workers}"
    job = wikipedia_job(Dump.open(toys.stored(tmp_path, toys.wikipedia(pages), how)), out, WikipediaOptions(**options))
    return out, run_job(job, workers=workers)


def entities(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "entity.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["title"]: row for row in rows}


def test_an_entity_has_its_introduction_and_its_names(tmp_path: Path) -> None:
    (tmp_path / "props.sql.gz").write_bytes(gzip.compress(PROPS.encode()))
    out, summary = made(tmp_path, page_props=str(tmp_path / "props.sql.gz"), min_links=1)
    rows = entities(out)
    assert list(rows) == ["Paris", "Rome", "France", "Paris (film)"]
    paris = rows["Paris"]
    assert paris["text"] == "Paris is the capital of france. It has 5 km of rivers & parks."
    assert paris["kb_idx"] == "Q90"
    assert paris["idx"] == "https://en.wikipedia.org/wiki?curid=10"
    assert paris["ids"] == {"enwiki": "10"}
    assert paris["aliases"] == ["Paree", "City of Light", "Paname"]
    assert paris["alias_counts"] == {"Paris": 3, "Paree": 3}  # PARIS is a page of its own that is not there
    assert rows["Paris (film)"]["aliases"] == ["Paris"]  # of the disambiguation page, and of a link
    assert rows["Rome"]["aliases"] == ["the Eternal City"]
    assert "old Rome" not in rows["Rome"]["alias_counts"]
    assert rows["Paris"]["popularity"] > rows["Paris (film)"]["popularity"]
    counts = summary.counts
    assert (counts["redirects that are resolved"], counts["redirects that lead nowhere"]) == (3, 2)
    assert (counts["redirects to sections"], counts["disambiguation pages"], counts["lists"]) == (1, 1, 1)
    assert (counts["without introduction"], counts["pages of other namespaces"], counts["broken"]) == (1, 2, 1)
    assert summary.problems[0].startswith("page 16: not XML")


def test_rare_names_are_left_out_unless_a_redirect_has_them(tmp_path: Path) -> None:
    many = [
        page(30 + n, f"X{n}", f"'''X{n}''' is a place near [[Rome|here]] and [[Rome|the place]] of note.") for n in range(3)
    ]
    rows = entities(made(tmp_path, [*PAGES, *many, page(40, "Y", "It is a thing of [[Paris|here]] alone.")], min_share=0.5)[0])
    assert rows["Rome"]["aliases"] == ["here", "the place", "the Eternal City"]
    assert "here" not in rows["Paris"]["aliases"]
    assert "City of Light" in rows["Paris"]["aliases"]


@pytest.mark.parametrize("how", toys.STORED)
def test_the_same_bytes_however_it_is_stored_and_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    expected = (made(tmp_path)[0] / "entity.jsonl").read_bytes()
    for name in ("PLAIN_BYTES", "BZIP2_BYTES", "TEXT_BYTES"):
        monkeypatch.setattr(segments, name, 499)
    (tmp_path / "again").mkdir()
    out, summary = made(tmp_path / "again", how=how)
    assert (out / "entity.jsonl").read_bytes() == expected
    assert summary.problems[0].startswith("page 16: ")


def test_streams_of_the_index_are_read_and_missing_pages_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "BZIP2_BYTES", 1)
    parts = [toys.HEAD, *("".join(PAGES[i : i + 3]) for i in range(0, len(PAGES), 3)), "</mediawiki>\n"]
    content, index, number = b"", [], 0
    for part in parts:
        index += [f"{len(content)}:{number}:T:x" for _ in range(part.count("<page>"))]
        content += bz2.compress(part.encode())
    dump = tmp_path / "enwiki-multistream.xml.bz2"
    dump.write_bytes(content)
    beside = tmp_path / "enwiki-multistream-index.txt.bz2"
    beside.write_bytes(bz2.compress("\n".join([*index, f"{len(content) - 1}:9:gone"]).encode()))
    opened = Dump.open(dump)
    assert len(opened.streams) == len(parts) - 1
    with pytest.raises(DataError, match="damaged between bytes"):  # the last line names no stream
        run_job(wikipedia_job(opened, tmp_path / "out-0", WikipediaOptions()))
    beside.write_bytes(bz2.compress("\n".join([*index, index[-1]]).encode()))
    summary = run_job(wikipedia_job(Dump.open(dump), tmp_path / "out", WikipediaOptions()))
    assert (tmp_path / "out" / "entity.jsonl").read_bytes() == (made(tmp_path)[0] / "entity.jsonl").read_bytes()
    assert summary.counts["pages of the index that were not read"] == 1
    beside.write_bytes(bz2.compress(b"99999999:1:x\n"))
    with pytest.raises(DataError, match="is the index of another file"):
        Dump.open(dump)
    beside.write_bytes(bz2.compress(b"12:1:x\nhello\n"))
    with pytest.raises(DataError, match="line 2: no line of an index"):
        Dump.open(dump)


@pytest.mark.parametrize("how", ["plain", "gz"])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(segments, "PLAIN_BYTES", 700)
    monkeypatch.setattr(segments, "TEXT_BYTES", 700)
    expected = (made(tmp_path, how=how)[0] / "entity.jsonl").read_bytes()
    commit, rng, kills = Journal.commit, random.Random(2), 0
    count = NameCounts.count

    def dying(self: Journal, *arguments: Any) -> None:
        if rng.random() < 0.3:
            raise KeyboardInterrupt
        commit(self, *arguments)

    def dying_count(self: NameCounts, uses: Any) -> None:
        count(self, uses)
        if rng.random() < 0.7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "commit", dying)
    monkeypatch.setattr(NameCounts, "count", dying_count)
    (tmp_path / "again").mkdir()
    while True:
        try:
            out, _ = made(tmp_path / "again", how=how)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 3
    assert (out / "entity.jsonl").read_bytes() == expected


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no record that can be read"):
        made(tmp_path, ["no page at all"], how="gz")
    with pytest.raises(DataError, match="no article with an introduction"):
        made(tmp_path, [page(1, "Template:X", "x", namespace=10)], how="bz2")
    with pytest.raises(DataError, match="undefined entity"):  # a document type outside of pages is never read
        made(tmp_path, ["<!DOCTYPE x [<!ENTITY a 'b'>]><page><title>&a;</title></page>"], how="zst")
    (tmp_path / "props.sql").write_text("nothing")
    with pytest.raises(DataError, match="names no item of Wikidata"):
        made(tmp_path, page_props=str(tmp_path / "props.sql"))
    with pytest.raises(MismatchError, match="min_links"):
        made(tmp_path, page_props=str(tmp_path / "props.sql"), min_links=7)


# -- wikitext ------------------------------------------------------------------------------------------------------------

WORDS = st.text("abcXYZ éß", min_size=1, max_size=8).filter(lambda s: s == s.strip() and "  " not in s)
NOISE = st.sampled_from(
    ["<!-- x [[no]] -->", "<ref>[[no]] {{x|{{y}}}}</ref>", '<ref name="a" />', "{{x|[[no]]|b={{c}}}}", "'''", "''",
     "<br />", "&nbsp;",
     "[[File:A.jpg|thumb|a [[no]] b]]", "[[Category:No]]", "__TOC__", "\ue000", "&#xE001;", "( ; )"]
)  # fmt: skip


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, NOISE), min_size=1, max_size=6), st.data())
@settings(max_examples=150, deadline=None)
def test_mentions_are_where_their_links_were(parts: list[tuple[str, str, str, str]], data: Any) -> None:
    wikitext, expected = "Text", []
    for before, target, label, noise in parts:
        is_piped = data.draw(st.booleans())
        wikitext += f" {before} {noise} [[{target}{'|' + label if is_piped else ''}]] {noise}"
        expected.append((label if is_piped else target, target))
    (paragraph,) = paragraphs(wikitext, WIKI)
    assert [(paragraph.text[start:end], target) for start, end, target in paragraph.links] == expected
    assert not set("\ue000\ue001[]{}<>") & set(paragraph.text)


@given(st.text("[]{}|'<>!-=#* \nabN:F&;/\ue000(),", max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_wikitext_gives_exact_offsets(wikitext: str) -> None:
    for paragraph in paragraphs(wikitext, WIKI):
        end = 0
        for start, stop, target in paragraph.links:
            assert end <= start < stop <= len(paragraph.text)
            assert paragraph.text[start:stop] == paragraph.text[start:stop].strip()
            assert WIKI.target(target)
            end = stop


PARTS = st.sampled_from(
    ["plain words", "'''bold'''", "''it''", "[[A b]]", "[[A b|label]]", "[[bus]]es", "<!-- c -->", "<ref>r</ref>",
     "{{t|a={{u}}}}", "<ref name=x/>", "<b>tag</b>", "a &amp; b", "[[x_y|''z'']]", "{{small}}"]
)  # fmt: skip


@given(st.lists(PARTS, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_prose_is_that_of_an_independent_parser(parts: list[str]) -> None:
    wikitext = " and ".join(parts) + " end"
    parsed = mwparserfromhell.parse(wikitext)
    for tag in [t for t in parsed.filter_tags() if t.tag == "ref"]:
        parsed.remove(tag)
    reference = " ".join(str(parsed.strip_code()).split())
    (paragraph,) = paragraphs(wikitext, WIKI)
    assert paragraph.text == reference


@pytest.mark.parametrize(
    ("title", "normal"),
    [
        ("new_York  City", "New York City"),
        ("a%20b#c", "A b"),
        ("&Eacute;tat", "État"),
        (":Foo", "Foo"),
        ("ßx", "ßx"),
        (" _x_ ", "X"),
    ],
)
def test_titles_have_one_form(title: str, normal: str) -> None:
    assert normal_title(title) == normal
    assert normal_title(normal) == normal


def test_targets_of_other_namespaces_and_wikis_are_none() -> None:
    assert [WIKI.target(t) for t in ("File:x", "category:y", "fr:Paris", "Star Trek: Picard", "#x", "Image:z")] == [
        "", "", "", "Star Trek: Picard", "", "",
    ]  # fmt: skip


NAMES = st.sampled_from([f"t{n}" for n in range(12)])


@given(st.lists(NAMES, unique=True, max_size=6), st.dictionaries(NAMES, NAMES, max_size=12))
def test_redirects_are_followed_to_their_ends(pages: list[str], redirects: dict[str, str]) -> None:
    table = TitleTable.of_pages(hashes(pages), np.arange(len(pages)), hashes(redirects), hashes(redirects.values()))

    def expected(title: str) -> int:
        seen = set()
        while title not in pages and title in redirects and title not in seen:
            seen.add(title)
            title = redirects[title]
        return pages.index(title) if title in pages else -1

    titles = [f"t{n}" for n in range(12)]
    assert table.rows(titles).tolist() == [expected(title) for title in titles]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "A", "b", "ç"]), st.integers(0, 6), st.integers(0, 3)), max_size=40),
    st.integers(1, 4), st.sampled_from([0.0, 0.3, 0.6]), st.integers(1, 50),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_names_are_counted_as_in_memory(
    tmp_path_factory: Any, uses: list[tuple[str, int, int]], min_links: int, min_share: float, max_uses: int
) -> None:
    n_of: Counter[tuple[str, int]] = Counter()
    totals: Counter[str] = Counter()
    for name, row, n in uses:
        n_of[name.casefold(), row] += n
        totals[name.casefold()] += n
    certain = {(name.casefold(), row) for name, row, n in uses if not n}
    expected = {key: n for key, n in n_of.items() if key in certain or (n >= min_links and n >= min_share * totals[key[0]])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_counts, "ROWS_PER_FILE", 3)
        patch.setattr(name_counts, "MAX_USES", max_uses)
        counts = NameCounts(tmp_path_factory.mktemp("names"), 7, min_links, min_share)
        counts.count(uses)
        counted = {(name.casefold(), row): n for row, of_row in enumerate(counts.of_rows()) for name, n in of_row.items()}
    assert counted == expected
