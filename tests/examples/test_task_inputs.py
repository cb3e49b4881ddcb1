"""What each task shows the model, and what it makes of the answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import DataError, SettingsError
from examples.entity_span_qa.data import Candidate, ClozeExample
from examples.entity_span_qa.options import ClozeOptions
from examples.entity_span_qa.task import EntitySpanQa, encode_passage, encode_query
from examples.entity_typing.data import TypingExample
from examples.entity_typing.task import EntityTyping
from examples.luke.convert import FIRST, MASK, MASK2, SECOND
from examples.luke.features import EntitySlot, Feature, context
from examples.luke.loading import THIRD, Vocabulary
from examples.luke.task import Task
from examples.ner.data import Document, Sentence
from examples.ner.options import NerOptions
from examples.ner.spans import sentence_windows, split_evenly
from examples.ner.tags import TagSpan
from examples.ner.task import CONLL, Ner, greedy, word_tokens
from examples.reading_comprehension.answers import AnswerWindow, Scored, answer, best_spans, probabilities
from examples.reading_comprehension.data import Answer, Passage, SquadExample
from examples.reading_comprehension.links import Link
from examples.reading_comprehension.mentions import MentionDictionary, MentionTable, find_mentions
from examples.reading_comprehension.options import QaOptions
from examples.reading_comprehension.task import ReadingComprehension, most_context, tighten
from examples.reading_comprehension.task import encode_passage as encode_squad
from examples.relation_classification.data import RelationExample
from examples.relation_classification.task import RelationClassification


def features(task: Task[Any], examples: list[Any], vocabulary: Vocabulary, training: bool = True) -> list[Feature]:
    return [f for windows in task.features(examples, vocabulary, training=training) for f in windows]


def text_of(vocabulary: Vocabulary, ids: Any) -> str:
    """Ids as text, with the markers by their signs."""
    signs = {vocabulary.tokenizer.begin: "<", vocabulary.tokenizer.end: ">", **dict(zip(
        (vocabulary.markers[m] for m in (FIRST, SECOND, THIRD)), "@#*", strict=True
    ))}  # fmt: skip
    return "".join(signs.get(i) or vocabulary.tokenizer.text([i]) for i in ids)


def with_labels(vocabulary: Vocabulary, *labels: str) -> Vocabulary:
    return dataclasses.replace(vocabulary, labels=labels)


class TestTyping:
    def test_mention_between_markers_and_the_mask_over_both(self, vocabulary: Vocabulary) -> None:
        example = TypingExample("x", "In Bern -LRB- CH -RRB- .", 3, 7, ("b",))
        [f] = features(EntityTyping(), [example], vocabulary)
        assert text_of(vocabulary, f.words) == "< In@ Bern@ ( CH ) .>"
        [entity] = f.entities
        assert entity.id == vocabulary.entities[MASK]
        assert text_of(vocabulary, f.words[entity.start : entity.end]) == "@ Bern@"
        assert f.label == [0, 1]

    def test_a_long_text_is_cut_far_from_the_mention(self, vocabulary: Vocabulary) -> None:
        text = "aa " * 2000 + "Bern" + " bb" * 2000
        [f] = features(EntityTyping(), [TypingExample("x", text, 6000, 6004, ())], vocabulary)
        assert len(f.words) == vocabulary.max_length == 512
        assert (f.words[0], f.words[-1]) == (vocabulary.tokenizer.begin, vocabulary.tokenizer.end)
        assert text_of(vocabulary, f.words[f.entities[0].start : f.entities[0].end]) == "@ Bern@"

    def test_labels_logits_and_files(self, vocabulary: Vocabulary, tmp_path: Path) -> None:
        task = EntityTyping()
        examples = [TypingExample("x", "a", 0, 1, ("time", "event")), TypingExample("x", "b", 0, 1, ())]
        assert task.labels(examples) == ("event", "time")
        with pytest.raises(DataError, match="none of the 1 training examples has a label"):
            task.labels(examples[1:])
        task.adopt(("event", "time"), torch.nn.Linear(1, 1))
        answers = task.decode(examples, [], [np.array([0.1, -3.0]), np.array([-1.0, 0.0])])
        assert answers == [("event",), ()]
        task.write(tmp_path, "dev", examples, answers)
        rows = (tmp_path / "dev_predictions.jsonl").read_text().splitlines()
        assert json.loads(rows[0]) == {"predictions": ["event"], "labels": ["time", "event"]}

    def test_loss_is_that_of_all_cells(self) -> None:
        logits, rows = torch.tensor([[0.3, -1.0], [2.0, 0.0]]), [Feature(0, "", [], [], [1, 0]), Feature(1, "", [], [], [0, 0])]
        mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0], [0, 0]]))
        task = EntityTyping()
        assert torch.isclose(task.loss(logits, rows) / sum(task.decisions(r) for r in rows), mean)


class TestRelations:
    TOKENS = ("Kant", "died", "in", "1804", "in", "Prussia")

    @pytest.mark.parametrize(
        ("subject", "other", "text"),
        [
            ((0, 1), (3, 4), "<@ Kant@ died in# 1804# in Prussia>"),
            ((3, 4), (0, 1), "<# Kant# died in@ 1804@ in Prussia>"),
            ((5, 6), (4, 5), "< Kant died in 1804# in#@ Prussia@>"),
            ((3, 6), (5, 6), "< Kant died in@ 1804 in# Prussia#@>"),
        ],
    )
    def test_markers_and_order_of_the_entities(self, vocabulary: Vocabulary, subject: Any, other: Any, text: str) -> None:
        example = RelationExample("x", self.TOKENS, subject, other, "b")
        [f] = features(RelationClassification(), [example], vocabulary)
        assert text_of(vocabulary, f.words) == text
        assert [e.id for e in f.entities] == [vocabulary.entities[MASK], vocabulary.entities[MASK2]]
        sides = [text_of(vocabulary, f.words[e.start : e.end]) for e in f.entities]
        assert [(s[0], s[-1]) for s in sides] == [("@", "@"), ("#", "#")]
        assert f.label == [1]

    def test_a_long_text_keeps_both(self, vocabulary: Vocabulary) -> None:
        tokens = ("Kant", *("word",) * 3000, "Prussia")
        [f] = features(RelationClassification(), [RelationExample("x", tokens, (0, 1), (3001, 3002), "a")], vocabulary)
        assert len(f.words) == 512
        assert [text_of(vocabulary, f.words[e.start : e.end]) for e in f.entities] == ["@ Kant@", "# Prussia#"]

    def test_labels_answers_and_score(self, tmp_path: Path) -> None:
        task = RelationClassification()
        examples = [RelationExample("x", ("a",), (0, 1), (0, 1), r) for r in ("org:b", "no_relation", "org:a", "org:a")]
        assert task.labels(examples) == ("no_relation", "org:a", "org:b")
        task.adopt(task.labels(examples), torch.nn.Linear(1, 1))
        answers = task.decode(examples, [], [np.eye(3)[i] for i in (2, 1, 0, 2)])
        assert answers == ["org:b", "org:a", "no_relation", "org:b"]
        # Right of those that are relations: 1; found 3; there 3.
        assert task.score(examples, answers) == {"precision": 1 / 3, "recall": 1 / 3, "f1": pytest.approx(1 / 3)}
        task.write(tmp_path, "test", examples, answers)
        assert (tmp_path / "test_predictions.txt").read_text() == "org:b\norg:a\nno_relation\norg:b\n"

    def test_no_relation_everywhere_scores_0(self) -> None:
        task = RelationClassification()
        none = RelationExample("x", ("a",), (0, 1), (0, 1), "no_relation")
        assert task.score([none], ["no_relation"])["f1"] == 0.0


def document(*sentences: str) -> Document:
    """Sentences of word/TAG."""
    rows = [[pair.rpartition("/")[::2] for pair in s.split()] for s in sentences]
    return Document("x", tuple(Sentence(i, tuple(w for w, _ in r), tuple(t for _, t in r)) for i, r in enumerate(rows, 1)))


class TestContext:
    @pytest.mark.parametrize(
        ("begin", "end", "length", "window"),
        [
            (100, 610, 1000, (100, 610)),  # fills the limit
            (0, 10, 1000, (0, 510)),
            (990, 1000, 1000, (490, 1000)),
            (100, 110, 1000, (0, 510)),  # the left is poorer than half of the room: all of it
            (495, 505, 1000, (245, 755)),
            (300, 310, 400, (0, 400)),
            (300, 311, 1000, (51, 561)),  # half of 499 is 249
        ],
    )
    def test_half_on_each_side_and_more_where_the_other_is_short(self, begin: int, end: int, length: int, window: Any) -> None:
        assert context(begin, end, length, 510) == window

    @given(st.integers(0, 800), st.integers(1, 510), st.integers(0, 800))
    def test_always_as_much_as_there_is(self, before: int, size: int, after: int) -> None:
        start, end = context(before, before + size, before + size + after, 510)
        assert 0 <= start <= before
        assert before + size <= end <= before + size + after
        assert end - start == min(510, before + size + after)


class TestCandidates:
    @given(st.integers(1, 12))
    def test_all_spans_of_single_pieces(self, n: int) -> None:
        [window] = sentence_windows(range(n + 1), 0, n, 510, 16, 128)
        assert len(window.candidates) == n * (n + 1) // 2
        assert window.candidates == sorted(window.candidates)

    def test_whole_words_of_at_most_so_many_pieces(self) -> None:
        borders = [0, 3, 4, 20, 21]
        [window] = sentence_windows(borders, 0, 4, 510, 16, 128)
        assert window.candidates == [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]

    @pytest.mark.parametrize(("count", "sizes"), [(128, [128]), (129, [65, 64]), (256, [128, 128]), (257, [86, 86, 85])])
    def test_shared_out_evenly(self, count: int, sizes: list[int]) -> None:
        items = [(i, i + 1) for i in range(count)]
        groups = split_evenly(items, 128)
        assert [len(s) for s in groups] == sizes
        assert [i for s in groups for i in s] == items

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=120), st.integers(20, 60))
    def test_of_a_sentence_too_long_every_candidate_is_in_one_window(self, lengths: list[int], limit: int) -> None:
        borders = [0]
        for n in lengths:
            borders.append(borders[-1] + n)
        windows = list(sentence_windows(borders, 0, len(lengths), limit, 10, 1000))
        for w in windows:
            assert 0 <= w.start < w.end <= borders[-1]
            assert w.end - w.start <= limit
            assert all(w.start <= borders[i] and borders[j] <= w.end for i, j in w.candidates)
        candidates = [c for w in windows for c in w.candidates]
        everything = [
            (i, j) for i in range(len(lengths)) for j in range(i + 1, len(lengths) + 1) if borders[j] - borders[i] <= 10
        ]
        assert sorted(candidates) == everything
        assert len(candidates) == len(set(candidates))


class TestNer:
    def test_pieces_of_words(self, vocabulary: Vocabulary) -> None:
        tokenizer = vocabulary.tokenizer
        for word, space in (("Bern", True), ("'s", False), (".", False), ("$", False), ("...", True), ("é", True)):
            assert tokenizer.text(word_tokens(tokenizer, word)) == (" " if space else "") + word

    def test_each_sentence_is_read_with_its_document(self, vocabulary: Vocabulary) -> None:
        vocabulary = with_labels(vocabulary, *CONLL)
        first, second = features(Ner(), [document("Oslo/I-LOC won/O ./O", "Lars/I-PER Berg/I-PER left/O")], vocabulary)
        assert list(first.words) == list(second.words)
        assert text_of(vocabulary, second.words) == "< Oslo won. Lars Berg left>"
        assert second.note == [(3, 4), (3, 5), (3, 6), (4, 5), (4, 6), (5, 6)]
        assert [CONLL[i] for i in second.label] == ["NIL", "PER", "NIL", "NIL", "NIL", "NIL"]
        [entity] = [e for e, span in zip(second.entities, second.note, strict=True) if span == (3, 5)]
        assert text_of(vocabulary, second.words[entity.start : entity.end]) == " Lars Berg"
        batch = Ner().inputs([first, second], vocabulary)
        assert batch["entity_start_positions"][1].tolist() == [e.start for e in second.entities]
        assert batch["entity_end_positions"][1].tolist() == [e.end - 1 for e in second.entities]

    def test_batches_of_unequal_numbers_of_spans(self, vocabulary: Vocabulary) -> None:
        vocabulary, task = with_labels(vocabulary, *CONLL), Ner()
        rows = features(task, [document("Oslo/I-LOC won/O"), document("No/O")], vocabulary)
        logits = torch.randn(2, 3, 5)
        gold = [torch.tensor(r.label) for r in rows]
        by_hand = sum(torch.nn.functional.cross_entropy(logits[i, : len(g)], g, reduction="sum") for i, g in enumerate(gold))
        assert torch.isclose(task.loss(logits, rows), torch.as_tensor(by_hand))
        assert [task.decisions(r) for r in rows] == [3, 1]
        assert [len(o) for o in task.outputs(logits, rows)] == [3, 1]

    def test_labels_in_the_published_order_or_of_the_data(self) -> None:
        assert Ner().labels([document("a/I-LOC")]) == ("NIL", "MISC", "PER", "ORG", "LOC")
        assert Ner().labels([document("a/I-drug", "b/I-LOC")]) == ("NIL", "LOC", "drug")

    def test_names_that_are_too_long_are_told_or_refused(
        self, vocabulary: Vocabulary, caplog: pytest.LogCaptureFixture
    ) -> None:
        vocabulary, long = with_labels(vocabulary, *CONLL), document("Antidisestablishmentarianism/I-ORG Union/I-ORG")
        options = NerOptions(max_mention_length=3)
        assert features(Ner(options), [long], vocabulary) is not None
        assert "1 gold names are longer than --max-mention-length 3" in caplog.text
        with pytest.raises(DataError, match=r"first at x, line 1; raise it, or leave --strict out"):
            features(Ner(options.replace({"strict": True})), [long], vocabulary)

    def test_unseen_types_of_a_development_set_count_as_missed(self, vocabulary: Vocabulary) -> None:
        task, examples = Ner(), [document("Aspirin/I-drug helps/O")]
        task.adopt(CONLL, torch.nn.Linear(1, 1))
        rows = features(task, examples, with_labels(vocabulary, *CONLL), training=False)
        answers = task.decode(examples, rows, [np.zeros((len(f.entities), 2)) for f in rows])
        assert task.score(examples, answers) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}

    def test_the_surest_span_wins(self) -> None:
        spans = [
            (1.0, TagSpan(0, 3, "ORG")),
            (3.0, TagSpan(1, 2, "LOC")),
            (2.0, TagSpan(2, 4, "PER")),
            (0.5, TagSpan(5, 6, "LOC")),
        ]
        assert greedy(spans) == [TagSpan(1, 2, "LOC"), TagSpan(2, 4, "PER"), TagSpan(5, 6, "LOC")]

    def test_decoding_and_file(self, vocabulary: Vocabulary, tmp_path: Path) -> None:
        task, examples = Ner(), [document("Oslo/I-LOC Bergen/B-LOC won/O", "No/O")]
        task.adopt(CONLL, torch.nn.Linear(1, 1))
        rows = features(task, examples, with_labels(vocabulary, *CONLL), training=False)
        outputs = [np.zeros((len(f.entities), 2)) for f in rows]
        outputs[0][rows[0].note.index((0, 1))] = (5.0, 4)
        outputs[0][rows[0].note.index((1, 2))] = (4.0, 4)
        outputs[0][rows[0].note.index((0, 3))] = (4.5, 2)
        answers = task.decode(examples, rows, outputs)
        assert answers == [[["B-LOC", "B-LOC", "O"], ["O"]]]
        assert task.score(examples, answers)["f1"] == 1.0
        task.write(tmp_path, "dev", examples, answers)
        lines = "Oslo I-LOC I-LOC\nBergen B-LOC B-LOC\nwon O O\n\nNo O O\n\n"
        assert (tmp_path / "dev_predictions.txt").read_text() == lines

    @pytest.mark.parametrize("tags", ["I-PER I-PER O B-PER", "B-PER I-PER O B-PER"])
    def test_gold_names_are_counted_whatever_the_scheme(self, tags: str) -> None:
        marked = " ".join(f"w/{tag}" for tag in tags.split())
        assert Ner().summary([document(marked, marked), document("w/O")]) == "2 documents, 3 sentences, 4 names"

    def test_options_that_leave_nothing(self) -> None:
        with pytest.raises(SettingsError, match="leave nothing to classify by"):
            NerOptions(no_entity_feature=True, no_word_feature=True)
        with pytest.raises(SettingsError, match="--max-seq-length is 18"):
            NerOptions(max_seq_length=18)


def cloze(passage: str, *names: str, query: str = "It is @placeholder.", answers: tuple[str, ...] = ()) -> ClozeExample:
    spans = [(passage.index(name), passage.index(name) + len(name), name) for name in names]
    gold = frozenset((s, e) for s, e, name in spans if name in answers)
    return ClozeExample("x", "q", query, passage, tuple(Candidate(*s) for s in spans), gold, answers)


class TestCloze:
    def test_markers_at_the_level_of_ids(self, vocabulary: Vocabulary) -> None:
        example = cloze("The Aare flows to Bern. @highlight It@highlightends", "Aare", "Bern")
        ids, spans = encode_passage(example, vocabulary)
        # No stray space inside the markers; each highlight once, whatever is around it.
        assert text_of(vocabulary, ids) == " The* Aare* flows to* Bern*.@ It@ends"
        assert [text_of(vocabulary, ids[s:e]) for s, e in spans] == ["* Aare*", "* Bern*"]

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("It is @placeholder.", " It is#."),
            ("@placeholder is", "# is"),
            ("In @placeholder's hall", " In#'s hall"),
            ("@placeholder", "#"),
        ],
    )
    def test_the_gap(self, vocabulary: Vocabulary, query: str, text: str) -> None:
        ids, gap = encode_query(query, vocabulary, 90)
        assert text_of(vocabulary, ids) == text
        assert ids[gap] == vocabulary.markers[SECOND]

    @pytest.mark.parametrize("before", [0, 40, 400])
    def test_a_long_question_keeps_its_gap(self, vocabulary: Vocabulary, before: int) -> None:
        ids, gap = encode_query("aa " * before + "@placeholder" + " bb" * 400, vocabulary, 90)
        assert len(ids) == 90
        assert ids[gap] == vocabulary.markers[SECOND]

    def test_input_and_labels(self, vocabulary: Vocabulary) -> None:
        [f] = features(EntitySpanQa(), [cloze("Aare and Bern", "Aare", "Bern", answers=("Bern",))], vocabulary)
        assert text_of(vocabulary, f.words) == "< It is#.>>* Aare* and* Bern*>"
        assert {e.id for e in f.entities} == {vocabulary.entities[MASK]}
        assert [text_of(vocabulary, f.words[e.start : e.end]) for e in f.entities] == ["#", "* Aare*", "* Bern*"]
        assert (f.label, f.note) == ([0, 1], ["Aare", "Bern"])

    def test_windows_of_a_long_passage(self, vocabulary: Vocabulary) -> None:
        example = cloze("Aare " + "word " * 800 + "Bern" + " word" * 800, "Aare", "Bern", answers=("Bern",))
        task = EntitySpanQa(ClozeOptions(max_seq_length=128, doc_stride=64))
        rows = features(task, [example], vocabulary)
        assert all(len(f.words) <= 128 for f in rows)
        assert {tuple(f.note) for f in rows} == {("Aare",), ("Bern",)}  # those without a whole candidate are left out
        for f in rows:
            assert text_of(vocabulary, f.words[f.entities[1].start : f.entities[1].end]) == f"* {f.note[0]}*"

    def test_loss_counts_candidates_only(self) -> None:
        rows = [Feature(0, "", [], [EntitySlot(0, 0, 1)] * 3, [1, 0]), Feature(1, "", [], [EntitySlot(0, 0, 1)] * 2, [1])]
        logits, task = torch.tensor([[0.3, -1.0], [2.0, 77.0]]), EntitySpanQa()
        mean = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([0.3, -1.0, 2.0]), torch.tensor([1.0, 0, 1]))
        assert torch.isclose(task.loss(logits, rows) / sum(task.decisions(r) for r in rows), mean)
        assert [o.tolist() for o in task.outputs(logits, rows)] == [[pytest.approx(0.3), -1.0], [2.0]]

    def test_the_best_of_all_windows_answers(self, tmp_path: Path) -> None:
        task, example = EntitySpanQa(), cloze("Aare and Bern", "Aare", "Bern", answers=("Bern",))
        other = dataclasses.replace(example, id="none")
        rows = [Feature(0, "", [], [], note=["Aare", "Bern"]), Feature(0, "", [], [], note=["Bern"])]
        answers = task.decode([example, other], rows, [np.array([0.5, -1.0]), np.array([0.7])])
        assert answers == {"q": "Bern"}
        assert task.score([example, other], answers) == {"exact_match": 50.0, "f1": 50.0}
        task.write(tmp_path, "dev", [example, other], answers)
        assert json.loads((tmp_path / "predictions.json").read_text()) == {"q": "Bern"}

    def test_a_question_that_leaves_no_room(self) -> None:
        with pytest.raises(SettingsError, match="leave no room for the passage"):
            ClozeOptions(max_seq_length=94)


class TestMentions:
    def mentions(self, vocabulary: Vocabulary, text: str, table: dict[str, str], longest: int = 30) -> list[tuple[str, str]]:
        ids = vocabulary.tokenizer.encode(text)
        titles = {i: t for t, i in vocabulary.entities.items()}
        slots = find_mentions(ids, MentionTable(table), vocabulary, longest)
        return [(text_of(vocabulary, ids[m.start : m.end]).strip(), titles[m.id]) for m in slots]

    def test_longest_match_first(self, vocabulary: Vocabulary) -> None:
        table = {"black": "Vienna", "black sea": "Black Sea", "sea": "Venice"}
        text = "The Black Sea is black, seas are not."
        assert self.mentions(vocabulary, text, table) == [("Black Sea", "Black Sea"), ("black", "Vienna")]

    def test_borders_are_those_of_words(self, vocabulary: Vocabulary) -> None:
        table = {"vienna": "Vienna", "ven": "Venice", "ice": "Venice"}
        assert self.mentions(vocabulary, "Venice, Vienna: Vienna's Viennas", table) == [("Vienna", "Vienna")] * 2

    def test_an_unknown_entity_takes_its_words(self, vocabulary: Vocabulary) -> None:
        table = {"black sea": "No Such Page", "sea": "Venice"}
        assert self.mentions(vocabulary, "Black Sea and sea", table) == [("sea", "Venice")]

    def test_a_mention_of_too_many_pieces_is_none(self, vocabulary: Vocabulary) -> None:
        table = {"black sea": "Black Sea"}
        n_tokens = len(vocabulary.tokenizer.encode("Black Sea"))
        assert self.mentions(vocabulary, "Black Sea", table, n_tokens) == [("Black Sea", "Black Sea")]
        assert self.mentions(vocabulary, "Black Sea", table, n_tokens - 1) == []

    def test_redirects_on_both_sides(self) -> None:
        links = {"Coffeehouse": [Link("Venedig", "Venezia", 0.5)]}
        dictionary = MentionDictionary(links, {"Café": "Coffeehouse"}, {"Venezia": "Venice"})
        assert dictionary.table("Café").titles == {"venedig": "Venice"}
        assert dictionary.table("Unknown").titles == {}


PASSAGE = Passage(
    "Danube", "The Danube passes Vienna, then Budapest.", ("The", "Danube", "passes", "Vienna,", "then", "Budapest.")
)


def squad(
    question: str = "Which city?", *answers: Answer, passage: Passage = PASSAGE, impossible: bool = False
) -> SquadExample:
    return SquadExample("x", "q", question, passage, answers, impossible)


class TestReadingComprehension:
    def task(self, tasks: Path, **changes: Any) -> ReadingComprehension:
        tiny = tasks / "reading_comprehension" / "tiny"
        files = {
            "wiki_link_db_file": str(tiny / "links.jsonl"),
            "link_redirects_file": str(tiny / "link_redirects.json"),
            "model_redirects_file": str(tiny / "model_redirects.json"),
        }
        return ReadingComprehension(QaOptions(**{"with_negative": False, **files, **changes}))

    def test_words_entities_and_answer(self, vocabulary: Vocabulary, tasks: Path) -> None:
        example = squad("Does it pass Vienna?", Answer("Budapest", 5, 5))
        [f] = features(self.task(tasks), [example], vocabulary)
        assert text_of(vocabulary, f.words) == "< Does it pass Vienna?>> The Danube passes Vienna, then Budapest.>"
        titles = {i: t for t, i in vocabulary.entities.items()}
        named = [(titles[e.id], text_of(vocabulary, f.words[e.start : e.end]).strip()) for e in f.entities]
        assert named == [(t, t) for t in ("Vienna", "Danube", "Vienna", "Budapest")]
        start, end = f.label
        assert text_of(vocabulary, f.words[start : end + 1]) == " Budapest"

    @pytest.mark.parametrize("changes", [{"no_entity": True}, {"wiki_link_db_file": None}])
    def test_words_alone(self, vocabulary: Vocabulary, tasks: Path, changes: dict[str, Any]) -> None:
        [f] = features(self.task(tasks, **changes), [squad()], vocabulary)
        assert f.entities == []

    def test_entities_are_cut_at_their_limit_questions_first(self, vocabulary: Vocabulary, tasks: Path) -> None:
        [f] = features(self.task(tasks, max_entity_length=2), [squad("Vienna?")], vocabulary)
        assert len(f.entities) == 2
        assert f.entities[0].start < f.words.index(vocabulary.tokenizer.end)

    def test_windows_first_answer_inside_and_none(self, vocabulary: Vocabulary, tasks: Path) -> None:
        words = ("aa",) * 300 + ("Vienna",) + ("bb",) * 300
        passage = Passage("Danube", " ".join(words), words)
        task = self.task(tasks, max_seq_length=128, max_query_length=16, doc_stride=32)
        example = squad("Which city?", Answer("bb", 590, 590), Answer("Vienna", 300, 300), passage=passage)
        rows = features(task, [example], vocabulary)
        assert len(rows) > 5
        assert all(len(f.words) <= 128 for f in rows)
        texts = {text_of(vocabulary, f.words[f.label[0] : f.label[1] + 1]) for f in rows}
        assert texts == {" Vienna", " bb", "<"}
        assert all(f.label == [0, 0] for f in features(task, [dataclasses.replace(example, impossible=True)], vocabulary))

    @pytest.mark.parametrize(
        ("gold", "text"),
        [
            (Answer("Vienna", 3, 3), " Vienna"),
            (Answer("Vienna, then", 3, 4), " Vienna, then"),
            (Answer("Budapest.", 5, 5), " Budapest."),
            (Answer("another text", 3, 3), " Vienna,"),  # it is nowhere in its words: all of them
        ],
    )
    def test_answers_are_tightened_to_their_text(self, vocabulary: Vocabulary, gold: Answer, text: str) -> None:
        encoded = encode_squad(PASSAGE, vocabulary.tokenizer, MentionTable({}))
        start, end = tighten(encoded, gold, vocabulary.tokenizer)
        assert vocabulary.tokenizer.text(encoded.ids[start : end + 1]) == text

    def test_most_context(self) -> None:
        assert most_context([(0, 6), (3, 9)], 9) == [0, 0, 0, 0, 0, 1, 1, 1, 1]
        assert most_context([(0, 4)], 4) == [0, 0, 0, 0]

    def test_loss_does_not_depend_on_what_fills_up(self) -> None:
        task = ReadingComprehension()
        rows = [Feature(0, "", [1, 2, 3], [], [1, 2]), Feature(1, "", [1, 2, 3, 4, 5], [], [0, 4])]
        logits = torch.randn(2, 5, 2)
        together = task.loss(logits, rows)
        separate = task.loss(logits[:1, :3], rows[:1]) + task.loss(logits[1:], rows[1:])
        assert torch.isclose(together, separate)
        by_hand = torch.nn.functional.cross_entropy(logits[1, :, 0][None], torch.tensor([0]))
        by_hand = (by_hand + torch.nn.functional.cross_entropy(logits[1, :, 1][None], torch.tensor([4]))) / 2
        assert torch.isclose(task.loss(logits[1:], rows[1:]), by_hand)

    def test_the_entity_table_does_not_learn(self, tiny_base: Any) -> None:
        task = ReadingComprehension()
        tuned = tiny_base.with_head(task.head(), task.labels([]), all_entities=True)
        task.adopt(tuned.labels, tuned.model)
        frozen = [n for n, p in tuned.model.named_parameters() if not p.requires_grad]
        assert frozen == ["luke.entity_embeddings.entity_embeddings.weight"]
        assert len(tuned.model.get_parameter(frozen[0])) == len(tiny_base.tokenizer.entity_vocab)


class TestAnswers:
    def logits(self, *pairs: tuple[int, float, float], length: int = 8) -> np.ndarray:
        array = np.full((length, 2), -9.0)
        for index, start, end in pairs:
            array[index] = start, end
        return array

    def test_spans_are_valid(self) -> None:
        window = AnswerWindow(3, [True, True, False, True])  # tokens 3 to 6
        logits = self.logits((1, 9.0, 9.0), (3, 5.0, 1.0), (4, 1.0, 5.0), (5, 6.0, 0.0), (6, 0.0, 4.0), (7, 8.0, 8.0))
        spans = best_spans(logits, window, 8, 3)
        assert (3, 4) in spans
        assert all(3 <= s <= e <= 6 and e - s < 3 and s != 5 for s, e in spans)

    def run(self, inputs: list[tuple[np.ndarray, AnswerWindow]], **changes: Any) -> Any:
        options = {"count": 5, "longest": 5, "negative": False, "threshold": 0.0, **changes}
        return answer(inputs, lambda n, s, e: f"{n}:{s}-{e}", **options)

    def test_the_best_over_all_windows(self) -> None:
        window = AnswerWindow(2, [True] * 5)
        first, second = self.logits((3, 2.0, 0.0), (4, 0.0, 2.0)), self.logits((2, 3.0, 3.0))
        prediction = self.run([(first, window), (second, window)])
        assert prediction.text == "1:2-2"
        assert [s.text for s in prediction.best[:2]] == ["1:2-2", "0:3-4"]
        assert prediction.null_odds is None

    def test_equal_texts_count_once(self) -> None:
        window = AnswerWindow(2, [True] * 5)
        inputs = [(self.logits((3, 2.0, 2.0), (4, 1.0, 1.0)), window)]
        prediction = answer(inputs, lambda n, s, e: "same", count=5, longest=5, negative=False, threshold=0)
        assert [(s.text, s.score) for s in prediction.best] == [("same", 4.0)]

    @pytest.mark.parametrize(("none", "threshold", "text"), [(3.0, 0.0, ""), (1.0, 0.0, "0:3-3"), (3.0, 9.0, "0:3-3")])
    def test_no_answer(self, none: float, threshold: float, text: str) -> None:
        window = AnswerWindow(2, [True] * 5)
        prediction = self.run([(self.logits((0, none, none), (3, 2.0, 2.0)), window)], negative=True, threshold=threshold)
        assert prediction.text == text
        assert prediction.null_odds == pytest.approx(2 * none - 4.0)
        assert "" in [s.text for s in prediction.best]

    def test_the_least_null_score_of_all_windows(self) -> None:
        window = AnswerWindow(2, [True] * 5)
        high_null, low_null = self.logits((0, 5.0, 5.0), (3, 2.0, 2.0)), self.logits((0, 1.0, 1.0))
        assert self.run([(high_null, window), (low_null, window)], negative=True).null_odds == pytest.approx(2.0 - 4.0)

    def test_nothing_valid(self) -> None:
        window = AnswerWindow(2, [False] * 5)
        assert self.run([(self.logits(), window)]).text == "empty"

    def test_probabilities(self) -> None:
        shares = probabilities([Scored("a", 1.0, 1.0), Scored("b", 0.0, 1.0)])
        assert sum(shares) == pytest.approx(1.0)
        assert shares[0] / shares[1] == pytest.approx(np.e)
