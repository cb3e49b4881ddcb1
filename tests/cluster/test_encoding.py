"""Shards of vectors: named as the original names them, joined and checked, the same as if they were encoded at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import letter_counts, rows, write_catalogue

from blink.cluster import encoding as encoding_module
from blink.cluster.encoding import Encoding, merge_t7, write_t7
from blink.cluster.jobs import split_into_shards
from blink.data.records import Entity
from blink.errors import MismatchError, SettingsError
from blink.kb.building import build_knowledge_base
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import load_vectors

pytestmark = pytest.mark.quick

ROWS, SHARD = 23, 8
ENCODE = letter_counts()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue.open(write_catalogue(tmp_path / "entity.jsonl", rows(ROWS)))


def encoding(catalogue: Catalogue, out: Path, layout: str = "kb", **changes: object) -> Encoding:
    job = Encoding(str(catalogue.path), str(out), layout, SHARD, ROWS, catalogue.sha256, "fingerprint")
    return replace(job, **changes)  # type: ignore[arg-type]


def encode_all(job: Encoding, catalogue: Catalogue, work: Path) -> list[Path]:
    job.prepare()
    return [
        job.encode(catalogue, ENCODE, s, e, work / str(s), lambda n: None) for s, e in split_into_shards(ROWS, job.shard_rows)
    ]


def test_a_knowledge_base_as_if_built_at_once(catalogue: Catalogue, tmp_path: Path) -> None:
    job = encoding(catalogue, tmp_path / "kb")
    encode_all(job, catalogue, tmp_path / "work")
    known_by = job.merge(split_into_shards(ROWS, SHARD))
    build_knowledge_base(catalogue.path, tmp_path / "once", ENCODE, "fingerprint")
    assert known_by == tmp_path / "kb" / "manifest.json"
    for file in sorted(p.name for p in (tmp_path / "once").iterdir() if p.name != "entity.jsonl.offsets"):
        assert (tmp_path / "kb" / file).read_bytes() == (tmp_path / "once" / file).read_bytes(), file
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == ROWS


@pytest.mark.parametrize("options", [{"index": "hnsw"}, {"dtype": "fp16"}])
def test_options_reach_the_knowledge_base(catalogue: Catalogue, tmp_path: Path, options: dict[str, str]) -> None:
    job = encoding(catalogue, tmp_path / "kb", **options)
    encode_all(job, catalogue, tmp_path / "work")
    job.merge(split_into_shards(ROWS, SHARD))
    manifest = KnowledgeBase.open(tmp_path / "kb").manifest
    assert manifest is not None
    assert all(getattr(manifest, name) == value for name, value in options.items())


def test_files_of_the_original(catalogue: Catalogue, tmp_path: Path) -> None:
    job = encoding(catalogue, tmp_path / "enc", "t7")
    files = encode_all(job, catalogue, tmp_path / "work")
    assert [f.name for f in files] == ["0_8.t7", "8_16.t7", "16_24.t7"]  # the last as it was asked for
    merged = torch.load(job.merge(split_into_shards(ROWS, SHARD)), weights_only=True)
    assert (merged.dtype, tuple(merged.shape)) == (torch.float32, (ROWS, 6))
    assert np.array_equal(merged.numpy(), ENCODE(list(catalogue)))
    assert torch.equal(torch.load(files[2], weights_only=True), merged[16:])
    assert sorted(p.name for p in (tmp_path / "enc").iterdir()) == ["0_8.t7", "16_24.t7", "8_16.t7", "all.t7"]


def test_a_part_that_ends_where_the_catalogue_does(catalogue: Catalogue, tmp_path: Path) -> None:
    assert encoding(catalogue, tmp_path, "t7", shard_rows=ROWS - 20).file(20, ROWS).name == f"20_{ROWS}.t7"


def test_a_kill_loses_one_chunk(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "CHUNK_ROWS", 3)
    job = encoding(catalogue, tmp_path / "kb")
    job.prepare()
    shards: list[int] = []

    def dying(entities: list[Entity]) -> np.ndarray:
        shards.extend(e.row for e in entities)
        if len(shards) > 12 - 8:
            raise KeyboardInterrupt
        return ENCODE(entities)

    with pytest.raises(KeyboardInterrupt):
        job.encode(catalogue, dying, 8, 16, tmp_path / "work", lambda n: None)  # type: ignore[arg-type]
    again: list[int] = []

    def noting(entities: list[Entity]) -> np.ndarray:
        again.extend(e.row for e in entities)
        return ENCODE(entities)

    file = job.encode(catalogue, noting, 8, 16, tmp_path / "work", lambda n: None)  # type: ignore[arg-type]
    assert again == [11, 12, 13, 14, 15]
    assert np.array_equal(load_vectors(file), ENCODE(list(catalogue.iter(8, 16))))
    assert not (tmp_path / "work").exists()


def test_a_catalogue_that_changed_is_no_knowledge_base(catalogue: Catalogue, tmp_path: Path) -> None:
    job = encoding(catalogue, tmp_path / "kb")
    encode_all(job, catalogue, tmp_path / "work")
    write_catalogue(catalogue.path, rows(ROWS, seed=1))
    with pytest.raises(MismatchError, match="has changed since its shards were encoded"):
        job.merge(split_into_shards(ROWS, SHARD))


def test_what_the_layout_does_not_hold(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave --dtype and --index out"):
        encoding(catalogue, tmp_path, "t7", dtype="fp16")


class TestMerge:
    @pytest.fixture
    def shards(self, tmp_path: Path) -> list[tuple[Path, int]]:
        shard_files = [(tmp_path / f"{i}.t7", rows) for i, rows in enumerate((4, 4, 2))]
        for file, count in shard_files:
            write_t7(file, np.full((count, 3), count, dtype=np.float32))
        return shard_files

    def test_rows_in_order(self, shards: list[tuple[Path, int]], tmp_path: Path) -> None:
        merge_t7(shards, tmp_path / "all.t7")
        merged = torch.load(tmp_path / "all.t7", weights_only=True)
        assert merged[:, 0].tolist() == [4] * 8 + [2] * 2
        assert sorted(p.name for p in tmp_path.iterdir()) == ["0.t7", "1.t7", "2.t7", "all.t7"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (lambda f: f.unlink(), r"1\.t7 cannot be merged: .*does not exist"),
            (lambda f: f.write_bytes(b""), r"1\.t7 cannot be merged"),
            (lambda f: f.write_bytes(f.read_bytes()[:-40]), r"1\.t7 cannot be merged"),
            (lambda f: write_t7(f, np.zeros((3, 3), dtype=np.float32)), r"1\.t7 has 3 rows, expected 4"),
            (lambda f: write_t7(f, np.zeros((4, 2), dtype=np.float32)), r"1\.t7 holds 2-dimensional vectors, .*0\.t7 of 3"),
            (lambda f: write_t7(f, np.zeros((4, 3), dtype=np.float64)), r"1\.t7 holds no matrix of float32"),
            (lambda f: torch.save({"a": torch.zeros(1)}, f), r"1\.t7 holds no matrix of float32"),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, shards: list[tuple[Path, int]], tmp_path: Path, content: object, message: str
    ) -> None:
        content(shards[1][0])  # type: ignore[operator]
        with pytest.raises(MismatchError, match=message) as error:
            merge_t7(shards, tmp_path / "all.t7")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "all.t7").exists()
        assert not list(tmp_path.glob(".*"))
