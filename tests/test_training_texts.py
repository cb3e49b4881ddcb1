"""The texts that labelled training examples are generated from: well formed, varied, free of stray names."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

TEXTS = Path(__file__).resolve().parents[1] / "blink" / "training" / "texts"
SLOT = re.compile(r"\{([^{}]*)\}")
SLOT_KINDS = {"place", "person", "organisation", "work", "any", "concept", "typed"}
QUESTION_START = re.compile(
    r"^(who|what|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|has|have|should)\b", re.IGNORECASE
)
FIRST_PERSON = re.compile(r"I(?:['’]\w+)?$")
SENTENCE_END = (".", "!", "?", ":", "…")


def read_templates(name: str) -> dict[str, list[str]]:
    """Read one JSON file of templates; fails on a key that occurs twice, which JSON readers pass over."""

    def unique(pairs: list[tuple[str, list[str]]]) -> dict[str, list[str]]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"a key occurs twice in {name}"
        return dict(pairs)

    templates = json.loads((TEXTS / name).read_text(encoding="utf-8"), object_pairs_hook=unique)
    assert isinstance(templates, dict)
    return templates


RELATIONS = read_templates("relation_templates.json")
SLOTS = read_templates("slot_templates.json")
PLAIN = (TEXTS / "plain_texts.txt").read_text(encoding="utf-8").split("\n")[:-1]


def every_template() -> list[str]:
    """All templates of both files."""
    return [template for group in (RELATIONS, SLOTS) for templates in group.values() for template in templates]


def slots_of(template: str) -> list[str]:
    """The slot names of a template in order of appearance."""
    return SLOT.findall(template)


def is_question(text: str) -> bool:
    """Whether a text asks something: it ends in a question mark or begins like a typed question."""
    return text.endswith("?") or QUESTION_START.match(text) is not None


def stray_capitals(text: str) -> list[str]:
    """Capitalised words of a text that neither begin a sentence nor are the pronoun "I"."""
    words = text.split()
    stray = []
    for before, word in pairwise(words):
        core = word.strip("\"'“”‘’(),;:.!?-")
        if core[:1].isupper() and not FIRST_PERSON.match(core) and not before.endswith(SENTENCE_END):
            stray.append(word)
    return stray


def without_duplicates(texts: list[str]) -> bool:
    """Whether no text occurs twice, case and outer punctuation left aside."""
    return len({text.casefold().strip(" .?!") for text in texts}) == len(texts)


@pytest.mark.parametrize("word", ["Paris", "Paris,", '"Paris"', "(Monday)"])
def test_stray_capitals_sees_a_name(word: str) -> None:
    assert stray_capitals(f"we met {word} and I left. Then I'm told it rained.") == [word]


def test_relation_ids_and_counts() -> None:
    assert len(RELATIONS) == 51
    for relation, templates in RELATIONS.items():
        assert re.fullmatch(r"P[1-9]\d*", relation)
        assert 10 <= len(templates) <= 14, relation


def test_relations_of_the_graph_are_covered(shared: Path) -> None:
    path = shared / "data" / "kg" / "codex-m" / "train.txt"
    if not path.is_file():
        pytest.skip("no triples beside this checkout")
    with path.open(encoding="utf-8") as lines:
        used = {line.split("\t")[1] for line in lines}
    assert used == set(RELATIONS)


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_relation_templates_use_both_ends(relation: str) -> None:
    used = [frozenset(slots_of(template)) for template in RELATIONS[relation]]
    assert set(used) == {frozenset("h"), frozenset("t"), frozenset("ht")}
    assert 2 * used.count(frozenset("ht")) >= len(used)


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_relation_templates_mix_questions_and_statements(relation: str) -> None:
    templates = RELATIONS[relation]
    questions = sum(map(is_question, templates))
    assert 5 <= questions <= len(templates) - 5


def test_slot_kinds_and_counts() -> None:
    assert set(SLOTS) == SLOT_KINDS
    for kind, templates in SLOTS.items():
        assert 25 <= len(templates) <= 60, kind
        with_two = sum("{b}" in template for template in templates)
        # Beside a common noun there is seldom room for two.
        assert {"concept": 0.0, "typed": 0.05}.get(kind, 0.3) <= with_two / len(templates) <= 0.65, kind


def test_slot_templates_have_the_slots_of_their_kind() -> None:
    for kind, templates in SLOTS.items():
        for template in templates:
            allowed = {"concept": [{"c"}], "typed": [{"a", "c"}, {"a", "b", "c"}]}.get(kind, [{"a"}, {"a", "b"}])
            assert set(slots_of(template)) in allowed, template


def test_every_template_is_clean() -> None:
    for template in every_template():
        slots = slots_of(template)
        assert 1 <= len(set(slots)) == len(slots), template
        fixed = SLOT.sub("", template)
        assert not set("{}") & set(fixed), template
        assert re.search(r"\w\w", fixed), template
        assert template == " ".join(template.split()), template


def test_templates_have_no_other_capitalised_word() -> None:
    for template in every_template():
        assert stray_capitals(SLOT.sub("x", template)) == [], template


def test_no_duplicate_templates() -> None:
    assert without_duplicates([template for templates in RELATIONS.values() for template in templates])
    for kind, templates in SLOTS.items():
        assert without_duplicates(templates), kind


def test_plain_texts_are_unique_lines() -> None:
    assert len(PLAIN) == 400
    assert without_duplicates(PLAIN)
    for text in PLAIN:
        assert text, "a line is blank"
        assert text == " ".join(text.split()), text
        assert not set("{}") & set(text), text


def test_plain_texts_have_no_capitalised_word_in_mid_sentence() -> None:
    for text in PLAIN:
        assert stray_capitals(text) == [], text


def test_plain_texts_are_varied() -> None:
    lengths = [len(text.split()) for text in PLAIN]
    questions = sum(map(is_question, PLAIN))
    lower = sum(text[0].islower() for text in PLAIN)
    unpunctuated = sum(text[-1].isalnum() for text in PLAIN)
    assert max(lengths) <= 45
    assert sum(25 <= length <= 40 for length in lengths) >= 30
    assert lengths.count(1) >= 10
    assert 0.3 <= questions / len(PLAIN) <= 0.42
    assert 0.25 <= lower / len(PLAIN) <= 0.6
    assert 0.2 <= unpunctuated / len(PLAIN) <= 0.6
    assert any(re.search(r"\d", text) for text in PLAIN)
    assert any(ord(character) > 0x2000 for text in PLAIN for character in text)
