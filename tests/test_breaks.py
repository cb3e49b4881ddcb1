"""Names of a text that separators, blanks, brackets and affixes set off: the marks, the splitter, and links of the starter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blink
from blink.data.records import Entity
from blink.data.windows import Window
from blink.kb.alias_table import AliasTable, normalise
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.name_tables import build_name_tables
from blink.kb.subset import subset
from blink.linking.analysis import TokenizedText, WindowInput
from blink.linking.linker import Linker
from blink.linking.splitting import SpanProposals
from blink.linking.starter import starter_kb
from blink.model.breaks import HARD, LIST, NONE, SENTENCE, STRICT, TextBreaks, blanks_as_spaces, is_closed

CATALOGUE = Path(__file__).parents[1] / "models" / "starter-kb" / "entity.jsonl"
FEW = CATALOGUE.read_text(encoding="utf-8").splitlines()[:1212]
BLANKS = [c for c in map(chr, range(0x110000)) if c.isspace()] + ["\u200b", "\u2060", "\ufeff"]
WELL_KNOWN = 3000
"""Wikidata numbers below it: the starter links these whatever the sentence, so that what is tested is the separators."""


class Name(NamedTuple):
    """A title of the starter's catalogue that nothing else has, and its id."""

    title: str
    kb_id: str


Parts: TypeAlias = Sequence[str | Name]


def unambiguous_names() -> list[Name]:
    entities = [json.loads(line) for line in FEW]
    forms = Counter(form for e in entities for form in {normalise(n) for n in (e["title"], *e.get("aliases", ()))})
    return [
        Name(e["title"], e["kb_idx"])
        for e in entities
        if forms[normalise(e["title"])] == 1
        and e["kb_idx"][1:].isdigit()
        and int(e["kb_idx"][1:]) < WELL_KNOWN
        and e["title"].replace(" ", "").isalpha()
        and e["title"].istitle()
        and len(e["title"].split()) <= 2
        and not e["title"].startswith("The ")
    ]


NAMES = unambiguous_names()
TWO_WORDS = [name for name in NAMES if " " in name.title]
ONE_WORD = [name for name in NAMES if " " not in name.title]


def several(least: int, most: int) -> st.SearchStrategy[list[Name]]:
    return st.lists(st.sampled_from(NAMES), min_size=least, max_size=most, unique=True)


def joined(names: Sequence[Name], separators: Sequence[str]) -> Parts:
    pieces: list[str | Name] = [names[0]]
    for separator, name in zip(separators, names[1:], strict=True):
        pieces += [separator, name]
    return pieces


variations = settings(max_examples=20, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    """The starter over the entities that it has by hand: among few, it links names whatever the sentence."""
    folder = tmp_path_factory.mktemp("few") / "kb"
    whole = KnowledgeBase.open(starter_kb())
    subset(whole, range(len(FEW), len(whole.catalogue)), folder)
    return blink.load("starter", folder)


def assembled(pieces: Parts) -> tuple[str, list[tuple[int, int, str]]]:
    """A text of names and strings, and the bounds and ids of its names."""
    text, names = "", []
    for piece in pieces:
        if isinstance(piece, Name):
            names.append((len(text), len(text) + len(piece.title), piece.kb_id))
        text += piece.title if isinstance(piece, Name) else piece
    return text, names


def check(linker: Linker, pieces: Parts) -> None:
    """Every name of a text is proposed as it is, and no link holds more than one name or more than a name.

    Whether a name is linked is up to the model's scores, see `test_most_names_are_linked`.
    """
    text, names = assembled(pieces)
    (analysis,) = linker.analyze([text])
    assert {(start, end) for start, end, _ in names} <= set(analysis.span_characters()), text
    for link in linker.decode(analysis).links:
        overlapping = [(start, end) for start, end, _ in names if start < link.end and link.start < end]
        assert len(overlapping) <= 1, (text, link)
        assert all(start <= link.start and link.end <= end for start, end in overlapping), (text, link)


# -- links of the starter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "separators",
    [("\n", "\n\n", "\t", "\f", "\u200b"), ("|", " | ", "; ", ", "), (" • ", "\n- ", "\n* "), ("]] and [[", ") (", "” “")],
)
def test_most_names_are_linked(linker: Linker, separators: tuple[str, ...]) -> None:
    random = np.random.default_rng(4)
    right = total = 0
    for _ in range(60):
        names = [NAMES[i] for i in random.choice(len(NAMES), size=int(random.integers(2, 6)), replace=False)]
        separator = separators[random.integers(len(separators))]
        before, after = ("[[", "]]") if "[[" in separator else ("(", ")") if ")" in separator else ("", "")
        text, expected = assembled(["They wrote about ", before, *joined(names, [separator] * (len(names) - 1)), after, "."])
        links = {(link.start, link.end, link.kb_id) for link in linker(text).links}
        right, total = right + len(links & set(expected)), total + len(expected)
    assert right / total >= 0.9, (right, total)


@variations
@given(several(2, 2), st.sampled_from(sorted(set(BLANKS) - {" "})), st.integers(0, 2))
def test_blanks_between_names(linker: Linker, names: list[Name], blank: str, sentence: int) -> None:
    before, after = (("He died in ", " was there."), ("We met in ", " is nearby."), ("The report on ", " was sold in bulk."))[
        sentence
    ]
    check(linker, [before, *joined(names, [blank]), after])


@variations
@given(several(2, 2), st.sampled_from(["\n\n", "\r\n\r\n", "\n \n", "\t", "\f", "\v", "\u2029", "\n\n\n", "\t\t"]))
def test_empty_lines_and_tabs_between_names(linker: Linker, names: list[Name], gap: str) -> None:
    check(linker, ["They wrote about ", *joined(names, [gap]), " is on the map."])


@variations
@given(several(3, 8), st.sampled_from(["\n", "\r\n", "|", " | ", "; ", ", ", "\t", " • ", " · ", "/", " - ", " – "]))
def test_lists_of_names(linker: Linker, names: list[Name], separator: str) -> None:
    check(linker, joined(names, [separator] * (len(names) - 1)))


@variations
@given(
    several(3, 7),
    st.sampled_from([" and ", ", and ", " or ", " & "]),
    st.sampled_from(["", "We read about ", "They wrote on ", "Cities: "]),
    st.sampled_from(["", ".", " last year."]),
)
def test_enumerations_in_sentences(linker: Linker, names: list[Name], last: str, before: str, after: str) -> None:
    check(linker, [before, *joined(names, [", "] * (len(names) - 2) + [last]), after])


@variations
@given(st.sampled_from(NAMES), st.integers(2, 4), st.sampled_from([" ", "  ", ", ", "\n", " | ", " and "]))
def test_one_name_several_times(linker: Linker, name: Name, times: int, separator: str) -> None:
    check(linker, joined([name] * times, [separator] * (times - 1)))


@variations
@given(
    several(2, 2),
    st.sampled_from(
        [
            ("[[", "]]"),
            ("(", ")"),
            ("[", "]"),
            ("{{", "}}"),
            ("“", "”"),
            ('"', '"'),
            ("«", "»"),
            ("<", ">"),
            ("*", "*"),
            ("🎉", "✈️"),
            ("@", ""),
        ]
    ),
)
def test_brackets_and_quotes_around_names(linker: Linker, names: list[Name], around: tuple[str, str]) -> None:
    start, end = around
    check(linker, ["He wrote about ", start, names[0], end, " and ", start, names[1], end, "."])


@variations
@given(several(2, 2))
def test_wiki_links(linker: Linker, names: list[Name]) -> None:
    check(linker, ["He lived in [[", names[0], "]] and [[", names[1], "|that one]]."])


@variations
@given(
    st.lists(st.sampled_from(ONE_WORD), min_size=2, max_size=2, unique=True),
    st.sampled_from(["pro-", "anti-", "non-", "post-"]),
    st.sampled_from(["-based", "-born", "-style", "-led"]),
)
def test_hyphen_compounds(linker: Linker, names: list[Name], prefix: str, suffix: str) -> None:
    check(linker, ["The ", prefix, names[0], " people met the ", names[1], suffix, " firm."])


@variations
@given(several(3, 6), st.sampled_from(["- ", "* ", "• ", "{}. ", "{}) ", "– ", "  - "]))
def test_bullets(linker: Linker, names: list[Name], bullet: str) -> None:
    pieces: list[str | Name] = []
    for number, name in enumerate(names, 1):
        pieces += ["\n" * (number > 1) + bullet.format(number), name]
    check(linker, pieces)


@variations
@given(st.sampled_from(TWO_WORDS), st.sampled_from(["\n", "\r\n", "\u2028", "\xa0", "\u2009"]))
def test_one_line_end_inside_a_name(linker: Linker, name: Name, gap: str) -> None:
    check(linker, ["We read about ", Name(name.title.replace(" ", gap), name.kb_id), " yesterday."])


@pytest.mark.parametrize(("text", "mention"), [
    ("I moved to Washington, D.C. last year.", "Washington, D.C."),
    ("Spider-Man is a film hero.", "Spider-Man"),
    ("He lives in Guinea-Bissau.", "Guinea-Bissau"),
])  # fmt: skip
def test_names_with_separators_stay_whole(linker: Linker, text: str, mention: str) -> None:
    known = linker.kb.names is not None and linker.kb.names.alias_table.lookup(mention)
    if not known:
        pytest.skip(f"{mention} is not in the starter's catalogue")
    assert mention in [link.mention for link in linker(text).links]


# -- marks -------------------------------------------------------------------------------------------------------------


def breaks_of(text: str) -> tuple[list[str], TextBreaks]:
    """Breaks with a word or a symbol as token."""
    tokens: list[tuple[int, int]] = []
    for i, c in enumerate(text):
        if c.isalnum() and tokens and tokens[-1][1] == i and text[i - 1].isalnum():
            tokens[-1] = (tokens[-1][0], i + 1)
        elif not c.isspace() and c not in "\u200b\u2060\ufeff":
            tokens.append((i, i + 1))
    breaks = TextBreaks.of(text, np.array(tokens, dtype=np.int64).reshape(-1, 2))
    assert breaks is not None
    return [text[start:end] for start, end in tokens], breaks


@pytest.mark.parametrize(("text", "codes"), [
    ("A | B", [NONE, STRICT, NONE]),
    ("A; B", [NONE, STRICT, NONE]),
    ("A, B", [NONE, LIST, NONE]),
    ("A and B", [NONE, SENTENCE, NONE]),
    ("Band B,", [NONE, NONE, LIST]),
    ("Vienna. Then", [NONE, SENTENCE, NONE]),
    ("J. R. Smith,", [NONE, NONE, NONE, NONE, NONE, LIST]),
    ("St. Louis,", [NONE, NONE, NONE, LIST]),
    ("pro-Paris", [LIST, LIST, NONE]),
    ("Berlin-based", [NONE, LIST, LIST]),
    ("Spider-Man", [NONE, NONE, NONE]),
    ("Jean-Luc Picard", [NONE, NONE, NONE, NONE]),
    ("- A", [STRICT, NONE]),
    ("1. A", [STRICT, STRICT, NONE]),
    ("A - B", [NONE, LIST, NONE]),
    ("x-y z,", [NONE, NONE, NONE, NONE, LIST]),
    ("P!nk,", [NONE, NONE, NONE, LIST]),
    ("I went,", [NONE, NONE, LIST]),
])  # fmt: skip
def test_marks(text: str, codes: list[int]) -> None:
    assert breaks_of(text)[1].marks.tolist() == codes


@pytest.mark.parametrize(("gap", "code"), [
    (" ", NONE), ("  ", NONE), ("\n", LIST), ("\r\n", LIST), (" \n  ", LIST), ("\u2028", LIST), ("\x85", LIST),
    ("\u200b", LIST),
    ("\n\n", HARD), ("\r\n\r\n", HARD), ("\n \n", HARD), ("\t", HARD), ("\f", HARD), ("\v", HARD), ("\x1c", HARD),
    ("\u2029", HARD),
    ("\xa0", SENTENCE), ("\u2009", SENTENCE),
])  # fmt: skip
def test_gaps(gap: str, code: int) -> None:
    assert breaks_of(f"x{gap}y,")[1].gaps.tolist() == [NONE, code, NONE]


def test_edges() -> None:
    tokens, breaks = breaks_of('("Yahoo!")')
    assert [t for t, edge in zip(tokens, breaks.starts, strict=True) if edge] == ["(", '"', "!", '"', ")"]
    assert [t for t, edge in zip(tokens, breaks.ends, strict=True) if edge] == ["(", '"', '"', ")"]
    assert is_closed("Georgia (country)")
    assert not is_closed("country)")


@given(st.text())
def test_blanks_become_spaces_of_the_same_length(text: str) -> None:
    plain = blanks_as_spaces(text)
    assert len(plain) == len(text)
    assert plain.split() == re.sub("[\u200b\u2060\ufeff]", " ", text).split()


@pytest.mark.parametrize("blank", BLANKS)
def test_every_blank_separates_words(linker: Linker, blank: str) -> None:
    (encoding,) = linker.stages.tokenizer.tokenize([f"Vienna{blank}Mozart"])
    assert encoding.offsets[[0, -1]].tolist() == [[0, 6], [6 + len(blank), 12 + len(blank)]]
    assert len(encoding.ids) == 2


def test_a_soft_hyphen_is_inside_a_word(linker: Linker) -> None:
    plain, hyphened = linker.stages.tokenizer.tokenize(["Vienna", "Vi\u00adenna"])
    assert plain.ids.tolist() == hyphened.ids.tolist()
    assert normalise("Vi\u00adenna") == "vienna"


def test_inputs_of_entities_are_those_of_the_encoder(linker: Linker) -> None:
    entity = Entity(0, "Vienna\u200bMozart", "A\fB")
    tokenizer = linker.stages.tokenizer
    (row,) = tokenizer.entity_ids([entity], "title_text", 64)
    assert row[1:-1] == [*tokenizer._tokenize(["Vienna\u200bMozart"])[0].ids, row[-3], *tokenizer._tokenize(["A\fB"])[0].ids]


# -- splitter ----------------------------------------------------------------------------------------------------------


def split(linker: Linker, text: str, logits: dict[str, float]) -> dict[str, float]:
    """What the splitter makes of proposals: strings of the text to scores; all other spans score -9."""
    assert linker.stages.splitter is not None
    source = TokenizedText(text, linker.stages.tokenizer.tokenize([text])[0])
    offsets = source.encoding.offsets
    n = len(offsets)
    scores = np.full((n + 2, 11), -9, dtype=np.float32)
    bounds = [source.encoding.tokens_of(text.index(s), text.index(s) + len(s)) or (0, 0) for s in logits]
    for (first, past), logit in zip(bounds, logits.values(), strict=True):
        scores[first + 1, past - 1 - first] = logit
    window = WindowInput(source, Window(0, n), [0, *source.encoding.ids.tolist(), 0])
    starts, ends = (np.array([b[i] + 1 - i for b in bounds], dtype=np.int64) for i in range(2))
    new = linker.stages.splitter.split(window, SpanProposals(starts, ends, np.array(list(logits.values()), np.float32)), scores)
    columns = zip(new.start.tolist(), new.end.tolist(), new.logits.tolist(), strict=True)
    return {text[offsets[s - 1, 0] : offsets[e - 1, 1]]: logit for s, e, logit in columns}


@pytest.mark.parametrize(("text", "before", "after"), [
    ("Vienna|Austria", {"Vienna|Austria": 3.0}, {"Vienna": 3.0, "Austria": 3.0}),
    ("Vienna\nAustria", {"Vienna\nAustria": 3.0, "Vienna": 4.0}, {"Vienna": 4.0, "Austria": 3.0}),
    ("New\nYork City", {"New\nYork City": 3.0}, {"New\nYork City": 3.0}),
    ("New\n\nYork City", {"New\n\nYork City": 3.0}, {}),
    ("[[Vienna", {"[[Vienna": 2.0}, {"Vienna": 2.0}),
    ("Vienna, capital of wine", {"Vienna, capital of wine": 2.0}, {"Vienna": -9.0}),
    ("Foobar, Quux", {"Foobar, Quux": 2.0}, {"Foobar, Quux": 2.0}),
    ("Foobar|Quux", {"Foobar|Quux": 2.0}, {}),
    ("Berlin and Rome", {"Berlin and Rome": 1.0}, {"Berlin": 1.0, "Rome": 1.0}),
    ("Berlin and beer", {"Berlin and beer": 1.0}, {"Berlin and beer": 1.0}),
    ("pro-Paris", {"pro-Paris": 1.0}, {"Paris": 1.0}),
    ("Paris Paris", {"Paris Paris": 1.0}, {"Paris": 1.0}),
])  # fmt: skip
def test_splitter(linker: Linker, text: str, before: dict[str, float], after: dict[str, float]) -> None:
    assert split(linker, text, before) == after


def test_items_of_an_enumeration_have_the_second_best_score_at_least(linker: Linker) -> None:
    text = "He saw Paris, Vienna, Berlin and Rome today."
    assert split(linker, text, {"Paris": 3.0, "Vienna": 1.0}) == {"Paris": 3.0, "Vienna": 1.0, "Berlin": 1.0, "Rome": 1.0}


def test_names_of_symbols_are_in_the_alias_table(tmp_path: Path) -> None:
    build_name_tables([Entity(0, "!!!", aliases=("Chk Chk Chk",)), Entity(1, "?"), Entity(2, "1984")], 3, tmp_path)
    table = AliasTable.open(tmp_path)
    rows = {name: [match.row for match in table.lookup(name)] for name in ("!!!", "! ! !", "!!", "?", "1984", "chk chk chk")}
    assert rows == {"!!!": [0], "! ! !": [0], "!!": [], "?": [], "1984": [2], "chk chk chk": [0]}
