"""`blink kb verify`, and knowledge bases opened with ``verify``: every changed byte is noticed, at any place of a file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.data.arrays import save_array
from blink.errors import BlinkError, DataError, MismatchError
from blink.files import read_json, sample_hash, sha256, write_json
from blink.kb import alias_table, attribute_table, popularity, title_table, verifying
from blink.kb import knowledge_base as opening
from blink.kb.building import build_knowledge_base
from blink.kb.fuzzy_index import file_of
from blink.kb.health import check_knowledge_base, record_hashes, verify_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import CATALOGUE_FILE, MANIFEST_FILE, VECTORS_FILE, read_manifest
from tests import toys
from tests.artefact_work import encode, files_in

Blink = Callable[..., tuple[int, str, str]]
MODEL = "fingerprint"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    source = toys.write_catalogue(folder / "source.jsonl", [row | {"types": ["town"]} for row in toys.rows(40)])
    build_knowledge_base(source, folder / "kb", encode, MODEL)
    kb = KnowledgeBase.open(folder / "kb")
    kb.encode = encode
    kb.update("Q101", text="changed")
    kb.compact()
    kb.update("Q103", text="changed too")
    return folder / "kb"


@pytest.fixture
def kb(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "kb"))


def hash_of_size(path: str | Path) -> str:
    """What the samples of a large file amount to where none of them meets the damage."""
    return str(Path(path).stat().st_size)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, kb: Path) -> Path:
    """A knowledge base whose samples notice nothing but other sizes."""
    monkeypatch.setattr(verifying, "WHOLE_BYTES", 0)
    for module in (verifying, opening):
        monkeypatch.setattr(module, "sample_hash", hash_of_size)
    files = kb / read_manifest(kb).folder
    toys.change_manifest(kb, samples={name: hash_of_size(files / name) for name in read_manifest(kb).samples})
    return kb


def flip(path: Path, at: int, bit: int) -> None:
    """Flip a bit; size and times stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def faults(folder: Path) -> str:
    return "\n".join(f"{problem.check}: {problem.message}" for problem in verify_knowledge_base(folder).problems)


@given(st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_flipped_bit_is_noticed(blind: Path, data: st.DataObject) -> None:
    folder = blind.with_name("flipped")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(blind, folder)
    of_manifest = [path for path in files_in(folder / read_manifest(folder).folder) if path.suffix != ".offsets"]
    names = [folder / MANIFEST_FILE, *of_manifest]
    path = data.draw(st.sampled_from(names), label="file")
    before = path.read_bytes()
    flip(path, data.draw(st.integers(0, 1 << 20), label="byte"), data.draw(st.integers(0, 7), label="bit"))
    if path.name == MANIFEST_FILE and _same_json(before, path.read_bytes()):
        return
    if path.name == "edits.jsonl" and not path.read_bytes().endswith(b"\n"):
        assert any("was never acknowledged" in note for note in verify_knowledge_base(folder).notes)  # as a kill leaves it
        return
    assert faults(folder)
    with pytest.raises(BlinkError):
        KnowledgeBase.open(folder, verify=True)


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_what_samples_miss_is_noticed_where_all_is_read(blind: Path) -> None:
    for name in (CATALOGUE_FILE, VECTORS_FILE):
        path = blind / read_manifest(blind).folder / name
        at = path.read_bytes().index(b"Lake") if name == CATALOGUE_FILE else path.stat().st_size - 1
        flip(path, at, 0)
        KnowledgeBase.open(blind)
        assert f"files: {name} is not the file of the manifest" in faults(blind)
        with pytest.raises(MismatchError, match=rf"{name} is not the file of the manifest: .*; copy it again, or build"):
            KnowledgeBase.open(blind, verify=True)
        flip(path, at, 0)
    assert faults(blind) == ""


def test_a_damaged_table_of_offsets_is_made_again(kb: Path) -> None:
    before = KnowledgeBase.open(kb).digest()
    (path,) = [path for path in files_in(kb) if path.suffix == ".offsets"]
    flip(path, path.stat().st_size - 9, 3)
    assert KnowledgeBase.open(kb, verify=True).digest() == before


def test_all_that_check_says_of_files_verify_says(kb: Path) -> None:
    flip(kb / read_manifest(kb).folder / VECTORS_FILE, 4000, 1)
    files = [p for p in check_knowledge_base(kb, sample=5).problems if p.check == "files"]
    assert files == [p for p in verify_knowledge_base(kb).problems if p.check == "files"] != []


def test_a_changed_manifest_is_refused_and_can_be_accepted(kb: Path, blink: Blink) -> None:
    write_json(kb / MANIFEST_FILE, read_json(kb / MANIFEST_FILE) | {"built_from": "another"})
    with pytest.raises(DataError, match=r"manifest.json was changed after it was written, or is damaged; restore it"):
        KnowledgeBase.open(kb)
    with pytest.raises(SystemExit, match="1"):
        blink("kb", "verify", kb)
    status, out, _ = blink("kb", "verify", kb, "--record")
    assert status == 0
    assert "hashes of all bytes" in out
    assert KnowledgeBase.open(kb, verify=True).require_folder() == kb


def as_earlier_version(folder: Path) -> None:
    """Give a manifest what versions without whole hashes wrote."""
    values = read_json(folder / MANIFEST_FILE)
    values["samples"].pop(CATALOGUE_FILE)
    write_json(folder / MANIFEST_FILE, values | {"sha256": {}})


def test_hashes_are_added_to_an_earlier_version_that_is_whole(kb: Path, blink: Blink) -> None:
    as_earlier_version(kb)
    before = {path: path.read_bytes() for path in files_in(kb)}
    KnowledgeBase.open(kb)
    with pytest.raises(MismatchError, match=r"of an earlier version, holds no hash .* blink kb verify .* --record"):
        KnowledgeBase.open(kb, verify=True)
    status, out, _ = blink("kb", "verify", kb)
    assert (status, "add them: blink kb verify" in out) == (0, True)
    assert blink("kb", "verify", kb, "--record", "--json")[0] == 0
    assert "add them" not in blink("kb", "verify", kb)[1]
    KnowledgeBase.open(kb, verify=True)
    assert {path for path, content in before.items() if path.read_bytes() != content} == {kb / MANIFEST_FILE}


def test_no_hashes_are_added_to_what_is_damaged(kb: Path) -> None:
    as_earlier_version(kb)
    path = kb / read_manifest(kb).folder / VECTORS_FILE
    flip(path, path.stat().st_size - 1, 6)
    before = (kb / MANIFEST_FILE).read_bytes()
    assert record_hashes(kb).problems
    assert (kb / MANIFEST_FILE).read_bytes() == before


RANGES = {
    alias_table.VALUES_FILE: (4 * 40, "holds 160, where there are 160"),
    attribute_table.FILES[2]: (-1, "holds a number below 0"),
    title_table.FILES[0]: (10_000, "is not in order"),
    file_of("postings"): (1 << 30, "holds 1,073,741,824, where there are"),
    popularity.POPULARITY_FILE: (np.nan, "holds NaN or infinity"),
}


@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_range_are_named_whatever_the_hashes(kb: Path, name: str) -> None:
    (value, fault), path = RANGES[name], kb / read_manifest(kb).folder / name
    values = np.array(np.load(path))
    values[0] = value
    save_array(path, values)
    manifest = read_manifest(kb)
    samples, hashes = manifest.samples | {name: sample_hash(path)}, manifest.sha256 | {name: sha256(path)}
    toys.change_manifest(kb, samples=samples, sha256=hashes)
    assert f"tables: {name} {fault}" in faults(kb)
