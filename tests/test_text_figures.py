"""What the scripts count that measure models on texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.records import Link, LinkedText, Mention, Sample
from blink.errors import BlinkError, DataError, SettingsError
from blink.evaluation.counts import EvaluatedText, evaluated_text
from blink.files import read_json
from blink.linking.linker import Linker
from scripts import document_figures, joined_texts, model_rows, nil_figures, trap_figures
from scripts.model_rows import Rate, named_models

pytestmark = pytest.mark.quick


def linked(text: str, *links: tuple[int, int, str], score: float = 0.9) -> LinkedText:
    return LinkedText(text, tuple(Link(s, e, text[s:e], 0, kb_id, kb_id, score, ()) for s, e, kb_id in links))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_rate_and_shrink_with_more_texts(counts: tuple[int, int]) -> None:
    rate = Rate(*counts)
    low, high = rate.interval()
    assert 0 <= low <= rate.value + 1e-12
    assert rate.value - 1e-12 <= high <= 1
    more_low, more_high = Rate(10 * rate.count, 10 * rate.total).interval()
    assert more_high - more_low < high - low
    mirrored = Rate(rate.total - rate.count, rate.total).interval()
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_intervals_are_those_of_wilson() -> None:
    assert Rate(6, 40).interval() == pytest.approx((0.0706, 0.2907), abs=1e-4)  # statsmodels, proportion_confint
    assert Rate(0, 0).interval() == (0, 1)


class TestTeams:
    def figures(self, *links: tuple[int, int, str]) -> dict[str, Any]:
        gold = {"mentions": [[0, 5], [10, 16], [20, 24]], "wikidata_id": ["Q1", "Q2", "Q3"]}
        row = gold | {"kinds": ["team", "team", "other"]}
        return trap_figures.team_figures([row], [linked("Leeds and Boston in Asia", *links)])

    def test_a_text_is_right_if_all_its_teams_are(self) -> None:
        assert self.figures((0, 5, "Q1"), (10, 16, "Q2"))["texts"]["team"]["count"] == 1
        assert self.figures((0, 5, "Q1"), (10, 16, "Q9"))["texts"]["team"]["count"] == 0
        assert self.figures((0, 5, "Q1"))["texts"]["team"]["count"] == 0

    def test_wrong_and_missed_mentions_are_told_apart(self) -> None:
        mentions = self.figures((0, 5, "Q9"), (20, 24, "Q3"))["mentions"]
        assert {name: mentions["team"][name] for name in ("count", "wrong", "missed")} == {"count": 0, "wrong": 1, "missed": 1}
        assert mentions["other"]["count"] == 1


def test_a_pair_is_right_if_both_texts_are() -> None:
    rows = [
        {"id": f"pair-{pair}-{side}", "pair": pair, "mentions": [[0, 4]], "wikidata_id": [f"Q{side}"], "alias_of": "first"}
        for pair in (1, 2)
        for side in (1, 2)
    ]
    texts = [linked("Mars", (0, 4, kb_id), score=0.99) for kb_id in ("Q1", "Q2", "Q1", "Q1")]
    figures = trap_figures.lookalike_figures(rows, texts)
    assert (figures["pairs"]["count"], figures["pairs"]["total"]) == (1, 2)
    assert (figures["texts"]["count"], figures["texts"]["wrong"], figures["texts"]["wrong_and_certain"]) == (3, 1, 1)
    assert {of: rate["count"] for of, rate in figures["by_alias"].items()} == {"alias": 2, "no alias": 1}


@pytest.mark.parametrize(
    ("links", "alone"), [((), 1), (((0, 4, "Q1"),), 0), (((2, 9, "Q1"),), 0), (((0, 4, "Q7"),), 1), (((5, 9, "Q1"),), 1)]
)
def test_a_trap_is_left_alone_without_other_links_on_its_span(links: tuple[tuple[int, int, str], ...], alone: int) -> None:
    row = {"kind": "language", "tempting": [[0, 4]], "allowed": ["Q7"], "mentions": [], "wikidata_id": []}
    assert trap_figures.trap_figures([row], [linked("Thai is easy", *links)])["alone"]["count"] == alone


def test_results_keep_the_rows_of_other_names(tmp_path: Path) -> None:
    def page(rows: Any) -> str:
        return " ".join(f"{row['name']}{row['x']}" for row in rows)

    stem = tmp_path / "figures"
    model_rows.write_rows(stem, [{"name": "before", "x": 1}], page)
    model_rows.write_rows(stem, [{"name": "after", "x": 2}], page)
    model_rows.write_rows(stem, [{"name": "before", "x": 3}], page)
    assert stem.with_suffix(".md").read_text() == "before3 after2"
    assert [row["x"] for row in read_json(stem.with_suffix(".json"))] == [3, 2]


def test_models_have_names() -> None:
    models = named_models(["before=a/b", "c/after", "starter"])
    assert [(m.name, m.folder) for m in models] == [("before", Path("a/b")), ("after", Path("c/after")), ("starter", None)]
    for values in (["=x"], ["x="], ["a/m", "b/m"]):
        with pytest.raises(SettingsError):
            named_models(values)


class TestJoinedTexts:
    SAMPLES = (
        Sample("a", "Oslo is cold", (Mention(0, 4, 1),)),
        Sample("b", "from Rome to Bonn", (Mention(5, 9, 2), Mention(13, 17, 3))),
        Sample("c", "no names", ()),
    )

    @given(st.integers(0, 1000), st.sampled_from(list(joined_texts.SEPARATORS.values())))
    def test_every_text_begins_where_it_is_said_to(self, seed: int, separator: str) -> None:
        text, starts = joined_texts.joined(self.SAMPLES, separator, seed)
        assert len(text) == sum(len(s.text) for s in self.SAMPLES) + 2 * len(separator)
        for sample, start in zip(self.SAMPLES, starts, strict=True):
            assert text[start : start + len(sample.text)] == sample.text

    def test_orders_differ(self) -> None:
        assert len({joined_texts.joined(self.SAMPLES, " ", seed)[0] for seed in range(20)}) == 6

    def test_links_are_counted_at_the_offsets_of_the_joined_text(self) -> None:
        rows = {"Oslo": 1, "Rome": 2, "Bonn": 3}

        class LinksTheFirst(Linker):
            """Links all names of one text, but only the first two of a longer text."""

            def __init__(self) -> None:
                pass

            def link(self, texts: Iterable[str], **_options: Any) -> Iterator[LinkedText]:
                for text in texts:
                    names = sorted((text.index(name), name) for name in rows if name in text)
                    yield LinkedText(
                        text,
                        tuple(Link(s, s + len(n), n, rows[n], n, n, 0.9, ()) for s, n in names[: 2 if len(text) > 20 else 3]),
                    )

        figures = joined_texts.measure(LinksTheFirst(), self.SAMPLES, 4)
        assert (figures["mentions"], figures["right"]) == (3, 3)
        for of in figures["separators"].values():
            assert of["seeds"] == 4 * [{"right": 2, "lost": 1, "won": 0}]
            assert of["net"] == of["lost"] == of["highest_net"] == pytest.approx(33.33)


class TestNamesThatTheCatalogueLacks:
    SAMPLE = Sample(
        "a", "Oslo and Rome and Bonn and Lima", (Mention(0, 4, 10), Mention(9, 13, 20), Mention(18, 22, 30), Mention(27, 31))
    )

    def counts(self, *links: tuple[int, int, int]) -> dict[str, int]:
        text = LinkedText(self.SAMPLE.text, tuple(Link(s, e, "", row, None, "", 0.9, ()) for s, e, row in links))
        row_of = np.full(31, -1)
        row_of[[10, 30]] = 0, 1
        return nil_figures.counts_of(self.SAMPLE, text, {20}, row_of)

    def test_links_on_removed_names_are_wrong_and_not_predictions(self) -> None:
        counts = self.counts((0, 4, 0), (5, 13, 0), (18, 22, 0), (23, 31, 1))
        expected = {"removed_names": 1, "links_on_removed": 1, "weak": 1, "strong": 1, "predicted": 2, "gold": 2}
        assert counts == expected

    def test_nothing_on_a_removed_name_is_right(self) -> None:
        counts = self.counts((0, 4, 0), (18, 21, 1))
        assert (counts["links_on_removed"], counts["weak"], counts["strong"], counts["predicted"]) == (0, 2, 1, 2)

    @given(st.sets(st.integers(0, 500), min_size=1, max_size=80), st.integers(0, 99))
    def test_a_tenth_of_the_gold_entities_is_removed(self, rows: set[int], seed: int) -> None:
        samples = [Sample(str(row), "x y", (Mention(0, 1, row), Mention(2, 3))) for row in rows for _ in range(2)]
        removed = nil_figures.removed_rows(samples, seed)
        assert removed <= rows
        assert len(removed) == max(1, round(len(rows) / 10))
        assert removed == nil_figures.removed_rows(samples[::-1], seed)

    def test_gold_of_another_catalogue_is_refused(self) -> None:
        with pytest.raises(DataError, match="no gold mention"):
            nil_figures.removed_rows([Sample("a", "x", (Mention(0, 1),))], 0)


class TestDocuments:
    PARAGRAPHS = (
        Sample("gum_news_a-0", "Angela Merkel spoke.", (Mention(0, 13, 1),)),
        Sample("gum_news_b-0", "Nothing.", ()),
        Sample("gum_news_a-1", "Merkel left Rome.", (Mention(0, 6, 1), Mention(12, 16))),
    )

    def test_paragraphs_are_joined_by_the_names_of_their_documents(self) -> None:
        first, second = document_figures.documents_of(self.PARAGRAPHS)
        assert (first.text, second.text) == ("Angela Merkel spoke.\n\nMerkel left Rome.", "Nothing.")
        assert [first.text[m.start : m.end] for m in first.mentions or ()] == ["Angela Merkel", "Merkel", "Rome"]
        assert [m.row for m in first.mentions or ()] == [1, 1, -1]

    @given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))), min_size=1, max_size=6))
    def test_the_difference_is_that_of_the_scores(self, links: list[tuple[set[int], set[int]]]) -> None:
        words = "Oslo Rome Bonn Lima Bern Kiel"
        spans = [(5 * i, 5 * i + 4) for i in range(6)]
        texts: dict[str, list[EvaluatedText]] = {"off": [], "on": []}
        for number, of_text in enumerate(links):
            # One name is no gold, one is outside the knowledge base; of the first document all are.
            rows = [-1 if i == 3 or not number else i for i in range(5)]
            sample = Sample(str(number), words, tuple(Mention(*spans[i], rows[i]) for i in range(5)))
            for name, of_name in zip(texts, of_text, strict=True):
                linked_spans = tuple(Link(*spans[i], "", i, None, "", 0.9, ()) for i in sorted(of_name))
                texts[name].append(evaluated_text(sample, LinkedText(words, linked_spans)))
        figures = document_figures.on_and_off(texts)
        difference = figures["difference"]
        assert difference["difference"] == pytest.approx(figures["on"]["f1"] - figures["off"]["f1"], abs=1e-4)
        assert difference["low"] - 1e-4 <= difference["high"]
        if all(off == on for off, on in links):
            assert difference == {"difference": 0, "low": 0, "high": 0}

    @given(st.lists(st.sampled_from(["a b", "one\ntwo", "x  y z"]), min_size=1, max_size=4), st.integers(1, 200))
    def test_long_texts_are_one_line_of_a_size(self, paragraphs: list[str], characters: int) -> None:
        text = document_figures.text_of(paragraphs, characters)
        assert len(text) == characters
        assert "\n" not in text
        assert text.startswith(" ".join(paragraphs[0].split())[:characters])

    def test_processes_are_measured_and_their_faults_are_errors(self, tmp_path: Path) -> None:
        script = f"import sys; data = bytearray(200_000_000); sys.stdout.write({document_figures.LINK.decode()!r} * 3)"
        usage = document_figures.usage([sys.executable, "-c", script], tmp_path / "out")
        assert usage["links"] == 3
        assert 190 < usage["peak_mib"] < 400
        with pytest.raises(BlinkError, match="exit code 3 of "):
            document_figures.usage([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "out")

    def test_the_page_has_what_is_stored(self) -> None:
        scores = {"f1": 0.5, "f1_low": 0.4, "f1_high": 0.6, "precision": 0.7, "recall": 0.3}
        of_set = {"documents": 9, "off": scores, "on": {**scores, "f1": 0.75}, "words_per_s": {"off": 900, "on": 800}}
        of_set["difference"] = {"difference": 0.25, "low": 0.1, "high": 0.3}
        row = {"git": "abc", "command": ["python", "x.py"]}
        ablation = {**row, "sets": {"GUM dev": of_set}}
        page = document_figures.markdown({"ablation": ablation})
        assert "| GUM dev | 9 | on | 0.750 | [0.400, 0.600] | 0.700 | 0.300 | +0.250 [+0.100, +0.300] | 800 |" in page
        assert "Memory" not in page
        texts = [{"megabytes": 10.0, "way": "Linker.stream", "peak_mib": 700.4, "links": 5, "cpu_s": 9.6}]
        page = document_figures.markdown({"ablation": ablation, "memory": {**row, "texts": texts}})
        assert "| 10 | Linker.stream | 700 | 5 | 10 |" in page
        assert page.count("python x.py") == 2
