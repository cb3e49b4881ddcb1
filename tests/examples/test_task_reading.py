"""Data files: their contents, and one line with place and kind of an error."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any, ClassVar

import pytest

from blink.errors import DataError, MissingFileError
from examples.entity_span_qa.data import read_cloze
from examples.entity_typing.data import read_typing
from examples.luke.reading import read_rows
from examples.ner.data import read_documents
from examples.ner.tags import entity_scores
from examples.reading_comprehension.data import read_squad
from examples.reading_comprehension.links import Link, mention_table, read_links, read_redirects
from examples.relation_classification.data import read_relations

pytestmark = pytest.mark.quick


def written(folder: Path, name: str, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


class TestRows:
    def test_an_array_over_lines_names_the_line_of_each_item(self, tmp_path: Path) -> None:
        written(tmp_path, "x.json", '\n[\n {"a": 1},\n {"a":\n 2}, {"a": 3}\n]\n')
        assert [row.where.rpartition("x.json, ")[2] for row in read_rows(tmp_path / "x.json")] == [
            "line 3 (item 1)",
            "line 4 (item 2)",
            "line 5 (item 3)",
        ]

    def test_half_a_character_keeps_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text('[{"a": "B\\ud800rn \\ud83d\\ude00", "b": ["\\udc00", "c"]}]')
        [row] = read_rows(tmp_path / "x.json")
        assert (row.text("a"), row.texts("b")) == ("B?rn \U0001f600", ["?", "c"])

    @pytest.mark.parametrize("text", ['{"a": 1}\n\n{"a": 2}\n', '\ufeff[{"a": 1},{"a": 2}]', '[{"a": 1}, {"a": 2},]'])
    def test_arrays_and_lines(self, tmp_path: Path, text: str) -> None:
        assert [row.number("a") for row in read_rows(written(tmp_path, "x", text) / "x")] == [1, 2]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[\n{"a": 1}\n{"a": 2}]', r"line 2 \(item 1\): the item is followed by neither"),
            ('[\n{"a": 1},\n{"a": }]', r"line 3 \(item 2\): not JSON"),
            ('[{"a": 1},', r"item 2\): not JSON"),
            ('{"a": 1}\n{', "line 2: not JSON"),
            ("[3]", "found 3; an object"),
            ("[]", "no examples"),
            ("", "no examples"),
            ("[" * 100_000, "nested too deep"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            list(read_rows(written(tmp_path, "x", text) / "x"))


class TestOpenEntity:
    GOOD: ClassVar[dict[str, Any]] = {"sent": "Bern lies on the Aare .", "start": 0, "end": 4, "labels": ["place"]}

    def test_the_tiny_set(self, tasks: Path) -> None:
        examples = read_typing(tasks / "entity_typing" / "tiny", "train")
        assert len(examples) == 20
        assert {label for e in examples for label in e.labels} == {
            *("entity", "event", "group", "location", "object", "organization", "person", "place", "time")
        }
        assert examples[0].text[examples[0].start : examples[0].end] == "Marie Curie"

    def test_the_original_release(self, tmp_path: Path) -> None:
        row = {
            "left_context_token": ["In", "Bern", ","],
            "mention_span": "the old town",
            "right_context_token": ["is", "quiet", "."],
            "y_str": ["place", "town", "district", "location"],
        }
        written(tmp_path, "train.json", json.dumps(row) + "\n" + json.dumps({**row, "left_context_token": []}) + "\n")
        first, second = read_typing(tmp_path, "train")
        assert first.text == "In Bern , the old town is quiet ."
        assert first.text[first.start : first.end] == second.text[second.start : second.end] == "the old town"
        assert first.labels == ("place", "location")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"end": 99}, "'start' is 0 and 'end' is 99 .not included.; they must enclose some of the 23 characters"),
            ({"start": 4}, "'start' is 4 and 'end' is 4"),
            ({"start": "0"}, "'start' is \"0\"; a whole number is expected"),
            ({"start": True}, "'start' is true; a whole number"),
            ({"labels": "place"}, "'labels' is \"place\"; a list is expected"),
            ({"labels": [1]}, "'labels' holds 1; texts are expected"),
            ({"sent": None}, "'sent' is null; a text is expected"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        written(tmp_path, "dev.json", json.dumps([self.GOOD, {**self.GOOD, **change}], indent=0))
        with pytest.raises(DataError, match=rf"dev.json, line \d+ \(item 2\): {message}"):
            read_typing(tmp_path, "dev")

    def test_missing_field_and_file(self, tmp_path: Path) -> None:
        written(tmp_path, "dev.json", [{"sent": "x"}])
        with pytest.raises(DataError, match="'start' is missing; there are 'sent'"):
            read_typing(tmp_path, "dev")
        with pytest.raises(MissingFileError, match=r"holds no test.json; get Open Entity"):
            read_typing(tmp_path, "test")
        with pytest.raises(MissingFileError, match=r"data folder .* does not exist"):
            read_typing(tmp_path / "none", "test")


class TestTacred:
    GOOD: ClassVar[dict[str, Any]] = {
        "token": ["Kant", "died", "in", "1804", "."],
        "subj_start": 0,
        "subj_end": 0,
        "obj_start": 3,
        "obj_end": 3,
        "subj_type": "PERSON",
        "obj_type": "DATE",
        "relation": "per:date_of_death",
    }

    def test_ends_are_inclusive(self, tmp_path: Path) -> None:
        [example] = read_relations(written(tmp_path, "train.json", [self.GOOD]), "train")
        assert (example.subject, example.object) == ((0, 1), (3, 4))

    def test_columns_that_are_not_needed_may_lack(self, tmp_path: Path) -> None:
        row = {k: v for k, v in self.GOOD.items() if not k.endswith("type")}
        assert len(read_relations(written(tmp_path, "train.json", [row]), "train")) == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"token": "Kant died"}, "'token' is \"Kant died\"; a list is expected"),
            ({"obj_end": 5}, "'obj_start' is 3 and 'obj_end' is 5 .inclusive.; they must enclose some of the 5 tokens"),
            ({"subj_start": 1}, "'subj_start' is 1 and 'subj_end' is 0"),
            ({"relation": 3}, "'relation' is 3; a text"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=rf"train.json, line 1 \(item 1\): {message}"):
            read_relations(written(tmp_path, "train.json", [{**self.GOOD, **change}]), "train")


class TestConll:
    def test_the_tiny_set_in_both_schemes(self, tasks: Path, tmp_path: Path) -> None:
        twin = Path(__file__).parent / "data" / "conll-iob2.txt"
        written(tmp_path, "eng.train", twin.read_text(encoding="utf-8"))
        first, second = read_documents(tasks / "ner" / "tiny", "train"), read_documents(tmp_path, "train")
        assert [len(d.sentences) for d in first] == [10, 10]
        gold = [[s.tags for d in documents for s in d.sentences] for documents in (first, second)]
        assert gold[0] != gold[1]
        assert entity_scores(gold[0], gold[1])["f1"] == 1.0
        assert "B-ORG" in {tag for tags in gold[0] for tag in tags}  # neighbours of a type are there

    @pytest.mark.parametrize(
        "text",
        [
            "-DOCSTART- -X- O O\n\nBern NNP I-NP I-LOC\n. . O O\n\nYes UH O O\n\n",
            "Bern NNP I-NP I-LOC\n. . O O\n\nYes UH O O",  # neither head line nor empty last line
            "-DOCSTART- O\nBern\tI-LOC\n. O\n \nYes O\r\n",
            "\n\n-DOCSTART- O\n\n\nBern I-LOC\n. O\n\n\n\nYes O\n-DOCSTART- O\n",
        ],
    )
    def test_no_sentence_is_lost(self, tmp_path: Path, text: str) -> None:
        [document] = read_documents(written(tmp_path, "eng.testa", text), "dev")
        assert [s.words for s in document.sentences] == [("Bern", "."), ("Yes",)]
        assert document.sentences[0].tags == ("I-LOC", "O")

    def test_documents_are_kept_apart(self, tmp_path: Path) -> None:
        text = "a O\n\n-DOCSTART- O\n\nb O\n\nc O\n\n"
        assert [len(d.sentences) for d in read_documents(written(tmp_path, "eng.testb", text), "test")] == [1, 2]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a O\nb\n", 'line 2: found "b"; a word'),
            ("a NN I-NP X-LOC\n", "line 1: found"),
            ("a NN LOC\n", "line 1: found"),
            ("\n\n", "holds no sentences"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_documents(written(tmp_path, "eng.train", text), "train")

    def test_lines_of_sentences(self, tmp_path: Path) -> None:
        [document] = read_documents(written(tmp_path, "eng.train", "-DOCSTART- O\n\na O\nb O\n\nc O\n"), "train")
        assert [s.line for s in document.sentences] == [3, 6]


def cloze(**changes: Any) -> dict[str, Any]:
    qa = {"id": "1", "query": "It lies on the @placeholder.", "answers": [{"start": 12, "end": 15, "text": "Aare"}]}
    passage = {"text": "Bern on the Aare.\nYes", "entities": [{"start": 12, "end": 15}, {"start": 0, "end": 3}]}
    return {"version": "1.0", "data": [{"passage": {**passage, **changes.pop("passage", {})}, "qas": [{**qa, **changes}]}]}


class TestRecord:
    def test_ends_are_inclusive_and_candidates_sorted(self, tmp_path: Path) -> None:
        [example] = read_cloze(written(tmp_path, "dev.json", cloze()), "dev")
        assert [c.text for c in example.candidates] == ["Bern", "Aare"]
        assert example.answers == {(12, 16)}
        assert example.gold == ("Aare",)
        assert example.passage == "Bern on the Aare. Yes"

    def test_the_tiny_set(self, tasks: Path) -> None:
        examples = read_cloze(tasks / "entity_span_qa" / "tiny", "train")
        assert len(examples) == 20
        assert any("@highlight" in e.passage for e in examples)
        assert all(e.answers <= {(c.start, c.end) for c in e.candidates} for e in examples)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query": "no gap"}, "passage 1, question 1: 'query' holds @placeholder 0 times"),
            ({"query": "@placeholder @placeholder"}, "2 times; it must be there once"),
            ({"answers": [{"start": 12, "end": 99, "text": "x"}]}, "question 1, answer 1: 'start' is 12 and 'end' is 99"),
            ({"passage": {"entities": [{"start": -1, "end": 2}]}}, "entity 1: 'start' is -1"),
            ({"passage": {"text": 5}}, "passage 1, 'passage': 'text' is 5"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=f"dev.json, .*{message}"):
            read_cloze(written(tmp_path, "dev.json", cloze(**changes)), "dev")

    def test_broken_and_other_json(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"not valid JSON .*line 2 column"):
            read_cloze(written(tmp_path, "dev.json", '{\n"data" 3'), "dev")
        with pytest.raises(DataError, match="'data' is missing"):
            read_cloze(written(tmp_path, "dev.json", {"version": "1.0"}), "dev")
        with pytest.raises(DataError, match="no questions"):
            read_cloze(written(tmp_path, "dev.json", {"data": []}), "dev")


def squad(context: str = "Bern lies on\u202fthe Aare.", **changes: Any) -> dict[str, Any]:
    qa = {"id": "1", "question": "On what?", "answers": [{"text": "the Aare", "answer_start": 13}], **changes}
    return {"version": "1.1", "data": [{"title": "Caf%C3%A9_de_Bern", "paragraphs": [{"context": context, "qas": [qa]}]}]}


class TestSquad:
    def test_titles_words_and_answers(self, tmp_path: Path) -> None:
        [example] = read_squad(written(tmp_path, "dev-v1.1.json", squad()), "dev", False)
        assert example.passage.title == "Café de Bern"
        assert example.passage.words == ("Bern", "lies", "on", "the", "Aare.")
        assert [(a.start, a.end) for a in example.answers] == [(3, 4)]

    def test_both_tiny_sets(self, tasks: Path) -> None:
        folder = tasks / "reading_comprehension" / "tiny"
        plain, both = read_squad(folder, "train", False), read_squad(folder, "train", True)
        assert (len(plain), sum(e.impossible for e in plain)) == (20, 0)
        assert (len(both), sum(e.impossible for e in both)) == (25, 5)
        for example in both:
            for a in example.answers:
                assert a.text in " ".join(example.passage.words[a.start : a.end + 1])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"answers": [{"text": "Aare", "answer_start": 20}]},
                "answer 1: 'answer_start' is 20; the answer must",
            ),
            ({"answers": [{"text": "", "answer_start": 0}]}, "'answer_start' is 0"),
            ({"question": 5}, "article 1, paragraph 1, question 1: 'question' is 5"),
            ({"is_impossible": "no"}, "'is_impossible' is \"no\"; true or false"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_squad(written(tmp_path, "dev-v1.1.json", squad(**changes)), "dev", False)

    def test_the_other_version_is_pointed_at(self, tmp_path: Path) -> None:
        written(tmp_path, "dev-v1.1.json", squad())
        with pytest.raises(MissingFileError, match=r"holds no dev-v2.0.json; dev-v1.1.json exists: give --no-negative"):
            read_squad(tmp_path, "dev", True)


BERN = [Link("the Aare", "Aare", 0.5), Link("Aare", "Aare", 0.25)]


class TestLinks:
    def lines(self) -> str:
        pages = {"Bern": [["the Aare", "Aare", 0.5], ["Aare", "Aare", 0.25]], "Thun": [["lake", "Lake Thun", 0.1]]}
        return "".join(json.dumps({"title": t, "links": links}) + "\n" for t, links in pages.items())

    def test_json_lines_plain_and_compressed(self, tmp_path: Path) -> None:
        written(tmp_path, "links.jsonl", self.lines())
        (tmp_path / "links.jsonl.gz").write_bytes(gzip.compress(self.lines().encode()))
        for name in ("links.jsonl", "links.jsonl.gz"):
            assert read_links(tmp_path / name, ["Bern", "Unknown"]) == {"Bern": BERN}

    def test_plain_dictionary(self, tmp_path: Path) -> None:
        written(tmp_path, "links.json", {"Bern": {"the Aare": "Aare"}, "Thun": {}})
        assert read_links(tmp_path / "links.json", ["Bern"]) == {"Bern": [Link("the Aare", "Aare", 1.0)]}

    def test_the_published_layout(self, tmp_path: Path) -> None:
        tries = pytest.importorskip("marisa_trie")
        titles, texts = tries.Trie(["Aare", "Lake Thun"]), tries.Trie(["the Aare", "Aare"])
        records = tries.RecordTrie("<IIf", [("Bern", (texts[k.text], titles[k.target], k.probability)) for k in BERN])
        tables = {"title_trie": titles, "mention_trie": texts, "data_trie": records}
        (tmp_path / "enwiki.pkl").write_bytes(pickle.dumps(tables))
        (tmp_path / "packed.pkl").write_bytes(zlib.compress(pickle.dumps(tables)))
        for name in ("enwiki.pkl", "packed.pkl"):
            links = read_links(tmp_path / name, ["Bern", "Unknown"])["Bern"]
            assert sorted(links, key=lambda k: -k.probability) == BERN

    def test_redirects(self, tmp_path: Path) -> None:
        mapping = {"Berne": "Bern"}
        written(tmp_path, "r.json", mapping)
        (tmp_path / "plain.pkl").write_bytes(pickle.dumps(mapping))
        (tmp_path / "packed.pkl").write_bytes(zlib.compress(pickle.dumps(mapping, 2), 3))
        assert all(read_redirects(tmp_path / name) == mapping for name in ("r.json", "plain.pkl", "packed.pkl"))

    def test_nothing_in_a_pickle_is_run(self, tmp_path: Path) -> None:
        trap = tmp_path / "sprung"

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (trap,)

        (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"title_trie": Trap()}))
        for read in (read_redirects, lambda path: read_links(path, ["Bern"])):
            with pytest.raises(DataError, match="it names pathlib"):
                read(tmp_path / "evil.pkl")
        assert not trap.exists()

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("l.jsonl", b'{"title": "a", "links": [["x"]]}\n', "line 1: 'title', and 'links'"),
            ("l.jsonl", b"{}\n", "line 1: 'title'"),
            ("l.jsonl", b'{"title": ["a"], "links": []}\n', "line 1: 'title'"),
            ("l.jsonl", b'{"title": "a", "links": [["x", null, 0.5]]}\n', "line 1: 'title', and 'links'"),
            ("l.jsonl", b'{"title": "a", "links": []}\n{', "line 2: not JSON"),
            ("l.json", b'{"a": 3}', "does not map titles to objects"),
            ("l.json", b"[", "not valid JSON"),
            ("l.pkl", b"\x80\x04.", "cannot be read"),
            ("l.pkl", pickle.dumps({"title_trie": 1}), "holds no links of pages"),
            ("l.pkl", zlib.compress(b"x" * 100)[:-8], "truncated or damaged"),
            ("l.jsonl.gz", b"\x1f\x8b\x08", "truncated or damaged"),
        ],
    )
    def test_what_is_malformed_is_named(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_links(tmp_path / name, ["a"])

    def test_redirects_of_another_form(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not map titles to titles"):
            read_redirects(written(tmp_path, "r.json", {"a": 1}) / "r.json")
        with pytest.raises(MissingFileError):
            read_redirects(tmp_path / "none.json")

    def test_the_table_of_a_page(self) -> None:
        links = [
            Link("The  Aare", "Aare", 0.5),
            Link("the aare", "Aare", 0.9),
            Link("Mars", "Mars", 0.5),
            Link("mars", "Mars (mythology)", 0.5),
            Link("river", "River", 0.009),
            Link("Thun", "Thun", 0.01),
            Link(" ", "Space", 1.0),
        ]
        assert mention_table(links, 0.01) == {"the aare": "Aare", "thun": "Thun"}

    def test_an_ambiguous_text_below_the_threshold_is_none(self) -> None:
        assert mention_table([Link("Mars", "Mars", 0.5), Link("mars", "Mars (mythology)", 0.001)], 0.01) == {"mars": "Mars"}
