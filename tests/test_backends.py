"""Backends: the same links and scores whatever runs the encoder, and exports that are made once and never trusted blindly."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoders import KINDS as ENCODERS
from test_encoders import small_encoder

from blink.errors import CheckpointError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.linking.span_scores import SpanScores, log_sigmoid
from blink.model import heads, linking_model
from blink.model.backends import exported as exports
from blink.model.backends.exported import export_key, exported, is_current
from blink.model.backends.onnx_backend import OnnxBackend, n_threads
from blink.model.backends.protocol import Backend
from blink.model.backends.torch_backend import TorchBackend
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.linking_model import LinkingModel, backend_for_bulk, resolve_backend
from blink.model.loading import load_model
from blink.model.reranker import RerankerNetwork
from blink.model.stored_files import store_checksums
from blink.model.tokenizer import Tokenizer, _from_transformers, pad
from tests.compat.originals import Reference, Shape

TEXTS = [
    "Georgia 0 and the Ohio River 3",
    "MERCURY 5",
    "Who swam in Lake Garda 4, Oslo 7, or Java the 8th? " * 3,
    "mount elbrus 6 \U0001f600 turing 9",
]
KINDS = {
    "bert": {"cosine": True, "reads_case": True, "isolate_symbols": True, "hard_breaks": True},
    "layers": {"aggregation": "fl_mlp", "mention_scorer": "qa_mlp"},
    "linear": {"aggregation": "all_avg_linear"},
    "first and last": {"aggregation": "fl_avg"},
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored model with its export."""
    path = tmp_path_factory.mktemp("models") / "model"
    model = toys.model(3, **KINDS[request.param])
    if model.case_embedding is not None:
        torch.nn.init.normal_(model.case_embedding.weight)
    model.save_pretrained(path)
    exported(path)
    return path


@pytest.fixture(scope="module")
def kb(folder: Path) -> KnowledgeBase:
    return toys.knowledge_base(folder.with_name("kb"), load_model(folder, candidate=True), toys.rows())


@pytest.fixture(scope="module")
def backends(folder: Path) -> tuple[Backend, Backend]:
    return TorchBackend(load_model(folder), "fp32", "cpu"), OnnxBackend(folder / "onnx")


def encoded(backend: Backend, rows: Sequence[Sequence[int]], length: int | None = None) -> tuple[np.ndarray, ...]:
    """Token scores, mention vectors and topic vectors of the span of the second token of each row."""
    codes, mask = pad(rows, 0, length)
    batch, ones = backend.encode(codes, mask), np.ones(len(rows), dtype=np.int64)
    spans = (np.arange(len(rows)), ones, ones + np.array([len(row) > 3 for row in rows]))
    topics = (batch.topic_vectors(*spans),) if backend.embeds_topics else ()
    scores = [of_row[: len(row)] for of_row, row in zip(batch.token_scores, rows, strict=True)]
    return (np.concatenate(scores), batch.mention_vectors(*spans), *topics)


codes = st.lists(st.integers(999, 29999), min_size=3, max_size=20)
batches = st.lists(codes, min_size=1, max_size=5)


def assert_close(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(np.abs(b).max())), rtol=0)


class TestOutputs:
    @settings(max_examples=15)
    @given(rows=batches)
    def test_onnx_computes_what_torch_does(self, backends: tuple[Backend, Backend], rows: list[list[int]]) -> None:
        ours, theirs = backends
        assert (ours.positions, ours.entity_size, ours.embeds_topics) == (
            theirs.positions,
            theirs.entity_size,
            theirs.embeds_topics,
        )
        assert ours.heads_digest == theirs.heads_digest
        assert_close(encoded(theirs, rows), encoded(ours, rows))

    @settings(max_examples=15)
    @given(rows=batches, data=st.data())
    def test_neither_padding_nor_order_matter(
        self, backends: tuple[Backend, Backend], rows: list[list[int]], data: Any
    ) -> None:
        order = data.draw(st.permutations(range(len(rows))))
        length = data.draw(st.integers(max(map(len, rows)), 30))
        bounds = np.cumsum([0, *map(len, rows)])
        of_rows = np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in order])
        for backend in backends:
            scores, *vectors = encoded(backend, rows)
            moved = encoded(backend, [rows[i] for i in order], length)
            assert_close(moved, [scores[of_rows], *(v[list(order)] for v in vectors)])

    def test_no_spans(self, backends: tuple[Backend, Backend]) -> None:
        none = np.empty(0, dtype=np.int64)
        for backend in backends:
            assert backend.encode(*pad([[5, 6, 7]], 0)).mention_vectors(none, none, none).shape == (0, backend.entity_size)


def same_links(one: Linker, other: Linker, texts: Sequence[str] = TEXTS) -> None:
    for a, b in zip(one.link(texts, batch_size=2), other.link(texts), strict=True):
        assert [(x.start, x.end, x.row) for x in a.links] == [(x.start, x.end, x.row) for x in b.links]
        np.testing.assert_allclose([x.score for x in a.links], [x.score for x in b.links], atol=1e-4, rtol=1e-5)


def test_links_are_the_same(folder: Path, kb: KnowledgeBase) -> None:
    options = {"threshold": float("-inf"), "device": "cpu", "precision": "fp32"}
    ours = Linker(LinkingModel.open(folder, backend="onnx"), kb, **options)
    theirs = Linker(load_model(folder), kb, **options)
    same_links(ours, theirs)
    assert any(linked.links for linked in ours.link(TEXTS))
    assert ours.stages.detector.backend.name == "onnx"
    assert theirs.stages.detector.backend.name == "torch"
    assert scorer_fingerprint(ours.model, None) == scorer_fingerprint(theirs.model, None)
    given = [[(0, 7)], [(0, 7)], [(4, 8)], [(0, 5)]]
    for a, b in zip(ours.link(TEXTS, spans=given), theirs.link(TEXTS, spans=given), strict=True):
        assert [x.row for x in a.links] == [x.row for x in b.links]


# --- span scores ----------------------------------------------------------------------------------------------------


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    seq = draw(st.integers(max(lengths), 14))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    scores = generator.normal(scale=3, size=(len(lengths), seq, 3)).astype(np.float32)
    return scores, np.arange(seq) < np.array(lengths)[:, None], draw(st.integers(0, 14))


@pytest.mark.quick
@settings(max_examples=60)
@given(case=scored(), k=st.integers(1, 60), seed=st.integers(0, 9))
def test_span_scores_are_those_of_training(case: tuple[np.ndarray, np.ndarray, int], k: int, seed: int) -> None:
    scores, mask, longest = case
    inside = np.random.default_rng(seed).random(mask.shape) < 0.3
    ours = SpanScores.of(scores, mask, longest)
    theirs = heads.span_logits(torch.from_numpy(scores), torch.from_numpy(mask), longest)
    assert np.array_equal(ours.logits, theirs.logits.numpy())
    ours = ours.without_ends(mask).whole_words(inside)
    theirs = theirs.without_ends(torch.from_numpy(mask)).whole_words(torch.from_numpy(inside))
    assert np.array_equal(ours.logits, theirs.logits.numpy())
    logits, start, end = ours.top(k)
    expected, *_ = (column.numpy() for column in theirs.top(k))
    assert np.array_equal(logits, expected)
    text = np.arange(len(logits))[:, None]
    assert np.array_equal(ours.logits[text, start, end - start], logits)
    assert all(len(set(zip(s, e, strict=True))) == len(s) for s, e in zip(start.tolist(), end.tolist(), strict=True))
    np.testing.assert_allclose(log_sigmoid(logits), torch.nn.functional.logsigmoid(torch.from_numpy(logits)), rtol=1e-5)


# --- exports --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    toys.model(4, cosine=True).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in sorted(folder.iterdir())}


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated graph": lambda folder: _truncate(folder / "context.onnx"),
    "truncated words": lambda folder: _truncate(folder / "words.npy"),
    "heads of something else": lambda folder: (folder / "heads.npz").write_bytes(b"x" * 100),
    "missing words": lambda folder: (folder / "words.npy").unlink(),
    "no settings": lambda folder: (folder / "backend.json").unlink(),
    "settings that are none": lambda folder: (folder / "backend.json").write_text("[]"),
    "another key": lambda folder: (folder / "backend.json").write_text('{"key": "x", "files": {}}'),
}


def test_an_export_is_made_once_and_again_when_it_is_not_whole(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = files_of(exported(stored))
    assert len(caplog.messages) == 1
    assert files_of(exported(stored)) == first
    assert len(caplog.messages) == 1
    key = export_key(stored)
    for name, damage in DAMAGES.items():
        shutil.copytree(stored / "onnx", stored.with_name(name))
        damage(stored.with_name(name))
        assert not is_current(stored.with_name(name), key), name
    _truncate(stored / "onnx" / "context.onnx")
    opened = LinkingModel.open(stored, backend="onnx")
    assert is_current(stored / "onnx", key)
    assert opened.backend.encode(*pad([[5, 6, 7]], 0)).token_scores.shape == (1, 3, 3)
    assert sorted(f.name for f in stored.iterdir() if f.is_dir()) == ["onnx"]


def test_an_export_of_other_weights_is_made_again(stored: Path) -> None:
    exported(stored)
    other = toys.model(5, cosine=True)
    other.save_pretrained(stored)
    ours, theirs = OnnxBackend(exported(stored)), TorchBackend(other, "fp32", "cpu")
    assert_close(encoded(ours, [[7, 8, 9, 10]]), encoded(theirs, [[7, 8, 9, 10]]))


def test_settings_for_decoding_need_no_other_export(stored: Path) -> None:
    before = files_of(exported(stored))
    values = json.loads((stored / "config.json").read_text())
    (stored / "config.json").write_text(json.dumps({**values, "threshold": -1.25}))
    store_checksums(stored)
    assert files_of(exported(stored)) == before
    assert LinkingModel.open(stored, backend="onnx").config.threshold == -1.25


def test_a_folder_that_cannot_be_written(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(exports.os, "access", lambda *_: False)
    target = exported(stored)
    assert target.is_relative_to(tmp_path / "cache" / "blink" / "onnx")
    assert not (stored / "onnx").exists()
    assert exported(stored) == target


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SettingsError("encoders of type 'bert' differ")])
def test_what_cannot_be_exported_runs_with_torch(
    error: Exception, stored: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.delenv("BLINK_BACKEND")
    monkeypatch.setattr(exports, "_make", fail)
    assert LinkingModel.open(stored, precision="fp32", device="cpu").backend.name == "torch"
    assert "runs with PyTorch" in caplog.text
    with pytest.raises(type(error)):
        LinkingModel.open(stored, backend="onnx")


def _export(path: Path, results: Any) -> None:
    results.put(str(exported(path)))


def test_of_two_processes_one_exports(stored: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_export, args=(stored, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {str(stored / "onnx")}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert is_current(stored / "onnx", export_key(stored))
    assert [f.name for f in stored.iterdir() if f.name.startswith(".")] == []


def test_a_damaged_model_is_an_error_and_leaves_nothing(stored: Path) -> None:
    _truncate(stored / "model.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        LinkingModel.open(stored, backend="onnx")
    assert sorted(f.name for f in stored.iterdir() if f.is_dir()) == []


# --- which backend --------------------------------------------------------------------------------------------------


class TestChoice:
    @pytest.fixture(autouse=True)
    def _plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BLINK_BACKEND", raising=False)
        monkeypatch.setattr(linking_model, "sees_gpu", lambda: False)

    @pytest.mark.parametrize(
        ("options", "backend"),
        [
            ({}, "onnx"),
            ({"precision": "fp32", "device": "cpu"}, "onnx"),
            ({"precision": "bf16"}, "torch"),
            ({"precision": "int8"}, "onnx"),
            ({"device": "cuda"}, "torch"),
            ({"backend": "torch"}, "torch"),
        ],
    )
    def test_auto(self, stored: Path, options: dict[str, str], backend: str) -> None:
        assert resolve_backend(stored, **options) == backend

    def test_a_gpu(self, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(linking_model, "sees_gpu", lambda: True)
        assert resolve_backend(stored) == "torch"
        assert resolve_backend(stored, device="cpu") == "onnx"
        assert resolve_backend(stored, "onnx") == "onnx"

    def test_the_environment(self, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BLINK_BACKEND", "torch")
        assert resolve_backend(stored) == "torch"
        assert resolve_backend(stored, "onnx") == "onnx"
        monkeypatch.setenv("BLINK_BACKEND", "tensor")
        with pytest.raises(SettingsError, match="BLINK_BACKEND is 'tensor'"):
            resolve_backend(stored)

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"backend": "onnx", "device": "cuda"}, "device is 'cuda'"),
            ({"backend": "onnx", "precision": "bf16"}, "precision is 'bf16'"),
            ({"backend": "tensor"}, "the backend is 'tensor'; allowed are auto, torch, onnx"),
            ({"precision": "int8", "device": "cuda:1"}, "device is 'cuda:1'"),
        ],
    )
    def test_what_cannot_be(self, stored: Path, options: dict[str, str], problem: str) -> None:
        with pytest.raises(SettingsError, match=problem):
            resolve_backend(stored, **options)

    def test_an_encoder_of_another_kind(self, stored: Path) -> None:
        values = json.loads((stored / "config.json").read_text())
        values["context_encoder"]["model_type"] = "mpnet"
        (stored / "config.json").write_text(json.dumps(values))
        store_checksums(stored)
        assert resolve_backend(stored) == "torch"
        with pytest.raises(SettingsError, match="type 'mpnet'"):
            resolve_backend(stored, "onnx")

    def test_many_texts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for has_bf16, backend in ((True, "torch"), (False, "auto")):
            monkeypatch.setattr(linking_model, "multiplies_bf16", lambda has_bf16=has_bf16: has_bf16)
            assert backend_for_bulk("auto", "auto") == backend
            assert backend_for_bulk("auto", "fp32") == "auto"
            assert backend_for_bulk("onnx", "auto") == "onnx"

    def test_a_model_in_memory(self) -> None:
        model = toys.model(4)
        assert LinkingModel.ready(model).backend.name == "torch"
        with pytest.raises(SettingsError, match="in memory"):
            LinkingModel.ready(model, "onnx")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, threads in (("3", 3), ("2,1", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert n_threads() == threads
    for value in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert n_threads() >= 1


# --- tokenizers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Tokenizer]:
    """The same tokenizer, read without and with transformers."""
    path = tmp_path_factory.mktemp("tokenizer")
    toys.tokenizer().save(path)
    ours, theirs = Tokenizer.from_pretrained(path), Tokenizer.of(_from_transformers(str(path)))
    assert isinstance(ours._source, str)
    return ours, theirs


class TestTokenizer:
    def test_vocabulary(self, pair: tuple[Tokenizer, Tokenizer]) -> None:
        ours, theirs = pair
        assert ours.fingerprint == theirs.fingerprint == toys.tokenizer().fingerprint
        for name in ("cls_id", "sep_id", "pad_id", "title_separator_id"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert np.array_equal(ours.continues, theirs.continues)
        assert ours.decode([2054, 16093]) == theirs.decode([2054, 16093])

    @settings(max_examples=50)
    @given(text=st.one_of(st.text(), st.text(alphabet="aÉß [SEP]#'.-\t\u3000中\u0301😀İ"), st.from_regex(r"\w{90,110}")))
    def test_ids_and_offsets(self, pair: tuple[Tokenizer, Tokenizer], text: str) -> None:
        if any("\ud800" <= c <= "\udfff" for c in text):
            return
        (ours,), (theirs,) = (tokenizer.tokenize([text]) for tokenizer in pair)
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.offsets, theirs.offsets)

    @pytest.mark.parametrize("change", [{"do_lower_case": False}, {"tokenize_chinese_chars": False}, {"strip_accents": False}])
    def test_its_settings_count(self, pair: tuple[Tokenizer, Tokenizer], change: dict[str, bool], tmp_path: Path) -> None:
        pair[1].save(tmp_path)
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        ours, theirs = Tokenizer.from_pretrained(tmp_path), Tokenizer.of(_from_transformers(str(tmp_path)))
        assert isinstance(ours._source, str)
        texts = ["Émile ÉCOLE 中国 oslo", "Georgia [SEP] x"]
        for a, b in zip(ours.tokenize(texts), theirs.tokenize(texts), strict=True):
            assert np.array_equal(a.ids, b.ids)
            assert np.array_equal(a.offsets, b.offsets)

    def test_saved_again(self, pair: tuple[Tokenizer, Tokenizer], tmp_path: Path) -> None:
        pair[0].save(tmp_path)
        again = Tokenizer.from_pretrained(tmp_path)
        assert again.fingerprint == pair[0].fingerprint
        (one,), (other,) = again.tokenize(TEXTS[:1]), pair[0].tokenize(TEXTS[:1])
        assert np.array_equal(one.ids, other.ids)


def test_copied_folders_keep_their_export(stored: Path, tmp_path: Path) -> None:
    exported(stored)
    shutil.copytree(stored, tmp_path / "copy")
    before = files_of(tmp_path / "copy" / "onnx")
    assert files_of(exported(tmp_path / "copy")) == before
    assert replace(LinkingModel.open(tmp_path / "copy", backend="onnx"), reranker=None).entity_size == toys.HIDDEN


# --- kinds of models ------------------------------------------------------------------------------------------------


def assert_opens_alike(path: Path) -> tuple[LinkingModel, LinkingModel]:
    """Open a model with both backends, and compare what they make of texts."""
    ours, theirs = (LinkingModel.open(path, backend=name, precision="fp32", device="cpu") for name in ("onnx", "torch"))
    assert ours.config == theirs.config
    assert (ours.entity_size, ours.heads_digest()) == (theirs.entity_size, theirs.heads_digest())
    assert ours.tokenizer.fingerprint == theirs.tokenizer.fingerprint
    encodings = [
        [model.tokenizer.cls_id, *e.codes.tolist()] for model in (ours, theirs) for e in model.tokenizer.tokenize(TEXTS)
    ]
    rows = encodings[: len(TEXTS)]
    assert rows == encodings[len(TEXTS) :]
    codes, mask = pad([row[: ours.backend.positions] for row in rows], ours.tokenizer.pad_id)
    ones = np.ones(len(rows), dtype=np.int64)
    batches = [model.backend.encode(codes, mask) for model in (ours, theirs)]
    assert_close(*([batch.mention_vectors(np.arange(len(rows)), ones, ones + 1)] for batch in batches))
    if ours.backend.has_mention_head:
        assert_close(*([batch.token_scores[mask]] for batch in batches))
    return ours, theirs


def test_adapters(tmp_path: Path) -> None:
    base = toys.base_folder(tmp_path / "base")
    config = ModelConfig(adapter_rank=2, cosine=True, reads_case=True, candidate_pooling="mean")
    model = BiEncoder.from_encoder(str(base), config)
    for parameter in model.trained_tensors().values():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "model")
    assert_opens_alike(tmp_path / "model")


def test_a_plain_encoder_embeds_spans_and_proposes_none(tmp_path: Path) -> None:
    ours, theirs = assert_opens_alike(toys.base_folder(tmp_path / "base"))
    for model in (ours, theirs):
        with pytest.raises(CheckpointError, match="no mention head"):
            _ = model.backend.encode(*pad([[5, 6, 7]], 0)).token_scores


@pytest.mark.parametrize("kind", ENCODERS)
def test_other_encoders(kind: str, tmp_path: Path) -> None:
    encoder, tokenizer = small_encoder(kind)
    encoder.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = ModelConfig(max_context_length=24, cosine=True)
    BiEncoder.from_encoder(str(tmp_path / "base"), config).save_pretrained(tmp_path / "model")
    assert_opens_alike(tmp_path / "model")


@pytest.mark.parametrize("shape", [Shape("as published"), Shape("layers", "fl_linear", scorer="qa_mlp")], ids=lambda s: s.name)
def test_an_original_checkpoint(shape: Shape, tmp_path: Path) -> None:
    Reference(shape, tmp_path).write()
    assert_opens_alike(tmp_path)
    _truncate(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cut short"):
        LinkingModel.open(tmp_path, backend="onnx")


# --- start ----------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "faiss", "pydantic", "matplotlib", "scipy", "pandas", "sklearn", "pyarrow")
COMMANDS = {
    "library": "import blink; linker = blink.load(MODEL, KB); assert linker.model.config; linker('Georgia 0 and Oslo 7')",
    "command": "from blink.apps.cli import cli; cli.main(['link', 'Georgia 0', *OPTIONS], standalone_mode=False)",
    "shell": (
        "import io; sys.stdin = io.TextIOWrapper(io.BytesIO(b'Georgia 0'))\n"
        "from blink.apps.cli import cli; cli.main(['shell', *OPTIONS], standalone_mode=False)"
    ),
}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stored model with a reranker, exported, and its knowledge base."""
    folder = tmp_path_factory.mktemp("ranked")
    model = toys.model(6, cosine=True, hard_breaks=True)
    ones = np.ones(2, dtype=np.float32)
    layers = ((np.ones((1, 2), dtype=np.float32), np.zeros(1, dtype=np.float32)),)
    model.reranker = RerankerNetwork(("alias", "logit"), 0 * ones, ones, layers, float("-inf"))
    model.save_pretrained(folder / "model")
    toys.knowledge_base(folder / "kb", model, toys.rows())
    exported(folder / "model")
    return folder / "model", folder / "kb"


@pytest.mark.parametrize("command", COMMANDS)
def test_linking_imports_nothing_heavy(command: str, ranked: tuple[Path, Path]) -> None:
    model, kb = map(str, ranked)
    code = f"import sys\nMODEL, KB = {model!r}, {kb!r}\nOPTIONS = ['--model', MODEL, '--kb', KB, '--threshold', '0.0']\n"
    heavy = (*HEAVY, "click") if command == "library" else HEAVY
    code += (
        f"{COMMANDS[command]}\nprint()\nprint([m for m in {heavy} if m in sys.modules], 'blink.linking.linker' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name != "BLINK_BACKEND"} | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] True"


@pytest.mark.quick
def test_the_package_alone_imports_nothing() -> None:
    code = "import sys, blink; print([m for m in ('typing', 'numpy', 'blink.errors') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=toys.ROOT)
    assert done.stdout.strip() == "[]"
