"""Checksums of a folder's files: what is damaged is named, in one line; what is whole is not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from blink import checksums
from blink.checksums import CHECKSUMS_FILE, Checksums, faults, read_checksums, require_whole
from blink.errors import BlinkError, CheckpointError, DataError, MissingFileError

FILES = ("config.json", "model.safetensors", "vectors.npy", "tokenizer.json", "empty.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    tensors = {name: random.normal(size=(32, 16)).astype(np.float32) for name in ("one", "other")}
    save_file({**tensors, "scale": np.full((), 2, np.float32)}, tmp_path / "model.safetensors")
    np.save(tmp_path / "vectors.npy", random.normal(size=(20, 8)).astype(np.float16))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text(json.dumps({"name": name, "values": list(range(200))}))
    (tmp_path / "empty.txt").touch()
    Checksums.of(tmp_path, FILES).write(tmp_path)
    return tmp_path


def faults_of(folder: Path, *, whole: bool = False) -> list[str]:
    stored = read_checksums(folder, "copy it again")
    assert stored is not None
    return list(faults(folder, stored.files, whole=whole))


def test_files_as_stored_have_no_fault(folder: Path) -> None:
    assert faults_of(folder) == faults_of(folder, whole=True) == []
    (folder / "notes.md").write_text("of no interest")
    assert faults_of(folder) == []


def test_tensors_are_listed_with_type_and_shape(folder: Path) -> None:
    stored = read_checksums(folder, "")
    assert stored is not None
    assert stored.files["model.safetensors"].tensors == {"one": "F32[32, 16]", "other": "F32[32, 16]", "scale": "F32[]"}
    assert stored.files["vectors.npy"].tensors == {"": "<f2[20, 8]"}


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize("seed", range(8))
def test_any_damage_of_any_file_is_one_line_that_names_it(folder: Path, name: str, seed: int) -> None:
    random, path = np.random.default_rng(seed), folder / name
    content = bytearray(path.read_bytes())
    at = int(random.integers(len(content)))
    damages = (
        lambda: path.write_bytes(content[:at]),
        lambda: path.write_bytes(bytes([*content[:at], content[at] ^ 1 << int(random.integers(8)), *content[at + 1 :]])),
        lambda: path.write_bytes(content + b"\0"),
        path.unlink,
        lambda: (path.unlink(), path.symlink_to(folder / "gone")),
        lambda: (path.unlink(), path.mkdir()),
    )
    damages[seed % len(damages)]()
    for whole in (False, True):
        messages = faults_of(folder, whole=whole)
        assert len(messages) == 1
        assert str(path) in messages[0]
        assert "\n" not in messages[0]


def test_swapped_tensors_of_one_shape_are_noticed_by_samples_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    random = np.random.default_rng(1)
    tensors = {name: random.normal(size=(1024, 1024)).astype(np.float32) for name in ("a", "b", "c", "d")}
    save_file(tensors, folder / "model.safetensors")
    Checksums.of(folder, FILES).write(folder)
    assert faults_of(folder) == []
    save_file({**tensors, "b": tensors["c"], "c": tensors["b"]}, folder / "model.safetensors")
    assert faults_of(folder) == [f"{folder / 'model.safetensors'} is damaged, or was changed after it was stored"]


def test_a_tensor_of_another_type_or_shape_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    changed = {"one": np.zeros((16, 32), np.float32), "other": np.zeros((32, 16), np.float32)}
    save_file({**changed, "scale": np.full((), 2, np.float32)}, path)
    assert faults_of(folder)[0].endswith("its tensor 'one' is F32[16, 32], and was stored as F32[32, 16]")
    save_file({"one": np.zeros((32, 16), np.int32), "other": changed["other"], "scale": np.zeros((), np.float32)}, path)
    assert faults_of(folder)[0].endswith("its tensor 'one' is I32[32, 16], and was stored as F32[32, 16]")


def test_large_files_are_compared_whole_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 4096)
    path = folder / "large.bin"
    content = bytearray(np.random.default_rng(0).bytes(4 << 20))
    path.write_bytes(content)
    Checksums.of(folder, ["large.bin"]).write(folder)
    content[100_000] ^= 1  # between two samples
    path.write_bytes(content)
    assert faults_of(folder) == []
    assert len(faults_of(folder, whole=True)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_damaged_checksums_are_an_error_themselves(folder: Path, seed: int) -> None:
    random, path = np.random.default_rng(seed), folder / CHECKSUMS_FILE
    content, before = bytearray(path.read_bytes()), json.loads(path.read_bytes())
    at = int(random.integers(len(content)))
    content[at] = (content[at] + 1 + int(random.integers(255))) % 256
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        if json.loads(content) == before:
            return  # white space
    with pytest.raises(BlinkError, match=f"^[^\n]*{CHECKSUMS_FILE}[^\n]*$"):
        faults_of(folder)


ODD = ("", "[]", "{}", "null", '{"format": 1, "files": [], "base": {}}', '{"files": {"a": 1}, "format": 1}')


@pytest.mark.parametrize("content", ODD)
def test_odd_checksums_are_an_error(folder: Path, content: str) -> None:
    (folder / CHECKSUMS_FILE).write_text(content)
    with pytest.raises(DataError, match="copy it again"):
        read_checksums(folder, "copy it again")


def test_a_folder_without_checksums_has_none_unless_they_are_a_dangling_link(tmp_path: Path) -> None:
    assert read_checksums(tmp_path, "copy it again") is None
    (tmp_path / CHECKSUMS_FILE).symlink_to(tmp_path / "gone")
    with pytest.raises(MissingFileError, match="gone"):
        read_checksums(tmp_path, "copy it again")


def test_names_that_leave_the_folder_are_refused(folder: Path) -> None:
    content = json.loads((folder / CHECKSUMS_FILE).read_text())
    files = {"../outside": next(iter(content["files"].values()))}
    Checksums({name: checksums.FileChecksum(**of) for name, of in files.items()}).write(folder)
    with pytest.raises(DataError, match="outside"):
        read_checksums(folder, "copy it again")


def test_the_error_is_of_the_kind_that_the_caller_names(folder: Path) -> None:
    stored = read_checksums(folder, "")
    assert stored is not None
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged, .* it has 2 bytes, .*; copy the model folder again$"):
        require_whole(folder, stored.files, remedy="copy the model folder again", kind=CheckpointError)
