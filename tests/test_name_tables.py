"""Tables of names: what is written block by block, sorted outside memory and mapped is what a plain model of it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data import arrays
from blink.data.arrays import array_writer, map_array, offsets_writer, save_array
from blink.data.external_sort import ExternalSorter
from blink.data.records import Entity
from blink.errors import MismatchError, MissingFileError
from blink.kb import fuzzy_writer, grams, name_tables, title_table
from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT, normalise, normalise_all, without_brackets
from blink.kb.fuzzy_index import FuzzyIndex, file_of
from blink.kb.grams import N_TRIGRAMS, Characters, trigrams
from blink.kb.name_index import NameIndex
from blink.kb.name_tables import FILES, build_name_tables
from blink.kb.title_table import TitleTable
from blink.training.data.noise import doubled_letter, dropped_letter, other_vowel, swapped_letters

pytestmark = pytest.mark.quick

NAMES = st.one_of(
    st.sampled_from(
        ["Oslo", "oslo", "OSLO (city)", "New York", "NewYork", "new-york", "Žižkov", "!!!", "us", "川", "R\nB", "ﬀ ½ ß"]
    ),
    st.text(min_size=1, max_size=12).filter(lambda text: not text.isspace()),
    st.text("abs -()", min_size=1, max_size=8).filter(lambda text: not text.isspace()),
)
ENTITIES = st.lists(
    st.one_of(st.none(), st.tuples(NAMES, st.lists(NAMES, max_size=4), st.sampled_from([None, "Q5", "local:ä"]))), max_size=12
)


def entities_of(drawn: list[tuple[str, list[str], str | None] | None]) -> list[Entity]:
    return [Entity(row, of[0], "two words", of[2], None, tuple(of[1])) for row, of in enumerate(drawn) if of is not None]


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}


@given(drawn=ENTITIES, block=st.integers(1, 5), run=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_blocks_and_runs_leave_no_trace(tmp_path_factory: pytest.TempPathFactory, drawn, block: int, run: int) -> None:  # type: ignore[no-untyped-def]
    whole, small = (tmp_path_factory.mktemp("names") for _ in range(2))
    build_name_tables(entities_of(drawn), len(drawn), whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_tables, "_BLOCK_ROWS", block)
        patch.setattr(ExternalSorter.__init__, "__kwdefaults__", {**ExternalSorter.__init__.__kwdefaults__, "run_records": run})
        build_name_tables(entities_of(drawn), len(drawn), small)
    assert content(small) == content(whole)
    assert sorted(path.name for path in small.iterdir()) == sorted(content(whole))


@given(drawn=ENTITIES)
@settings(max_examples=25, deadline=None)
def test_names_are_looked_up_as_in_a_dictionary(tmp_path_factory: pytest.TempPathFactory, drawn) -> None:  # type: ignore[no-untyped-def]
    folder, entities = tmp_path_factory.mktemp("names"), entities_of(drawn)
    build_name_tables(entities, len(drawn), folder)
    table, titles = NameIndex.open(folder, len(drawn)).alias_table, TitleTable.open(folder, len(drawn))
    exact, variants = dict[str, dict[int, int]](), dict[str, dict[int, int]]()
    for entity in entities:
        kinds = [(alias, ALIAS) for alias in entity.aliases]
        for name, kind in (*kinds, (without_brackets(entity.title), BARE_TITLE), (entity.title, TITLE)):
            symbols = "".join(name.split())
            for of, key, of_kind in (
                (exact, normalise(name) or (symbols if len(symbols) > 1 else ""), kind),
                (variants, _joined(name), VARIANT),
            ):
                if key:
                    of.setdefault(key, {})[entity.row] = max(of_kind, of.get(key, {}).get(entity.row, 0))
    for text in {"Oslo", "nothing at all", *(name for e in entities for name in (e.title, *e.aliases))}:
        symbols = "".join(text.split())
        expected = exact.get(normalise(text) or (symbols if len(symbols) > 1 else ""), {})
        assert [(m.row, m.kind) for m in table.lookup(text)] == sorted(expected.items(), key=lambda m: (-m[1], m[0]))
        assert [m.row for m in table.lookup_variants(text)] == sorted(variants.get(_joined(text), {}))
    by_row = {entity.row: entity for entity in entities}
    assert titles.titles(range(len(drawn))) == [by_row[row].title if row in by_row else "" for row in range(len(drawn))]
    assert titles.kb_ids(range(len(drawn))) == [by_row[row].kb_id if row in by_row else None for row in range(len(drawn))]


def _joined(text: str) -> str:
    joined = normalise(text).replace(" ", "")
    return joined.rstrip("s") + "~" if len(joined) > 3 else joined and joined + "~"


@given(texts=st.lists(st.one_of(st.text(max_size=20), NAMES), max_size=8))
def test_many_strings_are_normalized_as_one(texts: list[str]) -> None:
    assert normalise_all(texts) == [normalise(text) for text in texts]


@given(forms=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=6))
def test_trigrams_are_hashed_as_by_zlib(forms: list[str]) -> None:
    import zlib

    hashed, sizes = trigrams(Characters.of(forms))
    expected = [
        sorted({zlib.crc32(f" {form} "[i : i + 3].encode()) % N_TRIGRAMS for i in range(len(form))}) if form else []
        for form in forms
    ]
    assert sizes.tolist() == [len(of) for of in expected]
    assert hashed.tolist() == [gram for of in expected for gram in of]


@given(
    blocks=st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=7), max_size=7),
    run=st.integers(1, 12),
    bits=st.integers(0, 3),
)
@settings(deadline=None)
def test_records_are_sorted_whatever_the_memory(tmp_path_factory: pytest.TempPathFactory, blocks, run: int, bits: int) -> None:  # type: ignore[no-untyped-def]
    with ExternalSorter(tmp_path_factory.getbasetemp(), with_values=True, group_bits=bits, run_records=run) as sorter:
        for block in blocks:
            sorter.add(np.array([k for k, _ in block], np.uint64), np.array([v for _, v in block], np.uint64))
        assert len(sorter) == sum(map(len, blocks))
        sorted_blocks = [list(zip(*(column.tolist() for column in columns), strict=True)) for columns in sorter.blocks()]
    assert [record for block in sorted_blocks for record in block] == sorted(record for block in blocks for record in block)
    groups = [{key >> bits for key, _ in block} for block in sorted_blocks]
    assert sum(map(len, groups)) == len(set[int]().union(*groups))


@pytest.mark.parametrize(("largest", "dtype"), [(6, np.int32), (5, np.int64)])
def test_offsets_are_as_wide_as_they_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, dtype: type
) -> None:
    monkeypatch.setattr(arrays, "_LARGEST_INT32", largest)
    monkeypatch.setattr(arrays, "_COPIED", 2)
    with offsets_writer(tmp_path / "at.npy") as append:
        append(np.array([2, 0]))
        append(np.array([], dtype=np.int64))
        append(np.array([1, 3]))
    stored = map_array(tmp_path / "at.npy", "")
    assert stored.dtype == dtype
    assert stored.tolist() == [0, 2, 2, 3, 6]


def test_an_array_in_blocks_is_the_array_and_a_failure_leaves_the_old(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    save_array(tmp_path / "whole.npy", values)
    with array_writer(tmp_path / "blocks.npy", np.float32, 2) as append:
        append(values[:1])
        append(values[1:1])
        append(values[1:].astype(np.float64))
    assert np.array_equal(np.load(tmp_path / "blocks.npy", allow_pickle=False), values)
    with pytest.raises(RuntimeError):
        _write_half(tmp_path / "blocks.npy", values)
    assert np.array_equal(np.load(tmp_path / "blocks.npy", allow_pickle=False), values)
    assert len(list(tmp_path.iterdir())) == 2


def _write_half(path: Path, values: np.ndarray) -> None:
    with array_writer(path, np.float32, 2) as append:
        append(values[:2])
        raise RuntimeError("full disk")


def test_a_title_table_that_is_damaged_or_of_another_catalogue_is_said(tmp_path: Path) -> None:
    build_name_tables([Entity(0, "Oslo"), Entity(1, "Bergen")], 2, tmp_path)
    with pytest.raises(MismatchError, match="2 titles, the catalogue 3"):
        TitleTable.open(tmp_path, 3)
    save_array(tmp_path / title_table.FILES[1], np.zeros(3, dtype=np.uint8))
    with pytest.raises(MismatchError, match="damaged or of different catalogues"):
        TitleTable.open(tmp_path, 2)
    (tmp_path / title_table.FILES[1]).unlink()
    with pytest.raises(MissingFileError, match="build the knowledge base again"):
        TitleTable.open(tmp_path, 2)


MISSPELLINGS = (doubled_letter, dropped_letter, other_vowel, swapped_letters)


@pytest.fixture(scope="module")
def random_names() -> list[str]:
    """3,000 names of two words each of two to four syllables of 40: trigrams are common, as in a catalogue of millions."""
    random = np.random.default_rng(0)
    syllables = [a + b for a in "bdklmnrst" for b in "aeiou"][:40]
    words = ["".join(random.choice(syllables, random.integers(2, 5))).capitalize() for _ in range(900)]
    return list(dict.fromkeys(" ".join(random.choice(words, 2, replace=False)) for _ in range(3000)))


@pytest.mark.parametrize("most", [8, 64, 1 << 10])
def test_misspelt_names_are_recalled_however_short_the_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_names: list[str], most: int
) -> None:
    monkeypatch.setattr(grams, "MAX_NAMES_PER_GRAM", most)
    build_name_tables((Entity(row, name) for row, name in enumerate(random_names)), len(random_names), tmp_path)
    index = FuzzyIndex.open(tmp_path)
    assert np.diff(index.posting_at).max() <= most
    random = np.random.default_rng(1)
    rows = random.permutation(len(random_names))[:240].tolist()
    noised = [(row, MISSPELLINGS[i % 4](random_names[row], random)) for i, row in enumerate(rows)]
    assert np.mean([row in index.similar(mention) for row, mention in noised]) > 0.95
    assert np.mean([index.similar(mention)[:1] == [row] for row, mention in noised]) > 0.85


def test_the_order_of_entities_changes_nothing_but_their_rows(
    tmp_path_factory: pytest.TempPathFactory, random_names: list[str]
) -> None:
    names = random_names[:400]
    order = np.random.default_rng(3).permutation(len(names)).tolist()
    one, other = (tmp_path_factory.mktemp("order") for _ in range(2))
    build_name_tables((Entity(row, name) for row, name in enumerate(names)), len(names), one)
    build_name_tables((Entity(row, names[at]) for row, at in enumerate(order)), len(names), other)
    index, reordered = FuzzyIndex.open(one), FuzzyIndex.open(other)
    for mention in (name[:3] + name[4:] for name in names[::10]):
        first, second = index.similar(mention), [order[row] for row in reordered.similar(mention)]
        measured = [index.compare(mention, rows)[:, 0] for rows in (first, second)]
        assert np.allclose(*measured)  # entities of equal similarity are in the order of their rows


def test_rarities_that_are_stored_are_those_that_are_computed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, random_names: list[str]
) -> None:
    without, stored = (tmp_path_factory.mktemp("rarities") for _ in range(2))
    for folder, most in ((without, 1 << 20), (stored, 100)):
        monkeypatch.setattr(fuzzy_writer, "WORDS_WITHOUT_RARITIES", most)
        build_name_tables((Entity(row, name) for row, name in enumerate(random_names[:300])), 300, folder)
    assert not (without / file_of("rarities")).is_file()
    assert (stored / file_of("rarities")).is_file()
    words = FuzzyIndex.open(stored).words
    assert np.array_equal(FuzzyIndex.open(stored).rarity(words), FuzzyIndex.open(without).rarity(words))
