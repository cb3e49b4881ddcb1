"""NameIndex that are nearly right: found, measured, and mapped from disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.errors import MismatchError, MissingFileError
from blink.kb import fuzzy_writer, grams
from blink.kb.alias_table import TITLE, VARIANT, AliasMatch, AliasTable, normalise, without_brackets
from blink.kb.fuzzy_index import FuzzyIndex, file_of
from blink.kb.grams import Characters, gram_keys
from blink.kb.name_index import MAX_CANDIDATES_PER_ALIAS, NameIndex
from blink.kb.name_similarity import MEASURES
from blink.kb.name_tables import build_name_tables
from blink.kb.popularity import POPULARITY_FILE, describe, open_popularity

pytestmark = pytest.mark.quick

ENTITIES = [
    Entity(0, "New York Public Library", "library system", "Q219555"),
    Entity(1, "Will Ferrell", "American actor", "Q23844", aliases=("John William Ferrell",)),
    Entity(2, "Islam", "religion", "Q432"),
    Entity(4, "Joseph E. Stiglitz", "economist", "Q152495"),
    Entity(5, "Georgia (country)", "country", "Q230", aliases=("საქართველო",)),
    Entity(6, "Steglitz", "quarter of Berlin", "Q158893"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> FuzzyIndex:
    folder = tmp_path_factory.mktemp("spelling")
    build_name_tables(ENTITIES, 7, folder)
    index = FuzzyIndex.open(folder)
    assert len(index.rows) == sum(2 if e.row in (1,) else 3 if e.row == 5 else 1 for e in ENTITIES)
    return index


@pytest.mark.parametrize(
    ("name", "row"),
    [("nypl", 0), ("N.Y.P.L.", 0), ("will farrell", 1), ("islaam", 2), ("stiglitz", 4), ("georgia", 5), ("საქართველ", 5)],
)
def test_the_nearest_name_comes_first(index: FuzzyIndex, name: str, row: int) -> None:
    assert index.similar(name)[0] == row


@pytest.mark.parametrize("name", ["", "?!", "zzzz", "q"])
def test_nothing_is_near_to_nonsense(index: FuzzyIndex, name: str) -> None:
    assert index.similar(name) == []


def test_a_row_without_names_measures_zero(index: FuzzyIndex) -> None:
    measured = index.compare("islam", [2, -1, 3])
    assert measured.shape == (3, len(MEASURES))
    assert measured[0, :3].tolist() == [1, 1, 1]
    assert not measured[1:].any()


def test_shares_of_words_are_of_the_mention_and_of_the_name(index: FuzzyIndex) -> None:
    dice, of_mention, of_name, initials = index.compare("york library", [0])[0, :4]
    assert (of_mention, of_name, initials) == (1.0, 0.5, 0.0)
    assert 0.4 < dice < 1


def test_rare_words_weigh_more(index: FuzzyIndex) -> None:
    column = dict(zip(MEASURES, index.compare("new stiglitz", [0, 4]).T, strict=True))
    assert column["words_found"].tolist() == [0.5, 0.5]
    assert 0 < column["mention_coverage"][0] <= column["mention_coverage"][1] < 1
    of_all = index.compare("Joseph E. Stiglitz", [4])[0]
    assert of_all[[MEASURES.index(name) for name in ("mention_coverage", "name_coverage", "word_dice")]].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("mention", "context", "supported"),
    [
        ("Ferrell", "Will Ferrell and Ferrell", True),
        ("Ferrell", "Tim and Ferrell", False),
        ("Will Ferrell", "Will Ferrell", False),  # the mention has all of the name
        ("Tim", "Will Ferrell and Tim", False),  # and here nothing of it
    ],
)
def test_the_rest_of_a_name_may_be_in_the_text(index: FuzzyIndex, mention: str, context: str, supported: bool) -> None:
    measured = index.compare(mention, [1], context)[0, MEASURES.index("rest_in_context")]
    assert (measured > 0) == supported


PAIRS = st.tuples(st.sampled_from(["will", "new york", "Islam", "", "?", "jes", "US", "york library"]), st.integers(-1, 6))
CONTEXTS = st.sampled_from(["will public library", "", "Joseph and the New York"])


@given(pairs=st.lists(st.tuples(PAIRS, CONTEXTS), max_size=8))
def test_pairs_are_measured_alike_together(index: FuzzyIndex, pairs: list[tuple[tuple[str, int], str]]) -> None:
    mentions = [mention for (mention, _), _ in pairs]
    rows = np.array([row for (_, row), _ in pairs], dtype=np.int64)
    each = np.arange(len(pairs))
    together = index.compare_all(mentions, rows, each, [context for _, context in pairs], each)
    assert together.shape == (len(pairs), len(MEASURES))
    for ((mention, row), context), measured in zip(pairs, together, strict=True):
        assert np.array_equal(index.compare(mention, [row], context)[0], measured)


def test_the_best_of_several_names_counts(index: FuzzyIndex) -> None:
    assert index.compare("John William Ferrell", [1])[0, 0] == 1


@given(text=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_measured_between_0_and_1(index: FuzzyIndex, text: str) -> None:
    rows = index.similar(text)
    assert len(set(rows)) == len(rows) <= 8
    measured = index.compare(text, list(range(7)))
    assert ((measured[:, :-1] >= 0) & (measured[:, :-1] <= 1)).all()
    assert (measured[:, -1] >= 0).all()


@given(order=st.permutations([0, 1, 2, 4, 5, 6]))
def test_measures_do_not_depend_on_the_company(index: FuzzyIndex, order: list[int]) -> None:
    alone = {row: index.compare("new ferrell", [row])[0] for row in order}
    together = index.compare("new ferrell", order)
    assert all(np.array_equal(alone[row], measured) for row, measured in zip(order, together, strict=True))


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("most", [1, 2, 1000])
def test_postings_are_the_names_of_each_gram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, most: int) -> None:
    monkeypatch.setattr(fuzzy_writer, "_BLOCK_NAMES", block)
    monkeypatch.setattr(grams, "MAX_NAMES_PER_GRAM", most)
    monkeypatch.setattr(grams, "_FEWEST_COUNTERS", 1 << 20)  # so that no two grams share one
    entities = [*ENTITIES[:-1], Entity(6, "Steglitz", aliases=("Islam", "islamic Islamic art", "?!"))]
    build_name_tables(entities, 7, tmp_path)
    opened = FuzzyIndex.open(tmp_path)
    names = [name for e in entities for name in dict.fromkeys((e.title, without_brackets(e.title), *e.aliases))]
    padded = [f" {form} " for form in map(normalise, names) if form]
    starting = Counter(
        name[i:end] for name in padded for i in range(len(name)) for end in range(i + 3, min(i + 8, len(name)) + 1)
    )
    names_of: dict[str, set[int]] = {}
    for number, name in enumerate(padded):
        for i in range(len(name) - 2):
            rare = [n for n in range(3, min(8, len(name) - i) + 1) if starting[name[i : i + n]] <= most]
            if rare:
                names_of.setdefault(name[i : i + rare[0]], set()).add(number)
    lists = {
        gram: opened.postings[opened.posting_at[at] : opened.posting_at[at + 1]].tolist()
        for gram in names_of
        for at in [int(np.searchsorted(opened.keys, _key_of(gram)))]
    }
    assert lists == {gram: sorted(numbers) for gram, numbers in names_of.items()}
    assert len(opened.keys) == len(names_of) > 60


def _key_of(gram: str) -> np.uint32:
    codes = np.frombuffer(gram.encode("utf-32-le"), dtype=np.uint32)
    return gram_keys(Characters(codes, np.array([len(codes)])))[len(gram) - 3, 0]


def test_a_missing_or_damaged_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="build the knowledge base again"):
        FuzzyIndex.open(tmp_path)
    build_name_tables(ENTITIES, 7, tmp_path)
    (tmp_path / file_of("grams")).write_bytes(b"no array")
    with pytest.raises(MismatchError, match="damaged"):
        FuzzyIndex.open(tmp_path)


@pytest.mark.parametrize("name", ["rows", "words", "initials", "grams"])
def test_a_table_of_another_type_or_shape_is_said(name: str, tmp_path: Path) -> None:
    build_name_tables(ENTITIES, 7, tmp_path)
    path = tmp_path / file_of(name)
    values = np.load(path)
    for other in (values.astype(np.float32), values.astype("U4"), values[None], values > 0):
        np.save(path, other)
        with pytest.raises(MismatchError, match=f"{path.name} is damaged"):
            FuzzyIndex.open(tmp_path)


def test_an_empty_catalogue_has_a_table(tmp_path: Path) -> None:
    build_name_tables([], 0, tmp_path)
    assert FuzzyIndex.open(tmp_path).similar("islam") == []


def test_lower_wikidata_numbers_are_better_known() -> None:
    popularity = dict(zip([e.title for e in ENTITIES], describe(ENTITIES)[:, 0], strict=True))
    assert popularity["Islam"] > popularity["Will Ferrell"] > popularity["New York Public Library"]
    assert describe([Entity(0, "bat", "", None)])[0, 3] == 1.0


def test_popularity_is_bound_to_the_rows(tmp_path: Path) -> None:
    build_name_tables(ENTITIES, 7, tmp_path)
    table = open_popularity(tmp_path, 7)
    assert not table[3].any()
    assert table[2].tolist() == pytest.approx(describe(ENTITIES)[2].tolist())
    with pytest.raises(MismatchError, match="8 entities"):
        open_popularity(tmp_path, 8)
    (tmp_path / POPULARITY_FILE).unlink()
    with pytest.raises(MissingFileError, match="build the knowledge base again"):
        open_popularity(tmp_path, 7)


@pytest.mark.parametrize(
    ("name", "row"),
    [("islams", 2), ("new-york public library", 0), ("newyork publiclibrary", 0), ("georgia", 5), ("willferrell's", 1)],
)
def test_near_forms_leave_blanks_hyphens_and_a_final_s_aside(tmp_path: Path, name: str, row: int) -> None:
    build_name_tables(ENTITIES, 7, tmp_path)
    forms = AliasTable.open(tmp_path)
    assert forms.lookup_variants(name) == [AliasMatch(row, VARIANT)]


def test_near_forms_are_no_exact_ones(tmp_path: Path) -> None:
    build_name_tables([*ENTITIES, Entity(7, "US"), Entity(8, "u")], 9, tmp_path)
    forms = AliasTable.open(tmp_path)
    assert forms.lookup("islams") == forms.lookup("newyork public library") == []
    assert forms.lookup("islam") == [AliasMatch(2, TITLE)]
    assert [m.row for m in forms.lookup_variants("us")] == [7]
    assert forms.lookup_variants("?!") == []


def names_of(folder: Path, entities: list[Entity]) -> NameIndex:
    build_name_tables(entities, len(entities), folder)
    return NameIndex.open(folder, len(entities))


@given(order=st.permutations(list(range(MAX_CANDIDATES_PER_ALIAS + 4))), titles=st.integers(0, MAX_CANDIDATES_PER_ALIAS + 4))
@settings(max_examples=20)
def test_of_too_many_namesakes_the_best_known_are_kept(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], titles: int
) -> None:
    entities = [
        Entity(row, "Springs", "", f"Q{1000 + 10 * number}") if row < titles
        else Entity(row, f"place {row}", "", f"Q{1000 + 10 * number}", aliases=("springs",))
        for row, number in enumerate(order)
    ]  # fmt: skip
    names = names_of(tmp_path_factory.mktemp("names"), entities)
    matches = names.candidates("Springs")
    assert matches == [m for m in names.alias_table.lookup("springs") if m in matches]
    assert [m.kind for m in matches] == sorted((m.kind for m in matches), reverse=True)
    strongest = sorted(range(len(order)), key=lambda row: (row >= titles, order[row]))
    assert sorted(m.row for m in matches) == sorted(strongest[:MAX_CANDIDATES_PER_ALIAS])
    variants = names.candidates("spring")
    assert sorted(order[m.row] for m in variants) == list(range(MAX_CANDIDATES_PER_ALIAS))


def test_few_namesakes_are_all_kept_and_exact_names_go_before_near_ones(tmp_path: Path) -> None:
    names = names_of(tmp_path, [Entity(0, "Spring"), Entity(1, "Springs", "", "Q7"), Entity(2, "Springs", "", "Q5")])
    assert [m.row for m in names.candidates("springs")] == [1, 2]
    assert [m.row for m in names.candidates("spring")] == [0]
    assert [m.row for m in names.candidates("SPRING-S")] == [0, 1, 2]
    assert names.candidates("") == []
