"""What cannot be right in the data of a task is counted and said, and answers are characters of their passage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.entity_span_qa.task import EntitySpanQa
from examples.entity_typing.data import TypingExample
from examples.entity_typing.task import EntityTyping
from examples.luke.loading import Vocabulary
from examples.luke.task import counted, repeated
from examples.ner.data import Document, Sentence
from examples.ner.task import Ner
from examples.reading_comprehension.data import Passage, SquadExample
from examples.reading_comprehension.mentions import MentionTable
from examples.reading_comprehension.options import QaOptions
from examples.reading_comprehension.task import ReadingComprehension, encode_passage, token_bounds
from examples.relation_classification.data import RelationExample
from examples.relation_classification.task import RelationClassification


def test_labels_that_training_lacks_are_counted() -> None:
    typing, relations, ner = EntityTyping(), RelationClassification(), Ner()
    typing.class_names, relations.class_names, ner.class_names = ("city", "person"), ("no_relation", "born_in"), ("NIL", "PER")
    types = [
        TypingExample(f"t:{n}", "Bern", 0, 4, labels) for n, labels in enumerate([("city",), ("river", "city"), ("sea",), ()])
    ]
    assert typing.doubts(types) == [
        "2 of 4 examples have types that no training example has, which are never predicted, the first at t:1"
    ]
    pairs = [
        RelationExample(f"r:{n}", ("a", "b"), (0, 1), (1, 2), name)
        for n, name in enumerate(["no_relation", "wrote", "born_in"])
    ]
    assert [line.partition(" examples")[0] for line in relations.doubts(pairs)] == ["1 of 3"]
    document = Document("eng.testa", (Sentence(3, ("Ann", "in", "Bern"), ("B-PER", "O", "B-LOC")),))
    assert ner.doubts([document]) == [
        "1 of 2 names have a type that no training example has, which is never predicted, the first at eng.testa, line 3"
    ]
    assert typing.doubts(types[:1]) == relations.doubts(pairs[:1]) == []


def squad_file(folder: Path, **changes: Any) -> Path:
    answer = {"text": "Vienna", "answer_start": 18}
    questions = [
        {"id": "q1", "question": "Which?", "answers": [answer]},
        {"id": changes.get("id", "q2"), "question": "Where?", "answers": [answer, answer | changes.get("answer", {})]},
    ]
    article = {"title": "Danube", "paragraphs": [{"context": "The Danube passes Vienna.", "qas": questions}]}
    (folder / "dev-v1.1.json").write_text(json.dumps({"data": [article]}))
    return folder


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"answer": {"answer_start": 17}}, ["1 of 3 answers are other words than those at their 'answer_start'"]),
        ({"answer": {"text": "The Danube", "answer_start": 4}}, ["1 of 3 answers are other words"]),
        ({"id": "q1"}, ["1 of 2 questions repeat an id"]),
    ],
)
def test_doubts_about_questions(tmp_path: Path, changes: dict[str, Any], expected: list[str]) -> None:
    task = ReadingComprehension(QaOptions(with_negative=False))
    doubts = task.doubts(task.read(squad_file(tmp_path, **changes), "dev"))
    assert len(doubts) == len(expected)
    assert all(line.startswith(start) for line, start in zip(doubts, expected, strict=True))


@pytest.mark.parametrize(
    ("answers", "id_of_second", "expected"),
    [
        ([(4, 9, "Danube")], "b", []),
        ([(18, 23, "Vienna"), (0, 2, "The")], "b", []),
        ([(0, 2, "The")], "b", ["2 of 2 questions have no answer among the entities"]),
        ([(4, 9, "Vienna")], "b", ["2 of 2 questions have answers with other words"]),
        ([(4, 9, "Danube")], "a", ["1 of 2 questions repeat an id"]),
    ],
)
def test_doubts_about_cloze_questions(
    tmp_path: Path, answers: list[tuple[int, int, str]], id_of_second: str, expected: list[str]
) -> None:
    gold = [{"start": start, "end": end, "text": text} for start, end, text in answers]
    passage = {"text": "The Danube passes Vienna.", "entities": [{"start": 4, "end": 9}, {"start": 18, "end": 23}]}
    questions = [{"id": name, "query": "@placeholder is near", "answers": gold} for name in ("a", id_of_second)]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"passage": passage, "qas": questions}]}))
    task = EntitySpanQa()
    doubts = task.doubts(task.read(tmp_path, "dev"))
    assert len(doubts) == len(expected)
    assert all(line.startswith(start) for line, start in zip(doubts, expected, strict=True))


def test_counts() -> None:
    assert repeated([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]) == ["3", "4"]
    assert counted([], 3, "x") == []


def test_doubts_are_said_by_the_command(
    run_examples: Callable[..., tuple[int, str]], tiny_folder: Path, tasks: Path, tmp_path: Path
) -> None:
    data, tiny = tmp_path / "data", tasks / "relation_classification" / "tiny"
    data.mkdir()
    for split in ("train", "dev"):
        rows = json.loads((tiny / f"{split}.json").read_text())
        if split == "dev":
            rows[0]["relation"] = "per:never_seen"
        (data / f"{split}.json").write_text(json.dumps(rows))
    options = [f"--model-file={tiny_folder}", f"--output-dir={tmp_path / 'out'}"]
    run = [*options, "relation-classification", "run", f"--data-dir={data}", "--num-train-epochs", "1", "--no-train"]
    status, output = run_examples(*[word for word in run if word != "--no-train"])
    assert status == 0, output
    assert "dev: 1 of" in output
    assert "relation that no training example has" in output


def test_data_without_an_input_is_one_line(
    run_examples: Callable[..., tuple[int, str]], tiny_folder: Path, tmp_path: Path
) -> None:
    question = {"id": "a", "query": "@placeholder is near", "answers": []}
    content = {"data": [{"passage": {"text": "The Danube passes Vienna.", "entities": []}, "qas": [question]}]}
    for split in ("train", "dev"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    where = [f"--model-file={tiny_folder}", f"--output-dir={tmp_path / 'out'}"]
    status, output = run_examples(*where, "entity-span-qa", "run", f"--data-dir={tmp_path}")
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert "none of the 1 examples of" in last
    assert "a passage with an entity that fits into a window" in last


# -- answers


WORDS = st.text(st.sampled_from("aé語👩‍🚀\u00a0'.-x"), min_size=1, max_size=6).filter(lambda word: word.strip() == word)


@given(st.lists(WORDS, min_size=1, max_size=5), st.sampled_from([" ", "  ", "\n", "\t "]))
def test_tokens_have_the_characters_of_their_passage(vocabulary: Vocabulary, words: list[str], space: str) -> None:
    text = space.join(words)
    passage = Passage("x", text, tuple(words))
    bounds = token_bounds(passage, vocabulary.tokenizer)
    encoded = encode_passage(passage, vocabulary.tokenizer, MentionTable({}))
    assert len(bounds) == len(encoded.ids)
    for number, (word, start) in enumerate(zip(words, passage.word_starts(), strict=True)):
        of_word = bounds[encoded.begins[number] : encoded.begins[number + 1]]
        assert text[of_word[0][0] : of_word[-1][1]] == word
        assert start == of_word[0][0]
        assert all(a < b for a, b in of_word[1:]), "the space before a word may be a token of no character"
        assert [a for a, _ in of_word] == sorted(a for a, _ in of_word)


def test_answers_are_exact_characters(vocabulary: Vocabulary) -> None:
    """Any span of tokens, also of one that is a single byte of a character, is characters of the passage."""
    text = "Ein 語👩‍🚀  Wort"
    passage = Passage("x", text, tuple(text.split()))
    example = SquadExample("x", "q", "Was?", passage, (), False)
    task = ReadingComprehension(QaOptions(with_negative=False, no_entity=True))
    [[feature]] = list(task.features([example], vocabulary, training=False))
    n, offset = len(feature.note.has_most_context), feature.note.offset
    assert n > len(passage.words) + 3, "the tiny vocabulary has no such characters"
    for first in range(n):
        for last in range(first, n):
            if not vocabulary.tokenizer.text(feature.words[offset + first : offset + last + 1]).strip():
                continue  # the space before a word
            logits = np.full((len(feature.words), 2), -9.0)
            logits[offset + first, 0] = logits[offset + last, 1] = 9.0
            answered = task.decode([example], [feature], [logits])["q"].text
            assert answered in text
            assert "\ufffd" not in answered
            assert answered
