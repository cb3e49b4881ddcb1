"""How names relate, what forbids that two things are one, how thresholds are selected, and what a merge keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resolve_toys import base

from blink.data.records import Entity
from blink.errors import DataError
from blink.resolve import merges
from blink.resolve.features import AGAINST, FEATURES, FOR, compare
from blink.resolve.fitting import fit_scorer, operating_point, pair_profiles, read_pairs, select_threshold
from blink.resolve.kinds import CONTRARY, DIFFERENT, EQUAL, RELATED, UNKNOWN, compare_types
from blink.resolve.name_match import match_names
from blink.resolve.names import edit_distance, parse_name, sound_key
from blink.resolve.profiles import Profile
from blink.resolve.records import records_from
from blink.resolve.resolver import Resolver
from blink.resolve.scorer import WEIGHTS_FILE, PairScorer, is_mergeable

DATA = Path(__file__).parent / "data" / "resolve"
WORDS = st.lists(
    st.sampled_from(
        ["Anna", "Smith", "J.", "Jr.", "II", "12", "the", "of", "Bank", "GmbH,", "Müller", "O'Neil", "St.", "(1984)"]
    ),
    min_size=1,
    max_size=4,
)
NAMES = st.one_of(WORDS.map(" ".join), st.text(min_size=1, max_size=12).filter(lambda t: t.strip() != ""))


def profile(**values: Any) -> Profile:
    (record,) = records_from([values])
    return Profile.of_record(record)


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        ("The Beatles", "Beatles", "exact"),
        ("Infosys Limited", "Infosys Ltd.", "exact"),
        ("Dublin Toolhire", "Dublin Tool Hire", "spacing"),
        ("Orwell, George", "George Orwell", "full"),
        ("Bobby Fischer", "Robert Fischer", "full"),
        ("T. S. Eliot", "Thomas Stearns Eliot", "full"),
        ("Ivan Turgenev", "Iwan Turgenjew", "full"),
        ("Johannesburg", "Johanesburg", "full"),
        ("European Space Agency", "ESA", "acronym"),
        ("Picasso", "Pablo Picasso", "contained"),
        ("Virgin Records", "Virgin Atlantic", "conflict"),
        ("Mao, Angela", "Maria Mao", "conflict"),
    ],
)
def test_relations_of_names(a: str, b: str, relation: str) -> None:
    assert match_names(a, b).relation == match_names(b, a).relation == relation


@given(NAMES, NAMES)
def test_a_comparison_does_not_depend_on_its_order(a: str, b: str) -> None:
    x, y = profile(name=a, description="a thing of 1901"), profile(name=b, type="person")
    one, other = compare(x, y), compare(y, x)
    np.testing.assert_allclose(one.values, other.values)
    assert (one.forbidden == "", one.doubt) == (other.forbidden == "", other.doubt)


@given(NAMES)
def test_a_name_is_exactly_itself_in_any_letter_case(name: str) -> None:
    match = match_names(name, name)
    assert (match.relation, match.rest_a, match.is_number_conflict) == ("exact", (), False)
    assert parse_name(name).words == parse_name(f"  {name} ").words


@given(st.text("abcdef", max_size=8), st.text("abcdef", max_size=8))
def test_edit_distance_is_a_symmetric_count(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) <= 4
    assert (edit_distance(a, b) == 0) == (a == b)


def test_transliterations_sound_alike() -> None:
    assert sound_key("schostakowitsch") == sound_key("shostakovich")
    assert sound_key("marsden") != sound_key("marsten")


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ({"name": "iPad 2"}, {"name": "iPad 3"}, "numbers"),
        ({"name": "Louis XIV"}, {"name": "Louis XVI"}, "numbers"),
        ({"name": "Cal Ripken Sr."}, {"name": "Cal Ripken Jr."}, "generations"),
        ({"name": "Python", "type": "animal"}, {"name": "Python", "type": "software"}, "contrary types"),
        ({"name": "Emma", "type": "book"}, {"name": "Emma", "type": "film"}, "works"),
        ({"name": "Kirk Douglas", "type": "person"}, {"name": "Michael Douglas", "type": "person"}, "first names"),
        (
            {"name": "R. Castellan", "description": "Rosa, a cook"},
            {"name": "R. Castellan", "description": "Ray, a cook"},
            "first",
        ),
        ({"name": "Bath", "id": "Q22889"}, {"name": "Bath", "id": "Q23154"}, "ids"),
    ],
)
def test_what_forbids_a_merge(a: dict[str, Any], b: dict[str, Any], why: str) -> None:
    match = PairScorer.load().score(profile(**a), profile(**b))
    assert why in match.forbidden
    assert (match.probability, is_mergeable(match)) == (0.0, False)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Hank Williams", "Hank Williams Jr."),
        ("Windows", "Windows 95"),
        ("Virginia", "West Virginia"),
        ("George H. W. Bush", "George W. Bush"),
        ("Gary Marsden", "Garry Marsten"),
    ],
)
def test_a_person_must_agree_whatever_the_probability(a: str, b: str) -> None:
    assert not is_mergeable(PairScorer.load().score(profile(name=a), profile(name=b)))


def test_types_are_compared_by_kind() -> None:
    cases = {
        ("city", "City"): EQUAL, ("American actor", "film director"): RELATED, ("river", "city"): DIFFERENT,
        ("museum", "organisation"): DIFFERENT, ("person", "city"): CONTRARY, ("zzz", "city"): UNKNOWN,
    }  # fmt: skip
    assert {(a, b): compare_types((a,), (b,)) for a, b in cases} == cases


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=4, max_size=40), st.sampled_from([0.8, 0.95, 1.0]))
def test_a_selected_threshold_holds_its_precision(rows: list[tuple[float, bool]], precision: float) -> None:
    p, same = np.array([x for x, _ in rows]), np.array([y for _, y in rows])
    point = select_threshold(p, same, precision)
    assert point.precision >= precision
    assert point.precision_low <= point.precision
    if precision < 1:  # nothing merges more at this precision
        assert all(
            operating_point(t, p, same).recall <= point.recall for t in p if operating_point(t, p, same).precision >= precision
        )


def test_weights_have_the_sign_of_their_meaning() -> None:
    pairs = read_pairs(DATA / "pairs-dev.jsonl")
    scorer, p = fit_scorer(pairs, pair_profiles(pairs, None))
    for weights in (scorer.weights, PairScorer.load().weights):
        assert set(weights) == set(FEATURES)
        assert all(weights[name] >= 0 for name in FOR)
        assert all(weights[name] <= 0 for name in AGAINST)
    same = np.array([pair.same for pair in pairs])
    assert p[same].mean() > p[~same].mean() + 0.2


def test_scorers_and_plans_survive_their_files(tmp_path: Path) -> None:
    PairScorer.load().save(tmp_path / "scorer.json")
    assert (tmp_path / "scorer.json").read_text() == WEIGHTS_FILE.read_text()
    sides = [merges.Side.of(Entity(row, "A", kb_id=f"X{row}")) for row in (0, 1)]
    plan = merges.plan([merges.Merge(sides[0], sides[1], 0.9, ("same name",), True)], 0.8)
    plan.save(tmp_path / "plan.json")
    assert merges.MergePlan.load(tmp_path / "plan.json") == plan
    value = plan.to_json()
    for wrong in ({}, {**value, "merges": [{"keep": {}}]}, {**value, "merges": [{**value["merges"][0], "approved": 1}]}):
        with pytest.raises(DataError):
            merges.MergePlan.from_json(wrong)


def test_pairs_without_labels_are_named(tmp_path: Path) -> None:
    lines = [{"a": {"name": "A"}, "b": {"name": "B"}, "same": "perhaps"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="line 1: 'same'"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_a_merge_keeps_names_types_and_ids_of_both() -> None:
    keep = Entity(0, "Wang Lei", "captain", "Q1", aliases=("W. Lei",), types=("person",), ids=(("imdb", "a"),))
    remove = Entity(1, "Lei Wang", "of a team in Dalian", "E-2", types=("athlete",), ids=(("imdb", "b"), ("viaf", "c")))
    merged = merges.merged(keep, remove)
    assert (merged.title, merged.kb_id, merged.text) == ("Wang Lei", "Q1", "captain. of a team in Dalian")
    assert (merged.aliases, merged.types) == (("W. Lei", "Lei Wang"), ("person", "athlete"))
    assert merged.ids == (("imdb", "a"), ("merged-1", "b"), ("merged-2", "E-2"), ("viaf", "c"))
    assert merges.in_order(remove, keep) == (keep, remove)


def test_merges_are_made_one_by_one_found_by_old_ids_and_undone(tmp_path: Path) -> None:
    text = "organist at the church of Nevern"
    lines = [{"title": f"{first} {last}", "text": text, "kb_idx": f"P-{first}-{last}", "types": ["person"]}
             for last in ("Pugh", "Tolliver") for first in ("Gwendolyn", "Gwen")]  # fmt: skip
    kb = base(tmp_path / "kb", lines)
    before = kb.digest()
    resolver = Resolver(kb)
    plan = resolver.propose_merges()
    approved = [merge for merge in plan.merges if merge.approved]
    assert [(m.keep.row, m.remove.row) for m in sorted(approved, key=lambda m: m.keep.row)] == [(0, 1), (2, 3)]
    transactions = resolver.apply(plan)
    assert [t.kind for t in transactions] == ["merge", "merge"]
    assert kb.catalogue.row_of("P-Gwen-Pugh") == 0
    kb.undo()
    assert kb.catalogue[3].title in ("Gwen Tolliver", "")
    kb.undo()
    assert kb.digest() == before
    twice = merges.MergePlan((approved[0], approved[0]), 0.9)
    with pytest.raises(DataError, match="two approved merges"):
        resolver.apply(twice)
    assert kb.digest() == before
