"""Wikidata's JSON dump: what is kept of items, the same bytes however the dump is stored and read, and on after a kill."""

from __future__ import annotations

import bz2
import itertools
import json
import random
from pathlib import Path
from typing import Any

import dump_toys as toys
import pytest
from dump_toys import claim, item, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.dumps import bzip2, segments
from blink.dumps.journal import Journal
from blink.dumps.popularity_rank import popularity_by_count
from blink.dumps.properties import Properties
from blink.dumps.run import Summary, run_job
from blink.dumps.segments import Dump
from blink.dumps.wikidata import WikidataOptions, class_numbers, wikidata_job
from blink.dumps.wikidata_items import LABELS, ItemMapper
from blink.errors import DataError, MismatchError, SettingsError

DATE = {"time": "+1867-11-07T00:00:00Z", "precision": 11}
ITEMS: list[Any] = [
    item(5, "human", 0, {"P279": [35120]}),
    item(515, "city", 300, {"P279": [486972]}),
    item(1549591, 'big "city"', 2, {"P279": [515]}),
    item(7259, "physicist", 1),
    item(142, "France", 350, {"P31": [6256], "P36": [90]}, descriptions=texts(en="country in Western Europe", fr="pays")),
    item(90, "Paris", 320, {"P31": [1549591], "P17": [142, 7]}, aliases={"en": [{"language": "en", "value": "City of Light"}]}),
    item(7186, "Marie Curie", 200, {
        "P31": [5], "P106": [7259], "P27": [claim("P27", 36, "deprecated"), claim("P27", 142)],
        "P569": [DATE], "P646": ["/m/053_d"],
        "P40": [{"mainsnak": {"snaktype": "novalue", "property": "P40"}, "type": "statement", "rank": "normal"}],
    }),
    item(60, "Springfield", 20, {"P31": [4167410]}),
    item(61, "List of Parises", 20, {"P31": [13406463]}),
    item(62, "rare", 1, {"P31": [5]}),
    item(63, "", 30, labels=texts(de="Nur deutsch"), descriptions=texts(de="etwas")),
    item(64, "", 30, labels=texts(mul="Many"), descriptions=texts(en="something with a description that is not thin at all")),
    {"type": "property", "id": "P106", "labels": texts(en="occupation of a person")},
    b'{"type":"item","id":"Q65","labels":{"en":{"langu',
    b"\xff\xfe",
    b"[]",
    {"type": "item", "id": "X9", "labels": []},
]  # fmt: skip
FILES = ("entity.jsonl", "triples.tsv", "relations.tsv")


def made(
    tmp_path: Path, values: list[Any] = ITEMS, how: str = "plain", workers: int = 1, **options: Any
) -> tuple[Path, Summary]:
    out = tmp_path / f"out-{how}-{workers}-{len(options)}"
    job = wikidata_job(Dump.open(toys.stored(tmp_path, toys.wikidata(values), how)), out, WikidataOptions(**options))
    return out, run_job(job, workers=workers)


def entities(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "entity.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["kb_idx"]: row for row in rows}


def contents(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


def test_an_entity_has_what_its_item_says(tmp_path: Path) -> None:
    out, summary = made(tmp_path)
    rows = entities(out)
    assert list(rows) == ["Q515", "Q142", "Q90", "Q7186", "Q64"]  # in the order of the dump
    curie = rows["Q7186"]
    assert curie["text"] == "Human. Occupation of a person: physicist. Country of citizenship: France. Born: 1867."
    assert curie["ids"] == {"freebase": "/m/053_d"}
    assert curie["idx"] == "https://en.wikipedia.org/wiki/Marie_Curie"
    assert rows["Q90"]["aliases"] == ["City of Light"]
    assert rows["Q90"]["types"] == ['big "city"']  # whose own item has too few sitelinks
    assert rows["Q142"]["text"].startswith("Country in Western Europe.")
    assert rows["Q64"]["title"] == "Many"
    assert rows["Q64"]["text"] == "something with a description that is not thin at all"
    assert rows["Q142"]["popularity"] > rows["Q90"]["popularity"] > rows["Q7186"]["popularity"] > rows["Q64"]["popularity"]
    assert (out / "triples.tsv").read_text() == "Q142\tP36\tQ90\nQ90\tP17\tQ142\nQ7186\tP27\tQ142\n"
    assert "P106\toccupation of a person\n" in (out / "relations.tsv").read_text()
    assert summary.counts["left out by type"] == 2
    assert summary.counts["no label"] == 1
    assert summary.counts["broken"] == 4
    assert [problem.split(":")[0] for problem in summary.problems] == ["line 15", "line 16", "line 17", "line 18"]


def test_types_include_subclasses(tmp_path: Path) -> None:
    assert list(entities(made(tmp_path, types=(515,))[0])) == ["Q90"]
    assert "Q90" not in entities(made(tmp_path, without_types=(515,), min_sitelinks=4)[0])


def test_language_and_properties(tmp_path: Path) -> None:
    out, _ = made(tmp_path, languages=("fr", "de", "en"), properties=("P17",))
    rows = entities(out)
    assert rows["Q63"]["title"] == "Nur deutsch"
    assert rows["Q142"]["text"].startswith("Pays.")
    assert (out / "triples.tsv").read_text() == "Q90\tP17\tQ142\n"
    assert (out / "relations.tsv").read_text() == "P17\tcountry\n"


@pytest.mark.parametrize("how", toys.STORED)
def test_the_same_bytes_however_it_is_stored_and_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    expected = contents(made(tmp_path)[0])
    for name in ("PLAIN_BYTES", "BZIP2_BYTES", "TEXT_BYTES"):
        monkeypatch.setattr(segments, name, 701)
    out, summary = made(tmp_path, how=how, min_sitelinks=5)
    assert contents(out) == expected
    assert [problem.split(":")[0] for problem in summary.problems] == ["line 15", "line 16", "line 17", "line 18"]


def test_the_same_bytes_for_several_processes(tmp_path: Path) -> None:
    assert contents(made(tmp_path)[0]) == contents(made(tmp_path, workers=2)[0])


@pytest.mark.parametrize("how", ["plain", "multistream", "gz"])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(segments, "PLAIN_BYTES", 900)
    monkeypatch.setattr(segments, "BZIP2_BYTES", 300)
    monkeypatch.setattr(segments, "TEXT_BYTES", 900)
    expected = contents(made(tmp_path, how=how)[0])
    commit, rng, kills = Journal.commit, random.Random(1), 0

    def dying(self: Journal, *arguments: Any) -> None:
        if rng.random() < 0.3:  # in the midst: bytes are written, and not committed
            self.path(LABELS).open("ab").write(b"torn")
            raise KeyboardInterrupt
        commit(self, *arguments)

    monkeypatch.setattr(Journal, "commit", dying)
    while True:
        try:
            out, _ = made(tmp_path, how=how, min_sitelinks=5)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > 3
    assert contents(out) == expected
    assert not (out / ".dump").exists()


def test_a_finished_run_is_done_at_once_and_other_settings_are_refused(tmp_path: Path) -> None:
    out, first = made(tmp_path)
    assert made(tmp_path)[1].counts == first.counts
    (tmp_path / "dump-plain").write_bytes(toys.wikidata(ITEMS[:9]))
    with pytest.raises(MismatchError, match="begun with other settings: sample"):
        run_job(wikidata_job(Dump.open(tmp_path / "dump-plain"), out, WikidataOptions()))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no item of .* is kept .*1 left out by type"):
        made(tmp_path, [item(1, "x", 9, {"P31": [4167410]})])
    with pytest.raises(DataError, match=r"no record that can be read.*line 2"):
        made(tmp_path, [b"<mediawiki>", b"<page>"], how="gz")
    with pytest.raises(DataError, match="no dump of this kind"):
        made(tmp_path, [b"<page>"] * 200, how="bz2")
    with pytest.raises(SettingsError, match="'q5' is no id of a class"):
        class_numbers("Q1, q5")
    with pytest.raises(SettingsError, match="'31' is no property"):
        Properties.of(("31",))


@given(
    label=st.text(min_size=1, max_size=20).filter(str.strip),
    other=st.text(max_size=20),
    languages=st.lists(st.sampled_from(["en", "de", "mul"]), unique=True),
)
@settings(max_examples=60, deadline=None)
def test_labels_of_lines_that_are_not_parsed_are_those_of_parsed_ones(label: str, other: str, languages: list[str]) -> None:
    value = item(7, "", 0, labels=texts(**dict.fromkeys(languages, label)), descriptions=texts(en='},"descriptions":' + other))
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b",\n"
    skipped, parsed = (ItemMapper(("en", "mul"), n, Properties.default())(line) for n in (1, 0))
    assert skipped.contents[LABELS] == parsed.contents[LABELS]
    assert skipped.counts["items"] == parsed.counts["items"] == 1


@given(seed=st.integers(0, 10**6), n_bytes=st.integers(0, 9000), step=st.integers(40, 5000), n_streams=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_ranges_of_a_bzip2_file_make_it_up(tmp_path_factory: Any, seed: int, n_bytes: int, step: int, n_streams: int) -> None:
    rng = random.Random(seed)
    parts = [rng.randbytes(n_bytes) for _ in range(n_streams)]
    path = tmp_path_factory.mktemp("bz2") / "x.bz2"
    path.write_bytes(b"".join(map(bz2.compress, parts)))
    size = path.stat().st_size
    assert b"".join(bzip2.decompress_range(path, i, min(i + step, size)) for i in range(0, size, step)) == b"".join(parts)


def test_blocks_of_one_stream_are_read_alone_and_damage_is_named(tmp_path: Path) -> None:
    text, path = random.Random(0).randbytes(350_000), tmp_path / "x.bz2"
    content = bz2.compress(text, 1)  # four blocks
    path.write_bytes(content)
    bounds = [0, 100_000, 250_000, len(content)]
    read = [bzip2.decompress_range(path, a, b) for a, b in itertools.pairwise(bounds)]
    assert b"".join(read) == text
    assert all(read)
    path.write_bytes(content[:200_000] + b"\0" + content[200_001:])
    with pytest.raises(DataError, match="is damaged behind byte"):
        bzip2.decompress_range(path, 0, len(content))
    path.write_bytes(content[:300_000])
    with pytest.raises(DataError, match="cut off"):
        bzip2.decompress_range(path, 150_000, 300_000)


@given(st.dictionaries(st.integers(0, 400), st.integers(1, 10**6), min_size=1, max_size=30))
def test_popularity_falls_with_rank_and_keeps_to_the_scale(n_of_count: dict[int, int]) -> None:
    values = popularity_by_count(n_of_count, 10**8)
    in_order = [values[count] for count in sorted(values)]
    assert in_order == sorted(in_order)
    assert all(-1.1 <= value <= 6 for value in in_order)
