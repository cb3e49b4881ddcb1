"""Exports made of a model's files alone: the numbers of the model in PyTorch, and the files of any other export."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Mapping
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
from safetensors.numpy import load_file, save_file

from blink.errors import CheckpointError, MismatchError
from blink.files import read_json, write_json
from blink.model.backends.bert_export import export_candidate, export_context
from blink.model.backends.bert_graph import BertShape
from blink.model.backends.layout import CANDIDATE_SETTINGS_FILE, CASE, GRAPHS, HEADS_FILE, WORDS_FILE
from blink.model.backends.onnx_file import GraphFile
from blink.model.biencoder import BiEncoder
from blink.model.config import AGGREGATIONS, CANDIDATE_POOLINGS, MENTION_SCORERS, ModelConfig
from blink.model.letter_case import CLASSES, STRIDE
from blink.model.loading import load_model
from blink.model.stored_weights import StoredWeights, read_weights

CPU = ["CPUExecutionProvider"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def stored(folder: Path, tower: str) -> StoredWeights:
    """An encoder that must not take PyTorch."""
    weights = read_weights(folder, tower)
    assert weights is not None
    return weights


def saved(folder: Path, **config: Any) -> Path:
    """A random model of whole weights, its letter case embedding too."""
    model = toys.model(4, **config)
    if model.case_embedding is not None:
        torch.nn.init.normal_(model.case_embedding.weight)
    model.save_pretrained(folder)
    return folder


def adapted(folder: Path, **config: Any) -> Path:
    """A random model of adapters on a random encoder."""
    base = toys.base_folder(folder / "base")
    model = BiEncoder.from_encoder(str(base), ModelConfig(adapter_rank=3, max_candidate_length=24, **config))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder / "model")
    return folder / "model"


def codes_of(lengths: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    codes = numbers.integers(5, 400, mask.shape) + STRIDE * numbers.integers(0, CLASSES, mask.shape)
    return np.where(mask, codes, 0), mask


def outputs(folder: Path, codes: np.ndarray, mask: np.ndarray, precision: str = "fp32") -> dict[str, np.ndarray]:
    heads = np.load(folder / HEADS_FILE, allow_pickle=False)
    embeddings = np.load(folder / WORDS_FILE, allow_pickle=False)[codes % STRIDE]
    if CASE in heads:
        embeddings = embeddings + heads[CASE][codes // STRIDE]
    session = onnxruntime.InferenceSession(str(folder / GRAPHS[precision]), providers=CPU)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"embeddings": embeddings, "mask": mask}), strict=True))


def require_same_context(folder: Path, out: Path) -> None:
    """The export of a model's files computes what the model does in PyTorch."""
    out.mkdir()
    weights = stored(folder, "context")
    export_context(weights, out)
    model = load_model(folder)
    assert weights.heads_digest() == model.heads_digest()
    codes, mask = codes_of((9, 2, 14))
    computed = outputs(out, codes, mask)
    with torch.inference_mode():
        hidden = model.encode_context(torch.from_numpy(codes), torch.from_numpy(mask))
        np.testing.assert_allclose(computed["hidden"][mask], hidden.numpy()[mask], **CLOSE)
        assert ("token_scores" in computed) == (model.mention_scorer is not None)
        if model.mention_scorer is not None:
            scores = model.mention_scorer(hidden).numpy()
            np.testing.assert_allclose(computed["token_scores"][mask], scores[mask], **CLOSE)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("scorer", [*MENTION_SCORERS, "none"])
def test_context_encoder_of_whole_weights(aggregation: str, scorer: str, tmp_path: Path) -> None:
    cosine = aggregation == "all_avg"
    folder = saved(tmp_path / "model", aggregation=aggregation, mention_scorer=scorer, cosine=cosine, reads_case=cosine)
    require_same_context(folder, tmp_path / "export")


def test_context_encoder_of_adapters(tmp_path: Path) -> None:
    folder = adapted(tmp_path, mention_scorer="qa_mlp", cosine=True, reads_case=True)
    assert not np.allclose(
        stored(folder, "context").encoder["encoder.layer.0.attention.self.query.weight"],
        stored(folder, "candidate").encoder["encoder.layer.0.attention.self.query.weight"],
    )
    require_same_context(folder, tmp_path / "export")


def test_encoder_as_published(tmp_path: Path) -> None:
    folder = toys.base_folder(tmp_path / "base")
    require_same_context(folder, tmp_path / "export")
    assert stored(folder, "candidate").config.candidate_fingerprint == load_model(folder).config.candidate_fingerprint


@pytest.mark.parametrize("pooling", CANDIDATE_POOLINGS)
@pytest.mark.parametrize("cosine", [False, True])
def test_candidate_encoder(pooling: str, cosine: bool, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", candidate_pooling=pooling, cosine=cosine)
    model = load_model(folder, candidate=True)
    export_candidate(stored(folder, "candidate"), model.tokenizer, tmp_path)
    about = read_json(tmp_path / CANDIDATE_SETTINGS_FILE)
    assert about["fingerprint"] == model.candidate_fingerprint()
    words = np.load(tmp_path / about["words"], allow_pickle=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "candidate.onnx"), providers=CPU)
    for lengths in ((3,), (9, 2, 24), (1, 5)):
        codes, mask = codes_of(lengths)
        ids = codes % STRIDE
        with torch.inference_mode():
            expected = model.encode_candidates(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        (vectors,) = session.run(["vectors"], {"embeddings": words[ids], "mask": mask})
        np.testing.assert_allclose(vectors, expected, **CLOSE)


def test_8_bits_are_near(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", mention_scorer="qa_linear")
    export_context(stored(folder, "context"), tmp_path, int8=True)
    codes, mask = codes_of((40, 33))
    exact, quantized = (outputs(tmp_path, codes, mask, precision)["hidden"][mask] for precision in GRAPHS)
    cosines = (exact * quantized).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(quantized, axis=1)
    assert cosines.mean() > 0.99
    assert not np.array_equal(exact, quantized)


def changed(folder: Path, **changes: np.ndarray | None) -> None:
    """Replace or remove weights of a stored model; two underscores stand for a dot."""
    names: Mapping[str, np.ndarray | None] = {name.replace("__", "."): value for name, value in changes.items()}
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if k not in names}
    save_file(tensors | {k: v for k, v in names.items() if v is not None}, folder / "model.safetensors")


LAYER_NORM = "context_encoder__encoder__layer__1__output__LayerNorm__weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LAYER_NORM: None}, "weights encoder.layer.1.output.LayerNorm.weight are missing"),
        ({LAYER_NORM: np.ones(7, np.float32)}, r"have the shape \(7,\), which does not fit"),
        ({"context_encoder__embeddings__word_embeddings__weight": None}, "word_embeddings.weight are missing"),
        ({"mention_scorer__bound_classifier__bias": None}, "lacks mention_scorer.bound_classifier.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    changed(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        export_context(stored(folder, "context"), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / GRAPHS["fp32"]).exists()


def test_adapters_of_another_encoder_are_refused(tmp_path: Path) -> None:
    folder = adapted(tmp_path)
    tensors = load_file(folder / "adapters.safetensors")
    del tensors["context_encoder.encoder.layer.0.output.dense.bias"]
    save_file(tensors, folder / "adapters.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        read_weights(folder, "context")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(MismatchError, match="another version"):
        read_weights(folder, "context")


@pytest.mark.parametrize(
    "other",
    [
        {"model_type": "roberta"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"chunk_size_feed_forward": 4},
        {"num_attention_heads": None},
    ],
)
def test_other_encoders_are_left_to_pytorch(other: dict[str, Any], tmp_path: Path) -> None:
    assert BertShape.of({"model_type": "bert"}) == BertShape(12, 12, 1e-12, 512)
    assert BertShape.of({"model_type": "bert", **other}) is None
    folder = saved(tmp_path / "model")
    values = read_json(folder / "config.json")
    write_json(folder / "config.json", {**values, "context_encoder": {**values["context_encoder"], **other}})
    assert read_weights(folder, "context") is None
    assert read_weights(folder, "candidate") is not None


def test_types_that_numpy_lacks_are_left_to_pytorch(tmp_path: Path) -> None:
    folder = toys.base_folder(tmp_path / "base")
    toys.tower(5).to(torch.bfloat16).save_pretrained(folder)
    assert read_weights(folder, "context") is None


def test_nothing_of_pytorch_is_imported(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from blink.model.backends.exported import exported, exported_candidate\n"
        f"path = Path({str(folder)!r}); exported(path); exported_candidate(path)\n"
        "sys.exit(str(sorted({'torch', 'transformers', 'onnx'} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("[]"), done.stderr


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)


@settings(max_examples=60, deadline=None)
@given(
    constants=st.dictionaries(names, st.lists(numbers, max_size=300), max_size=4),
    size=st.integers(0, 1 << 40),
    whole=numbers,
    fraction=st.floats(width=32, allow_nan=False),
    many=st.lists(numbers, min_size=1, max_size=20),
)
def test_graph_is_read_as_it_was_written(
    constants: dict[str, list[int]], size: int, whole: int, fraction: float, many: list[int], tmp_path_factory: Any
) -> None:
    file = tmp_path_factory.mktemp("graph") / "graph.onnx"
    with GraphFile(file) as graph:
        graph.input("x", "float32", ("batch", size))
        for name, values in constants.items():
            graph.constant(f"c{name}", np.array(values, dtype=np.int64))
        graph.node("Any", "y", ("x",), whole=whole, fraction=float(fraction), many=many)
        graph.output("y", "bool", (size, "seq"))
    model = onnx.load(str(file))
    assert {t.name: onnx.numpy_helper.to_array(t).tolist() for t in model.graph.initializer} == {
        f"c{name}": values for name, values in constants.items()
    }
    (node,) = model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes == {"whole": whole, "fraction": struct.unpack("f", struct.pack("f", fraction))[0], "many": many}
    assert (node.op_type, list(node.input), list(node.output)) == ("Any", ["x"], ["y"])
    (x,), (y,) = model.graph.input, model.graph.output
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", size]
    assert [d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim] == [size, "seq"]
    assert (x.type.tensor_type.elem_type, y.type.tensor_type.elem_type) == (onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL)


def test_graph_passes_the_checks_of_its_format(tmp_path: Path) -> None:
    from blink.model.backends.bert_graph import BertGraph

    weights = stored(saved(tmp_path / "model"), "context")
    with GraphFile(tmp_path / "plain.onnx") as graph:
        graph.output(
            BertGraph(graph, weights.weights, weights.shape).hidden("hidden"), "float32", ("batch", "seq", toys.HIDDEN)
        )
    onnx.checker.check_model(str(tmp_path / "plain.onnx"), full_check=True)
