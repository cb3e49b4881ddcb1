"""From the dump to the packed dataset: pages on disk, vocabulary, windows, arrays; stopped builds resume."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining_toys import TINY_DUMP, roberta_tokenizer, tiny_texts, write_dump

from blink.errors import BlinkError, CheckpointError, DataError, MismatchError, MissingFileError, SettingsError
from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining import dump_db
from examples.pretraining.build_dataset import build_dataset
from examples.pretraining.dataset import PackedDataset, join_shards, save_shard, to_arrays
from examples.pretraining.dump import Dump
from examples.pretraining.dump_db import Article, BuildProgress, DumpDb, build_dump_db, read_shard, resolve
from examples.pretraining.sentences import make_splitter, split_by_rules
from examples.pretraining.settings import DatasetChoice, WindowLimits
from examples.pretraining.vocabulary import (
    MASK,
    PAD,
    UNK,
    EntityVocab,
    TitleIndex,
    VocabChoice,
    build_vocab,
    read_vocab,
    read_white_list,
    select_titles,
    write_title_index,
)  # fmt: skip
from examples.pretraining.wikitext import PageLink, Paragraph, paragraphs
from examples.pretraining.windows import Window, WindowMaker


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> DumpDb:
    return build_dump_db(TINY_DUMP, tmp_path_factory.mktemp("db"), chunk_size=10)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return roberta_tokenizer(tiny_texts())


@pytest.fixture(scope="module")
def tokenizer_folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def vocab_file(db: DumpDb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocab") / "entity_vocab.jsonl"
    build_vocab(db, VocabChoice()).write(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- parsed pages ---------------------------------------------------------------------------------------------------


def test_pages_come_back_as_they_were_parsed(db: DumpDb) -> None:
    articles = [article for shard in db.shards for article in read_shard(shard)]
    assert [p.name for p in db.shards] == [f"pages-{i:06d}.jsonl.gz" for i in range(4)]
    assert len(articles) == db.metadata["articles"] == 34
    assert articles[0].title == "Mercury (planet)"
    assert {link.title for p in articles[0].paragraphs for link in p.links} >= {"Sun", "Planet Mercury", "MESSENGER"}
    dump = Dump(TINY_DUMP)
    parsed = [tuple(paragraphs(page.text, dump.site)) for page in dump.pages() if page.redirect is None]
    assert [a.paragraphs for a in articles] == parsed


def test_a_build_that_was_stopped_goes_on_to_the_same_files(
    db: DumpDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0

    class Stop(Exception):
        pass

    def stop_at_the_third(pages: int) -> None:
        nonlocal parsed
        parsed += 1
        if parsed == 3:
            raise Stop

    with pytest.raises(Stop):
        build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=10, progress=BuildProgress(parsed=stop_at_the_third))
    with pytest.raises(MissingFileError, match="not complete"):
        DumpDb(tmp_path / "db")
    written: list[Path] = []
    write = dump_db._write_shard
    monkeypatch.setattr(dump_db, "_write_shard", lambda job: written.append(job[0]) or write(job) if job[2] else write(job))
    build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=10)
    assert [p.name for p in written] == ["pages-000003.jsonl.gz"]
    assert contents(tmp_path / "db") == contents(db.folder)


def test_a_build_in_processes_gives_the_same_files(db: DumpDb, tmp_path: Path) -> None:
    build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=10, pool_size=2)
    assert contents(tmp_path / "db") == contents(db.folder)


def test_another_dump_does_not_go_on_in_the_folder(db: DumpDb, tmp_path: Path) -> None:
    build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=10)
    other = write_dump(tmp_path / "d.xml", {"A": "b"})
    with pytest.raises(MismatchError, match="another dump"):
        build_dump_db(other, tmp_path / "db", chunk_size=10)
    with pytest.raises(MismatchError, match="chunk_size"):
        build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=11)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match="other files"):
        build_dump_db(TINY_DUMP, tmp_path / "full")


def test_damaged_folders_of_pages(db: DumpDb, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"is a file, not a folder of parsed pages; make it with: .*build-dump-db"):
        DumpDb(TINY_DUMP)
    damaged = build_dump_db(TINY_DUMP, tmp_path / "db", chunk_size=10)
    damaged.shards[1].write_bytes(damaged.shards[1].read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged"):
        list(read_shard(damaged.shards[1]))
    damaged.shards[1].unlink()
    with pytest.raises(CheckpointError, match="lacks pages-000001"):
        DumpDb(tmp_path / "db")


@pytest.mark.parametrize("content", [b"one column\n", b"a\tb\tc\n", b"\xff\tb\n", bytes(100)])
def test_damaged_redirects_are_named(db: DumpDb, content: bytes, tmp_path: Path) -> None:
    shutil.copytree(db.folder, tmp_path / "db")
    (tmp_path / "db" / "redirects.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"redirects\.tsv, line 1: damaged"):
        DumpDb(tmp_path / "db").redirects()


def test_redirects_are_followed_and_circles_end() -> None:
    redirects = {"a": "b", "b": "c", "x": "y", "y": "x"}
    assert resolve("a", redirects) == "c"
    assert resolve("c", redirects) == "c"
    assert resolve("x", redirects) in ("x", "y")


# --- vocabulary -----------------------------------------------------------------------------------------------------


def test_the_vocabulary_counts_links_behind_redirects(db: DumpDb) -> None:
    vocab = build_vocab(db, VocabChoice())
    counts = {row.names[0]: row.count for row in vocab.rows}
    assert vocab.titles[:3] == [PAD, UNK, MASK]
    assert list(counts.values())[3:] == sorted(list(counts.values())[3:], reverse=True)
    links = Counter(
        resolve(link.title, db.redirects())
        for shard in db.shards
        for a in read_shard(shard)
        for p in a.paragraphs
        for link in p.links
    )
    assert {t: n for t, n in counts.items() if n} == dict(links)
    assert not set(db.redirects()) & set(counts)
    assert counts["United States"] == 9  # three of them as USA or U.S.A.


def test_pages_that_are_not_there_get_no_row(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "d.xml", {"A": "[[Gone]] [[B]] [[Category:B]] [[:Category:C]]", "B": "x [[R]]"}, {"R": "Gone"})
    vocab = build_vocab(build_dump_db(dump, tmp_path / "db"), VocabChoice())
    assert vocab.titles[3:] == ["B"]


@given(
    st.dictionaries(st.text("abcde", min_size=1, max_size=2), st.integers(1, 5), min_size=1),
    st.integers(4, 12), st.integers(0, 4), st.frozensets(st.text("abcde", min_size=1, max_size=2)), st.booleans(),
)  # fmt: skip
def test_which_titles_are_chosen(
    counts: dict[str, int], size: int, least: int, listed: frozenset[str], listed_only: bool
) -> None:
    choice = VocabChoice(size, least, listed, listed_only)
    allowed = {t for t, n in counts.items() if t in listed or (n >= least and not listed_only)}
    if not allowed:
        with pytest.raises(SettingsError, match="no title is left"):
            select_titles(Counter(counts), choice)
        return
    titles = select_titles(Counter(counts), choice).titles[3:]
    assert len(titles) == min(len(allowed), size - 3)
    assert set(titles) <= allowed
    ranks = [(t not in listed, -counts[t], t) for t in titles]
    assert ranks == sorted(ranks)
    assert all((t not in listed, -counts[t], t) > ranks[-1] for t in allowed - set(titles))


@pytest.mark.parametrize("language", [None, "de"])
@pytest.mark.parametrize("name", ["v.jsonl", "v.tsv"])
def test_vocabularies_are_read_as_written(name: str, language: str | None, tmp_path: Path) -> None:
    vocab = select_titles(Counter({"Bern": 3, 'Ü "x"': 2, "a: b": 1}), VocabChoice(language=language))
    vocab.write(tmp_path / name, language)
    assert read_vocab(tmp_path / name) == vocab
    assert read_vocab(tmp_path / name).ids(language) == {"Bern": 3, 'Ü "x"': 4, "a: b": 5}


def test_special_rows_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"[MASK]": 0, "[UNK]": 1, "[PAD]": 2, "[MASK2]": 3, "Bern": 4}')
    vocab = read_vocab(tmp_path / "v.json")
    assert [vocab.row(name) for name in (PAD, UNK, MASK)] == [2, 1, 0]
    assert vocab.ids() == {"Bern": 4}
    with pytest.raises(DataError, match=r"no \[X\]"):
        vocab.row("[X]")


@pytest.mark.parametrize(("content", "message"), [("", "empty"), ("Bern\n", "line 1"), ("Bern\tx\n", "line 1")])
def test_malformed_vocabularies(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "v.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_vocab(tmp_path / "v.tsv")


@pytest.mark.parametrize("content", ['{"a": "b"}', '{"a": 0, "b": 2}', "[]"])
def test_malformed_maps(content: str, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(DataError):
        read_vocab(tmp_path / "v.json")


def test_white_lists_are_titles_by_line(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("Bern\n\n New_York \n")
    assert read_white_list([tmp_path / "w"]) == {"Bern", "New York"}


def test_titles_are_looked_up_on_disk_with_old_and_new_names(tmp_path: Path) -> None:
    write_title_index(
        tmp_path, {"Bern": 3, "Kyiv (old)": 4}, {"Berne": "Bern", "Bärn": "Berne", "Kyiv (old)": "Kyiv", "x": "y"}
    )
    index = TitleIndex(tmp_path)
    rows = {t: index.get(t) for t in ("Bern", "Berne", "Bärn", "Kyiv (old)", "Kyiv", "x", "y", "")}
    assert rows == {"Bern": 3, "Berne": 3, "Bärn": 3, "Kyiv (old)": 4, "Kyiv": 4, "x": None, "y": None, "": None}


# --- sentences and windows ------------------------------------------------------------------------------------------


def test_sentences_end_where_they_end() -> None:
    text = 'J. K. Rowling met Dr. Who in St. Ives (in 1963.) He said "no." Then they left! 5 days, e.g. 6. what? そう。はい'
    assert [text[a:b].strip() for a, b in split_by_rules(text)] == [
        "J. K. Rowling met Dr. Who in St. Ives (in 1963.)", 'He said "no."', "Then they left!", "5 days, e.g. 6. what?",
        "そう。", "はい",
    ]  # fmt: skip


@given(st.text("aB. !?\"'1\n。", max_size=30))
def test_sentences_cover_the_text(text: str) -> None:
    spans = split_by_rules(text)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)


def test_icu_splits_too() -> None:
    pytest.importorskip("icu")
    text = "One 𝄞 ends. Another begins! 𝄞"
    assert [text[a:b] for a, b in make_splitter("en")(text)] == ["One 𝄞 ends. ", "Another begins! ", "𝄞"]
    with pytest.raises(SettingsError, match="knows no locale"):
        make_splitter("xx")


def maker(tokenizer: Any, **limits: Any) -> WindowMaker:
    rows = {"Java": 3, "Sun": 4}
    return WindowMaker(
        PlainTokenizer(tokenizer), split_by_rules, rows.get, 1, WindowLimits(**{"min_sentence_length": 1, **limits})
    )


def article(*texts: str) -> Article:
    """Paragraphs in which ``[...]`` is a link to the title in it."""
    parsed = []
    for text in texts:
        plain, links = "", []
        for n, fragment in enumerate(text.replace("]", "[").split("[")):
            if n % 2:
                links.append(PageLink(fragment, len(plain), len(plain) + len(fragment)))
            plain += fragment
        parsed.append(Paragraph(plain, tuple(links)))
    return Article(1, "x", tuple(parsed))


def decoded(tokenizer: Any, window: Window) -> tuple[str, list[tuple[str, int]]]:
    tokens = tokenizer.convert_ids_to_tokens(window.words)
    text = "".join(tokens).replace("Ġ", " ")
    return text, [("".join(tokens[a:b]).replace("Ġ", "_"), e) for e, (a, b) in zip(window.entities, window.spans, strict=True)]


def test_links_become_spans_of_pieces(tokenizer: Any) -> None:
    (window,) = maker(tokenizer).windows(article("On [Java],  the [Nile] and (the [Sun]) . [Java]", "[Sun]. "))
    assert decoded(tokenizer, window) == (
        " On Java, the Nile and (the Sun) . Java Sun.",
        [("_Java", 3), ("_Sun", 4), ("_Java", 3), ("_Sun", 4)],
    )


def test_pieces_between_links_are_tokenised_alone(tokenizer: Any) -> None:
    (window,) = maker(tokenizer).windows(article("xx[Java]xx"))
    luke_tokenizer = PlainTokenizer(tokenizer)
    assert window.words == luke_tokenizer.encode("xx") + luke_tokenizer.encode("Java", space=False) + luke_tokenizer.encode(
        "xx", space=False
    )


def test_unknown_titles_are_unknown_entities_where_asked_for(tokenizer: Any) -> None:
    (window,) = maker(tokenizer, include_unk_entities=True).windows(article("the [Nile] and [Java]"))
    assert window.entities == [1, 3]


def test_windows_without_links_stay_where_asked_for(tokenizer: Any) -> None:
    assert list(maker(tokenizer).windows(article("the [Nile]"))) == []
    (window,) = maker(tokenizer, include_sentences_without_entities=True).windows(article("the [Nile]"))
    assert window.entities == []


def test_literal_mask_in_a_text_is_no_special_word(tokenizer: Any) -> None:
    (window,) = maker(tokenizer).windows(article("[Java] [MASK] <mask> </s> [Sun]"))
    assert not set(window.words) & set(tokenizer.all_special_ids)


def test_a_link_over_two_sentences_is_dropped(tokenizer: Any) -> None:
    one = Paragraph("All on Java. Sun too.", (PageLink("Java", 7, 16), PageLink("Sun", 13, 16)))
    (window,) = maker(tokenizer).windows(Article(1, "x", (one,)))
    assert window.entities == [4]


def test_limits_of_mentions_and_entities(tokenizer: Any) -> None:
    long = Paragraph("Java " * 20, (PageLink("Java", 0, 99), PageLink("Sun", 0, 4)))
    (window,) = maker(tokenizer, max_mention_length=3).windows(Article(1, "x", (long,)))
    assert window.spans == [(0, 3)]
    (window,) = maker(tokenizer, max_entity_length=2).windows(article("[Java] [Sun] [Java]"))
    assert (len(window.entities), len(window.spans)) == (2, 2)


@pytest.mark.parametrize(("length", "windows"), [(12, [10]), (11, [5, 5]), (7, [5, 5]), (6, [])])
def test_sentences_are_packed_to_the_limit_and_longer_ones_dropped(tokenizer: Any, length: int, windows: list[int]) -> None:
    sentence = "[Java] [Sun] [Java] [Sun]."
    one = len(PlainTokenizer(tokenizer).encode("Java Sun Java Sun."))
    assert one == 5
    packed = list(maker(tokenizer, max_seq_length=length).windows(article(sentence, sentence)))
    assert [len(w.words) for w in packed] == windows


def test_short_sentences_and_text_behind_headings_are_dropped(tokenizer: Any) -> None:
    assert list(maker(tokenizer, min_sentence_length=6).windows(article("[Java] [Sun] [Java] [Sun]."))) == []
    behind = Paragraph("Java", (PageLink("Java", 0, 4),), abstract=False)
    assert list(maker(tokenizer, abstract_only=True).windows(Article(1, "x", (behind,)))) == []
    assert len(list(maker(tokenizer).windows(Article(1, "x", (behind,))))) == 1


# --- arrays ---------------------------------------------------------------------------------------------------------

windows_made = st.lists(
    st.tuples(
        st.integers(-1, 9),
        st.lists(st.tuples(st.integers(0, 99), st.tuples(st.integers(0, 5), st.integers(6, 9))), max_size=3),
        st.lists(st.integers(0, 70_000), min_size=1, max_size=6),
    ).map(lambda v: (v[0], Window(v[2], [e for e, _ in v[1]], [s for _, s in v[1]]))),
    max_size=5,
)


@settings(max_examples=15)
@given(st.lists(windows_made, min_size=1, max_size=4))
def test_parts_join_to_the_arrays_of_the_whole(tmp_path_factory: pytest.TempPathFactory, shards: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("joined")
    paths = [folder / f"{i}.npz" for i in range(len(shards))]
    for path, windows in zip(paths, shards, strict=True):
        save_shard(path, to_arrays(windows))
    counts = join_shards(paths, folder)
    arrays = to_arrays([window for windows in shards for window in windows])
    for name, values in arrays.items():
        joined = np.load(folder / f"{name}.npy")
        assert joined.dtype == values.dtype
        np.testing.assert_array_equal(joined, values)
    assert counts["number_of_items"] == sum(map(len, shards))


def test_the_tiny_dataset(db: DumpDb, tokenizer: Any, tokenizer_folder: str, vocab_file: Path, tmp_path: Path) -> None:
    data = build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "data", DatasetChoice())
    vocab = data.vocab()
    assert vocab == read_vocab(vocab_file)
    assert len(data) == data.metadata["number_of_items"] == 34
    assert {"number_of_words", "number_of_links", "max_seq_length", "tokenizer_class", "language"} <= set(data.metadata)
    item = data[0]
    assert vocab.titles[item.page] == "Mercury (planet)"
    assert tokenizer.decode(item.words).startswith(" Mercury is the smallest planet")
    mentions = [
        (tokenizer.decode(item.words[a:b]).strip(), vocab.titles[e])
        for e, (a, b) in zip(item.entities, item.spans, strict=True)
    ]
    assert mentions[:2] == [("Solar System", "Solar System"), ("Sun", "Sun")]
    assert ("Mercury", "Mercury (planet)") in mentions  # through a redirect
    assert isinstance(data[0].words, np.memmap)
    assert not (tmp_path / "data" / ".build").exists()


def test_a_dataset_build_that_was_stopped_goes_on_to_the_same_files(
    db: DumpDb, tokenizer_folder: str, vocab_file: Path, tmp_path: Path
) -> None:
    choice = DatasetChoice(limits=WindowLimits(max_seq_length=64))
    uninterrupted = build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "a", choice)

    def stop(windows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "b", choice, progress=stop)
    with pytest.raises(MissingFileError, match="not complete"):
        PackedDataset(tmp_path / "b")
    completed: list[int] = []
    build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "b", choice, progress=completed.append)
    assert len(completed) == 3
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert uninterrupted.lengths().max() <= 62
    with pytest.raises(MismatchError, match="limits"):
        build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "b", DatasetChoice())


@pytest.mark.parametrize(("most", "titles"), [(1, 1), (10, 10), (13, 13), (99, 34)])
def test_the_first_documents_alone(
    most: int, titles: int, db: DumpDb, tokenizer_folder: str, vocab_file: Path, tmp_path: Path
) -> None:
    data = build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "d", DatasetChoice(max_num_documents=most))
    assert len(data) == titles


def test_documents_of_the_vocabulary_alone(db: DumpDb, tokenizer_folder: str, tmp_path: Path) -> None:
    build_vocab(db, VocabChoice(white_list=frozenset({"Java", "Sun"}), white_list_only=True)).write(tmp_path / "v.jsonl")
    choice = DatasetChoice(predefined_entities_only=True)
    data = build_dataset(db, tokenizer_folder, tmp_path / "v.jsonl", tmp_path / "d", choice)
    assert sorted(data.vocab().titles[item.page] for item in data) == ["Java", "Sun"]


@pytest.mark.slow
def test_a_dataset_in_processes_is_the_same(db: DumpDb, tokenizer_folder: str, vocab_file: Path, tmp_path: Path) -> None:
    for size, name in ((1, "a"), (2, "b")):
        build_dataset(db, tokenizer_folder, vocab_file, tmp_path / name, DatasetChoice(), pool_size=size)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_gives_no_dataset(db: DumpDb, tokenizer_folder: str, vocab_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no tokenizer"):
        build_dataset(db, str(tmp_path / "none"), vocab_file, tmp_path / "a", DatasetChoice())
    choice = DatasetChoice(limits=WindowLimits(min_sentence_length=500))
    with pytest.raises(DataError, match="no window is left"):
        build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "b", choice)


def test_a_damaged_dataset_is_refused(db: DumpDb, tokenizer_folder: str, vocab_file: Path, tmp_path: Path) -> None:
    build_dataset(db, tokenizer_folder, vocab_file, tmp_path / "d", DatasetChoice())
    np.save(tmp_path / "d" / "page_ids.npy", np.zeros(3, np.int32))
    with pytest.raises(CheckpointError, match="do not belong together"):
        PackedDataset(tmp_path / "d")
    (tmp_path / "d" / "page_ids.npy").write_bytes(b"x")
    with pytest.raises(BlinkError, match="damaged"):
        PackedDataset(tmp_path / "d")
    assert isinstance(read_vocab(tmp_path / "d" / "entity_vocab.jsonl"), EntityVocab)
