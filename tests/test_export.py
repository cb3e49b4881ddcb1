"""Exported encoders: the same numbers as the model's, in every kind of head and encoder, at any padding."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from test_encoders import KINDS, small_encoder

from blink.errors import SettingsError
from blink.files import read_json
from blink.model.adapters import add_adapters
from blink.model.backends.export import export_candidate, export_model
from blink.model.backends.layout import (
    CANDIDATE_GRAPH,
    CANDIDATE_SETTINGS_FILE,
    CASE,
    GRAPHS,
    HEADS_FILE,
    LAYER,
    LOG_SCALE,
    SETTINGS_FILE,
    WORDS_FILE,
)
from blink.model.backends.quantize import MAX_WEIGHT, quantize
from blink.model.biencoder import BiEncoder
from blink.model.config import AGGREGATIONS, CANDIDATE_POOLINGS, MENTION_SCORERS, ModelConfig
from blink.model.letter_case import CLASSES, STRIDE
from blink.model.tokenizer import Tokenizer

CPU = ["CPUExecutionProvider"]
FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def exported(kind: str) -> tuple[BiEncoder, Path]:
    """A model on an encoder of a kind, and its export in a folder that lasts as long as the tests."""
    FOLDERS.append(tempfile.TemporaryDirectory(prefix="blink-export-"))
    folder = Path(FOLDERS[-1].name)
    if kind == "bert":
        model = toys.model(reads_case=True, mention_scorer="qa_mlp", cosine=True)
        torch.nn.init.normal_(model.case_embedding.weight)  # type: ignore[union-attr]
    else:
        encoder, tokenizer = small_encoder(kind)
        model = BiEncoder(ModelConfig(), Tokenizer.of(tokenizer), context=encoder).eval()
    export_model(model, folder, int8=True)
    return model, folder


@functools.cache
def session(kind: str, precision: str) -> Any:
    return onnxruntime.InferenceSession(str(exported(kind)[1] / GRAPHS[precision]), providers=CPU)


def run(kind: str, codes: np.ndarray, mask: np.ndarray, precision: str = "fp32") -> dict[str, np.ndarray]:
    """Outputs of the exported graph, its inputs gathered as a backend does."""
    folder = exported(kind)[1]
    heads = np.load(folder / HEADS_FILE, allow_pickle=False)
    embeddings = np.load(folder / WORDS_FILE, mmap_mode="r", allow_pickle=False)[codes % STRIDE]
    if CASE in heads:
        embeddings = embeddings + heads[CASE][codes // STRIDE]
    names = [output.name for output in session(kind, precision).get_outputs()]
    return dict(zip(names, session(kind, precision).run(names, {"embeddings": embeddings, "mask": mask}), strict=True))


@pytest.mark.parametrize("kind", ["bert", *KINDS])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=5), padding=st.integers(0, 6), seed=st.integers(0, 9999))
def test_graph_computes_what_the_model_computes(kind: str, lengths: list[int], padding: int, seed: int) -> None:
    model = exported(kind)[0]
    numbers = np.random.default_rng(seed)
    seq = max(lengths) + padding
    mask = np.arange(seq) < np.array(lengths)[:, None]
    codes = numbers.integers(5, 400, mask.shape) + STRIDE * numbers.integers(0, CLASSES, mask.shape)
    codes[~mask] = model.tokenizer.pad_id
    outputs = run(kind, codes, mask)
    with torch.inference_mode():
        hidden = model.encode_context(torch.from_numpy(codes), torch.from_numpy(mask))
        scores = model.mention_scorer(hidden)  # type: ignore[misc]
    np.testing.assert_allclose(outputs["hidden"][mask], hidden.numpy()[mask], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(outputs["token_scores"][mask], scores.numpy()[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", *KINDS])
def test_padding_changes_nothing(kind: str) -> None:
    codes = np.random.default_rng(1).integers(5, 400, (3, 12))
    mask = np.ones(codes.shape, dtype=bool)
    wider = np.concatenate([codes, np.full((3, 20), 7)], axis=1)
    padded = run(kind, wider, np.arange(32) < np.full((3, 1), 12))
    for name, values in run(kind, codes, mask).items():
        np.testing.assert_allclose(padded[name][:, :12], values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", *KINDS])
@settings(max_examples=10, deadline=None)
@given(length=st.integers(2, 40), others=st.integers(1, 4), padding=st.integers(0, 6), seed=st.integers(0, 9999))
def test_8_bits_are_near_and_do_not_depend_on_the_batch(kind: str, length: int, others: int, padding: int, seed: int) -> None:
    """A scale of each batch, as is usual, makes the vectors of a text follow from those it is with."""
    numbers = np.random.default_rng(seed)
    codes = numbers.integers(5, 400, (1 + others, length + padding))
    mask = np.ones(codes.shape, dtype=bool)
    mask[0, length:] = False
    alone = run(kind, codes[:1, :length], mask[:1, :length], "int8")
    batched = run(kind, codes, mask, "int8")
    exact = run(kind, codes, mask)["hidden"][mask]
    np.testing.assert_allclose(batched["hidden"][:1, :length], alone["hidden"], atol=1e-2)
    cosines = (batched["hidden"][mask] * exact).sum(1) / np.linalg.norm(batched["hidden"][mask], axis=1)
    assert (cosines / np.linalg.norm(exact, axis=1)).mean() > 0.99


def test_weights_leave_room_for_sums_of_16_bits() -> None:
    model = onnx.load(exported("bert")[1] / GRAPHS["int8"])
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    matrices = [w for w in weights if w.ndim == 2]
    assert len(matrices) == 6 * 2
    assert all(np.abs(w.astype(int)).max() == MAX_WEIGHT for w in matrices)


@pytest.mark.parametrize(("inputs", "groups"), [(32, 1), (384, 1), (768, 2), (1536, 4), (3072, 8), (1030, 5)])
def test_long_rows_are_quantized_in_groups(inputs: int, groups: int, tmp_path: Path) -> None:
    """An outlier takes the digits of its group alone."""
    numbers = np.random.default_rng(0)
    weight = numbers.normal(size=(inputs, 8)).astype(np.float32)
    value, result = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "seq", size])
        for name, size in (("embeddings", inputs), ("hidden", 8))
    )
    mask = onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.BOOL, ["batch", "seq"])
    product = onnx.helper.make_node("MatMul", ["embeddings", "weight"], ["hidden"], "/tower/product")
    graph = onnx.helper.make_graph([product], "g", [value, mask], [result], [numpy_helper.from_array(weight, "weight")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "plain.onnx")
    words = numbers.normal(size=(50, inputs)).astype(np.float32)
    quantize(tmp_path / "plain.onnx", tmp_path / "bytes.onnx", words, positions=16)
    quantized = onnx.load(tmp_path / "bytes.onnx")
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in quantized.graph.node) == groups
    values = numbers.normal(size=(1, 3, inputs)).astype(np.float32)
    values[0, 1] = 0
    session = onnxruntime.InferenceSession(quantized.SerializeToString(), providers=CPU)
    (computed,) = session.run(None, {"embeddings": values, "mask": np.ones((1, 3), dtype=bool)})
    expected = values @ weight
    assert np.sqrt(((computed - expected) ** 2).mean() / (expected**2).mean()) < 0.03
    np.testing.assert_array_equal(computed[0, 1], 0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("scorer", [*MENTION_SCORERS, "none"])
def test_heads_are_stored(aggregation: str, scorer: str, tmp_path: Path) -> None:
    model = toys.model(aggregation=aggregation, mention_scorer=scorer, cosine=aggregation == "all_avg", candidate=False)
    export_model(model, tmp_path)
    outputs = onnxruntime.InferenceSession(str(tmp_path / GRAPHS["fp32"]), providers=CPU).get_outputs()
    assert [output.name for output in outputs] == ["hidden", "token_scores"][: 1 if scorer == "none" else 2]
    stored = read_json(tmp_path / SETTINGS_FILE)
    assert stored["has_mention_head"] == (scorer != "none")
    assert (stored["aggregation"], stored["entity_size"], stored["positions"]) == (aggregation, toys.HIDDEN, toys.POSITIONS)
    heads = dict(np.load(tmp_path / HEADS_FILE, allow_pickle=False))
    assert (LOG_SCALE in heads) == model.config.cosine
    # The layers alone make the vector of a token from its own: a mention of one token.
    vector = torch.randn(1, 1, toys.HIDDEN)
    at = torch.zeros(1, dtype=torch.int64)
    expected = model.aggregator(vector, at, at, at).detach().numpy()  # type: ignore[misc]
    values = vector[0].numpy()
    if aggregation.startswith("fl_") and aggregation != "fl_avg":
        values = np.concatenate([values, values], axis=1)
    for i in range(sum(name.endswith("weight") for name in heads)):
        values = (np.maximum(values, 0) if i else values) @ heads[LAYER.format(i, "weight")].T + heads[LAYER.format(i, "bias")]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_weights_are_next_to_the_graph_and_nothing_else_remains(tmp_path: Path) -> None:
    export_model(toys.model(candidate=False), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "backend.json", "context.bin", "context.onnx", "heads.npz", "words.npy",
    ]  # fmt: skip
    assert (tmp_path / "context.onnx").stat().st_size < 100_000


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = toys.model(candidate=False)
    attention = model.context_encoder.config._attn_implementation  # type: ignore[union-attr]
    model.train()
    export_model(model, tmp_path)
    assert model.training
    assert all(module.training for module in model.modules())
    assert model.context_encoder.config._attn_implementation == attention  # type: ignore[union-attr]


class _Opaque(torch.nn.Module):
    """An encoder with an operation that no graph has."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = toys.tower(0)
        self.config = self.tower.config

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.tower.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        self.tower.set_attn_implementation(name)

    def forward(self, **inputs: torch.Tensor) -> Any:
        output = self.tower(**inputs)
        output.last_hidden_state = torch.linalg.matrix_exp(output.last_hidden_state[..., None]).squeeze(-1)
        return output


class _ReadsValues(_Opaque):
    """An encoder that does something else with short texts: tracing sees one way only."""

    def forward(self, **inputs: torch.Tensor) -> Any:
        output = self.tower(**inputs)
        if inputs["inputs_embeds"].shape[1] < 6:
            output.last_hidden_state = -output.last_hidden_state
        return output


@pytest.mark.parametrize(("kind", "message"), [(_Opaque, "cannot be exported"), (_ReadsValues, "differs from the model")])
def test_what_cannot_be_exported_is_refused(kind: type[torch.nn.Module], message: str, tmp_path: Path) -> None:
    model = toys.model(candidate=False)
    model.context_encoder = kind()
    with pytest.raises(SettingsError, match=message) as error:
        export_model(model, tmp_path)
    assert "'bert'" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_not_ready_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="context=True"):
        export_model(toys.model(context=False), tmp_path)
    model = toys.model(candidate=False)
    with pytest.raises(SettingsError, match="bfloat16 on cpu"):
        export_model(model.to(torch.bfloat16), tmp_path)
    model = toys.model(candidate=False)
    add_adapters(model.context_encoder, 2)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="adapters are not merged"):
        export_model(model, tmp_path)


@pytest.mark.parametrize("pooling", CANDIDATE_POOLINGS)
@pytest.mark.parametrize("cosine", [False, True])
def test_candidate_encoder_gives_the_vectors_of_entities(pooling: str, cosine: bool, tmp_path: Path) -> None:
    model = toys.model(candidate_pooling=pooling, cosine=cosine)
    export_candidate(model, tmp_path)
    about = read_json(tmp_path / CANDIDATE_SETTINGS_FILE)
    assert about["fingerprint"] == model.candidate_fingerprint()
    session = onnxruntime.InferenceSession(str(tmp_path / CANDIDATE_GRAPH), providers=CPU)
    words = np.load(tmp_path / about["words"], mmap_mode="r", allow_pickle=False)
    for lengths in ([3], [9, 2, 24], [1, 5]):
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        ids = np.random.default_rng(0).integers(5, 400, mask.shape)
        with torch.inference_mode():
            expected = model.encode_candidates(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        (vectors,) = session.run(["vectors"], {"embeddings": words[ids], "mask": mask})
        np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=1e-5)


def test_both_encoders_share_word_embeddings(tmp_path: Path) -> None:
    model = toys.model()
    export_model(model, tmp_path)
    export_candidate(model, tmp_path)
    assert read_json(tmp_path / CANDIDATE_SETTINGS_FILE)["words"] == "candidate-words.npy"  # the toy's differ
    model.candidate_encoder.set_input_embeddings(model.context_encoder.get_input_embeddings())  # type: ignore[union-attr, operator]
    (tmp_path / "candidate-words.npy").unlink()
    export_candidate(model, tmp_path)
    assert read_json(tmp_path / CANDIDATE_SETTINGS_FILE)["words"] == WORDS_FILE
    assert not (tmp_path / "candidate-words.npy").exists()
    with pytest.raises(SettingsError, match="candidate=True"):
        export_candidate(toys.model(candidate=False), tmp_path)
