"""The document stage: short mentions follow the full names of their text, to an entity or to nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.linking.analysis import TokenizedText
from blink.linking.document import (
    FIRST,
    INITIALS,
    LAST,
    NAMES_KEPT,
    NONE,
    PARTIAL,
    RATES,
    SAME,
    WHOLE,
    Antecedent,
    Document,
    NameMemory,
)
from blink.linking.scoring import ScoredSpans, link_probabilities
from tests import toys

pytestmark = pytest.mark.quick

TITLES = (
    "Angela Merkel",
    "Max Merkel",
    "Barack Obama",
    "Vienna",
    "University of Vienna",
    "World Health Organization",
    "The Who (band)",
    "Western Australia",
    "Australia",
    "Charles de Gaulle",
    "Martin Luther King Jr.",
    "Boston Red Sox",
    "Boston",
    "Adam Smith",
)
ROWS = {title: row for row, title in enumerate(TITLES)}
K = 3


class Titles:
    """A catalogue of titles."""

    def title(self, row: int) -> str:
        return TITLES[row]


@dataclass(frozen=True)
class Proposed:
    """A span that the stages before proposed: the n-th occurrence of a name, and probabilities by title."""

    name: str
    probabilities: dict[str, float]
    occurrence: int = 0
    is_mention: float = 0.9


def spans_of(text: str, proposed: list[Proposed]) -> tuple[ScoredSpans, TokenizedText]:
    source = TokenizedText(text, toys.tokenizer().tokenize([text])[0])
    columns = []
    for p in proposed:
        at = [m.start() for m in re.finditer(re.escape(p.name), text)][p.occurrence]
        first, past = source.encoding.tokens_of(at, at + len(p.name))  # type: ignore[misc]
        best = sorted(p.probabilities.items(), key=lambda item: -item[1])
        nothing = 1 - sum(p.probabilities.values())
        rows = [ROWS[title] for title, _ in best] + [-1] * (K - len(best))
        logits = [np.log(value / nothing) for _, value in best] + [-np.inf] * (K - len(best))
        columns.append((first, past - 1, np.log(p.is_mention / (1 - p.is_mention)), rows, logits))
    columns.sort(key=lambda c: c[:2])
    start, end, mention, rows, logits = (
        zip(*columns, strict=True) if columns else ((), (), (), np.empty((0, K)), np.empty((0, K)))
    )
    of_spans = ScoredSpans(
        np.array(start, dtype=np.int64), np.array(end, dtype=np.int64), np.array(mention, dtype=np.float32),
        np.array(rows, dtype=np.int64), np.array(logits, dtype=np.float32),
    )  # fmt: skip
    return of_spans, source


def linked(spans: ScoredSpans, source: TokenizedText) -> list[tuple[str, str, float]]:
    """Each span with its best entity and probability, by position."""
    best = zip(spans.start, spans.end, spans.rows[:, 0], link_probabilities(spans)[:, 0], strict=True)
    offsets = source.encoding.offsets
    return [(source.text[offsets[a, 0] : offsets[b, 1]], TITLES[row], float(p)) for a, b, row, p in sorted(best)]


def rescored(text: str, *proposed: Proposed, memory: NameMemory | None = None) -> list[tuple[str, str, float]]:
    spans, source = spans_of(text, list(proposed))
    return linked(Document(Titles()).rescore(spans, source, memory), source)  # type: ignore[arg-type]


MERKEL = Proposed("Angela Merkel", {"Angela Merkel": 0.96})


def test_a_surname_follows_the_full_name_to_an_entity_that_is_no_candidate() -> None:
    text = "Angela Merkel spoke. Later Merkel left."
    short = Proposed("Merkel", {"Vienna": 0.1}, occurrence=1)
    _, (name, title, probability) = rescored(text, MERKEL, short)
    assert (name, title) == ("Merkel", "Angela Merkel")
    assert probability == pytest.approx(RATES[LAST, NONE, True] * 0.96, abs=1e-4)


def test_a_surname_follows_a_full_name_behind_it() -> None:
    text = "Merkel spoke. Then Angela Merkel left."
    (_, title, probability), _ = rescored(text, MERKEL, Proposed("Merkel", {"Vienna": 0.1}))
    assert (title, probability) == ("Angela Merkel", pytest.approx(RATES[LAST, NONE, True] * 0.96, abs=1e-4))


def test_a_mention_that_no_stage_proposed_is_added() -> None:
    assert rescored("Angela Merkel spoke. Later, Merkel left, and the others of Merkel's party too.", MERKEL) == [
        ("Angela Merkel", "Angela Merkel", pytest.approx(0.96, abs=1e-4)),
        ("Merkel", "Angela Merkel", pytest.approx(RATES[LAST, NONE, True] * 0.96, abs=1e-4)),
        ("Merkel", "Angela Merkel", pytest.approx(RATES[LAST, NONE, True] * 0.96, abs=1e-4)),
    ]


@pytest.mark.parametrize("before", ["She left Vienna.", "It was 1990.", "He spoke!", "The", "They saw"])
def test_mentions_that_begin_a_sentence_are_added(before: str) -> None:
    text = f"Angela Merkel spoke. {before} Merkel smiled."
    assert [name for name, _, _ in rescored(text, MERKEL)] == ["Angela Merkel", "Merkel"]


@pytest.mark.parametrize(
    "text",
    [
        "Angela Merkel spoke. Dr. Merkel left.",  # a title or an initial may belong to another name
        "Angela Merkel spoke. They saw J. Merkel there.",
        "Angela Merkel spoke. Tim Merkel left.",  # another name
        "Angela Merkel spoke. The Merkel Foundation paid.",
        "Angela Merkel spoke. The word merkel is one.",
        "angela merkel spoke. later merkel left.",  # nothing tells names from words
        "Angela Merkel spoke. Angela said so.",  # first names alone are not added
    ],
)
def test_what_may_be_something_else_is_not_added(text: str) -> None:
    name = text[:13]
    assert len(rescored(text, Proposed(name, {"Angela Merkel": 0.96}))) == 1


def test_a_namesake_of_a_full_name_that_is_not_linked_is_lowered() -> None:
    text = "Tim Merkel won the match. Merkel is 19."
    full = Proposed("Tim Merkel", {"Angela Merkel": 0.1, "Max Merkel": 0.05})
    _, (name, title, probability) = rescored(text, full, Proposed("Merkel", {"Angela Merkel": 0.8}, occurrence=1))
    rate = RATES[LAST, PARTIAL, False]
    assert (name, title, probability) == ("Merkel", "Angela Merkel", pytest.approx(rate * 0.1 + (1 - rate) * 0.8, abs=1e-4))
    assert probability < 0.5


def test_a_linked_full_name_counts_more_than_one_that_is_not() -> None:
    text = "Angela Merkel met Tim Merkel. Merkel spoke."
    tim = Proposed("Tim Merkel", {"Angela Merkel": 0.1})
    assert rescored(text, MERKEL, tim, Proposed("Merkel", {"Angela Merkel": 0.3}, occurrence=2))[2][2] > 0.8


def test_of_several_full_names_the_likely_one_counts_and_else_the_last() -> None:
    text = "Angela Merkel met Max Merkel. Merkel spoke."
    footballer = Proposed("Max Merkel", {"Max Merkel": 0.9})
    for probabilities, title in (({"Angela Merkel": 0.3}, "Angela Merkel"), ({"Vienna": 0.04}, "Max Merkel")):
        assert rescored(text, MERKEL, footballer, Proposed("Merkel", probabilities, occurrence=2))[2][1] == title


def test_a_full_name_before_a_mention_counts_more_than_one_behind_it() -> None:
    text = "Tim Merkel won. Merkel smiled. Angela Merkel smiled too."
    tim, short = Proposed("Tim Merkel", {"Angela Merkel": 0.1}), Proposed("Merkel", {"Angela Merkel": 0.6}, occurrence=1)
    assert rescored(text, tim, short, MERKEL)[1][2] < 0.3


def test_names_of_which_it_is_not_known_whether_they_are_linked_have_no_followers() -> None:
    text = "Angela Merkel spoke. Later Merkel left."
    short = Proposed("Merkel", {"Angela Merkel": 0.4}, occurrence=1)
    assert rescored(text, Proposed("Angela Merkel", {"Angela Merkel": 0.5}), short)[1][2] == pytest.approx(0.4, abs=1e-4)


def test_initials_that_are_defined_in_brackets() -> None:
    text = "The World Health Organization (WHO) met. The WHO said no."
    full = Proposed("World Health Organization", {"World Health Organization": 0.95})
    band = [Proposed("WHO", {"The Who (band)": 0.6}, occurrence=n) for n in (0, 1)]
    of_text = rescored(text, full, *band)
    assert [title for _, title, _ in of_text] == ["World Health Organization"] * 3
    assert of_text[2][2] == pytest.approx(RATES[INITIALS, PARTIAL, True] * 0.95, abs=1e-4)
    unsure = Proposed("World Health Organization", {"World Health Organization": 0.4})
    assert rescored(text, unsure, band[1])[1][1:] == ("World Health Organization", pytest.approx(0.9 * 0.4, abs=1e-3))
    undefined = rescored(text.replace(" (WHO)", ""), full, Proposed("WHO", {"The Who (band)": 0.6}))
    assert undefined[1][1] == "The Who (band)"


def test_a_name_of_something_in_a_name_is_not_that_name() -> None:
    full = Proposed("University of Vienna", {"University of Vienna": 0.95})
    text = "She left the University of Vienna. Vienna is large."
    assert rescored(text, full, Proposed("Vienna", {"Vienna": 0.5}, occurrence=1))[1][1:] == (
        "Vienna",
        pytest.approx(0.5, abs=1e-4),
    )
    assert len(rescored(text, full)) == 1


def test_a_whole_name_of_another_entity_stays() -> None:
    text = "They left Western Australia. Australia is large."
    west = Proposed("Western Australia", {"Western Australia": 0.9})
    australia = Proposed("Australia", {"Australia": 0.9}, occurrence=1)
    assert rescored(text, west, australia)[1][1] == "Australia"


def test_first_names_particles_and_suffixes() -> None:
    angela = Proposed("Angela", {"Vienna": 0.05}, occurrence=1)
    probability = RATES[FIRST, NONE, True] * 0.96
    assert rescored("Angela Merkel spoke. Angela smiled.", MERKEL, angela)[1][2] == pytest.approx(probability, abs=1e-3)
    general = Proposed("Charles de Gaulle", {"Charles de Gaulle": 0.9})
    assert rescored("Charles de Gaulle left. De Gaulle and Gaulle.", general)[-1][:2] == ("Gaulle", "Charles de Gaulle")
    king = Proposed("Martin Luther King Jr.", {"Martin Luther King Jr.": 0.9})
    assert rescored("Martin Luther King Jr. spoke. They heard King.", king)[-1][:2] == ("King", "Martin Luther King Jr.")
    team = Proposed("Boston Red Sox", {"Boston Red Sox": 0.9})
    assert rescored("The Boston Red Sox won. The Red Sox lost.", team)[-1][:2] == ("Red Sox", "Boston Red Sox")


def test_the_same_words_follow_their_most_probable_mention() -> None:
    text = "Obama spoke. Barack was there. Obama left. Obama!"
    obama = [Proposed("Obama", {"Barack Obama": p}, occurrence=n) for n, p in enumerate((0.3, 0.9, 0.6))]
    probabilities = [p for name, _, p in rescored(text, *obama) if name == "Obama"]
    rate = RATES[SAME, NONE, True]
    assert probabilities == pytest.approx([rate * 0.9 + (1 - rate) * p for p in (0.3, 0.9, 0.6)], abs=1e-3)


def test_texts_that_repeat_no_word_are_untouched() -> None:
    spans, source = spans_of("Angela Merkel spoke in Vienna.", [MERKEL, Proposed("Vienna", {"Vienna": 0.4})])
    assert Document(Titles()).rescore(spans, source) is spans  # type: ignore[arg-type]
    empty, source = spans_of("so so", [])
    assert Document(Titles()).rescore(empty, source) is empty  # type: ignore[arg-type]


def test_names_are_remembered_from_section_to_section() -> None:
    memory = NameMemory()
    rescored("Angela Merkel spoke.", MERKEL, memory=memory)
    rescored("Nobody listened in Vienna.", Proposed("Vienna", {"Vienna": 0.9}), memory=memory)
    later = rescored("Merkel left.", Proposed("Merkel", {"Vienna": 0.1}), memory=memory)
    assert later == [("Merkel", "Angela Merkel", pytest.approx(RATES[LAST, NONE, True] * 0.96, abs=1e-4))]
    assert rescored("Merkel left.", Proposed("Merkel", {"Vienna": 0.1}), memory=NameMemory())[0][1] == "Vienna"


def test_the_memory_of_names_is_bounded() -> None:
    memory = NameMemory()
    name = Antecedent(LAST, np.array([0]), np.array([0.9], dtype=np.float32))
    for i in range(NAMES_KEPT + 10):
        memory.add((f"name{i}",), name)
    for words, expected in (("name0",), None), ((f"name{NAMES_KEPT}",), name):
        assert memory.full_name(words, np.array([0]), np.array([0.5])) is expected
    assert len(memory) == NAMES_KEPT


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[Proposed]]:
    names = st.sampled_from(
        ["Angela Merkel", "Merkel", "Max Merkel", "Obama", "Barack Obama", "Vienna", "University of Vienna"]
    )
    words = draw(st.lists(names, min_size=1, max_size=8))
    text = " spoke. ".join(words) + " spoke."
    proposed = []
    for n, word in enumerate(words):
        before = " spoke. ".join(words[:n]) + (" spoke. " if n else "")
        occurrence = sum(m.start() < len(before) for m in re.finditer(re.escape(word), text))
        titles = draw(st.lists(st.sampled_from(TITLES), unique=True, min_size=1, max_size=K))
        shares = draw(st.lists(st.floats(0.01, 1), min_size=len(titles) + 1, max_size=len(titles) + 1))
        of_titles = {title: share / sum(shares) for title, share in zip(titles, shares, strict=False)}
        if draw(st.booleans()):
            proposed.append(Proposed(word, of_titles, occurrence, draw(st.sampled_from([0.05, 0.9]))))
    return text, proposed


@given(documents())
def test_scores_stay_probabilities_in_order(case: tuple[str, list[Proposed]]) -> None:
    text, proposed = case
    spans, source = spans_of(text, proposed)
    after = Document(Titles()).rescore(spans, source)  # type: ignore[arg-type]
    probabilities = link_probabilities(after)
    assert np.isfinite(probabilities).all()
    assert (probabilities.sum(1) <= 1 + 1e-5).all()
    assert (np.diff(probabilities, axis=1) <= 1e-6).all()
    assert all(len(set(real)) == len(real) for row in after.rows.tolist() if (real := [r for r in row if r >= 0]))
    # Spans keep their places; those that are added are behind them, and are new.
    assert np.array_equal(after.start[: len(spans)], spans.start)
    keys = list(zip(after.start.tolist(), after.end.tolist(), strict=True))
    assert len(set(keys)) == len(keys) or len(set(keys)) == len(set(keys[: len(spans)])) + len(keys) - len(spans)


@given(documents())
def test_the_texts_that_are_skipped_are_those_where_nothing_follows(case: tuple[str, list[Proposed]]) -> None:
    text, proposed = case
    spans, source = spans_of(text, proposed)
    stage = Document(Titles())  # type: ignore[arg-type]
    if stage.rescore(spans, source) is spans:
        after = stage.rescore(spans, source, NameMemory())
        assert len(after) == len(spans)
        assert np.array_equal(after.entity_logits, spans.entity_logits)


@pytest.mark.parametrize(
    ("text", "proposed", "expected"),
    [
        ("Angela Merkel led. The Merkel-led party won.", [MERKEL, Proposed("Merkel", {"Vienna": 0.1}, 1)], "Angela Merkel"),
        (
            "The World Health Organization (WHO) met.",
            [Proposed("World Health Organization", {"World Health Organization": 0.95}), Proposed("WHO", {"Vienna": 0.1})],
            "World Health Organization",
        ),
        (
            "angela merkel spoke and merkel left.",
            [Proposed("angela merkel", {"Angela Merkel": 0.96}), Proposed("merkel", {"Vienna": 0.1}, 1)],
            "Angela Merkel",
        ),
    ],
)
def test_texts_with_one_short_mention_are_not_skipped(text: str, proposed: list[Proposed], expected: str) -> None:
    assert rescored(text, *proposed)[1][1] == expected


@pytest.mark.parametrize(
    ("text", "short"), [("The man who led the party left it to the others.", "man"), ("what was it that he was", "what")]
)
def test_texts_that_repeat_words_but_no_name_are_untouched(text: str, short: str) -> None:
    spans, source = spans_of(text, [Proposed(short, {"Vienna": 0.4})])
    assert Document(Titles()).rescore(spans, source) is spans  # type: ignore[arg-type]


@given(documents())
def test_only_followers_of_a_name_change(case: tuple[str, list[Proposed]]) -> None:
    text, proposed = case
    spans, source = spans_of(text, proposed)
    after = Document(Titles()).rescore(spans, source)  # type: ignore[arg-type]
    changed = ~np.isclose(link_probabilities(after)[: len(spans)], link_probabilities(spans), atol=1e-5).all(1)
    offsets = source.encoding.offsets
    strings = [text[offsets[a, 0] : offsets[b, 1]] for a, b in zip(spans.start, spans.end, strict=True)]
    for i in np.flatnonzero(changed).tolist():
        words = strings[i].split()
        assert any(j != i and other.split()[-len(words) :] == words for j, other in enumerate(strings)), strings[i]


def test_all_kinds_have_a_rate() -> None:
    linked_kinds = {(kind, rival, True) for kind in (LAST, FIRST, INITIALS, SAME) for rival in (NONE, PARTIAL, WHOLE)}
    assert set(RATES) == linked_kinds | {(kind, rival, False) for kind in (LAST, INITIALS) for rival in (NONE, PARTIAL, WHOLE)}
    assert all(0 <= rate <= 1 for rate in RATES.values())
