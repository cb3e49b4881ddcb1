"""Instances of `tests.artefacts`: stored models, with and without checksums."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from blink.checksums import CHECKSUMS_FILE
from blink.data.records import Entity
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.loading import load_model
from blink.model.reranker import RerankerNetwork
from blink.model.stored_files import require_whole_model
from blink.model.stored_weights import read_weights
from blink.model.tokenizer import Tokenizer, pad
from tests import toys
from tests.artefact_work import files_in

TEXT = "Who lives in Tbilisi near the Ohio River, unaffable?"


def network(seed: int) -> RerankerNetwork:
    """A random reranker of three features."""
    random = np.random.default_rng(seed)
    sizes = ((8, 3), (1, 8))
    layers = tuple((random.normal(size=size).astype(np.float32), np.zeros(size[0], np.float32)) for size in sizes)
    return RerankerNetwork(("logit", "alias", "dice"), np.zeros(3, np.float32), np.ones(3, np.float32), layers, -9.0)


WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused2]", "?", ",", "who", "lives", "in", "the", "near"),
    *("tbilisi", "ohio", "river", "un", "##aff", "##able"),
    *(mark + letter for mark in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
)
"""A vocabulary of few words, so that the files are small."""
ENTITIES = [Entity(i, name, f"thing {i}", aliases=("river",) if i % 2 else ()) for i, name in enumerate(toys.NAMES[:4])]


def make_encoder(folder: Path, seed: int) -> list[Path]:
    """A pretrained encoder as published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    Tokenizer.from_vocabulary(folder / "vocab.txt").save(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return files_in(folder)


def make_model(folder: Path, seed: int, *, adapters: bool, checksums: bool = True) -> list[Path]:
    """A model with a reranker: whole, or adapters with their encoder next to it."""
    base = folder / "base"
    make_encoder(base, 5 + seed)
    settings = ModelConfig(
        adapter_rank=2 if adapters else 0, cosine=True, candidate_pooling="mean", candidate_fields="title_aliases_text",
        max_context_length=32, max_mention_length=4, max_candidate_length=24,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = BiEncoder.from_encoder(str(base), settings).eval()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.reranker = network(seed)
    model.save_pretrained(folder / "model")
    if not adapters:
        shutil.rmtree(base)
    if not checksums:
        (folder / "model" / CHECKSUMS_FILE).unlink()
    return files_in(folder)


def use_encoder(folder: Path) -> Any:
    """See `use_model`, of a pretrained encoder."""
    return _outputs(folder)


def use_model(folder: Path, *, verify: bool = False, **_made: bool) -> Any:
    """Everything that linking asks of a model: by PyTorch, and the weights that an export without PyTorch has."""
    path = folder / "model"
    if verify:
        require_whole_model(path, whole=True)
    return _outputs(path)


def _outputs(path: Path) -> Any:
    model = load_model(path, candidate=True)
    ids = [model.tokenizer.cls_id, *model.tokenizer.tokenize([TEXT])[0].ids.tolist(), model.tokenizer.sep_id]
    padded, real = pad([ids], model.tokenizer.pad_id)
    mask = torch.from_numpy(real)
    with torch.inference_mode():
        hidden = model.encode_context(torch.from_numpy(padded), mask)
        outputs = [hidden.numpy()]
        if model.mention_scorer is not None:
            outputs.append(model.score_spans(hidden, mask).logits.numpy())
        spans = torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([2, 3])
        outputs.append(model.embed_mentions(hidden, *spans).numpy())
    outputs.append(model.encode_entities(ENTITIES))
    weights = read_weights(path, "context")
    outputs += [] if weights is None else [value for _, value in sorted(weights.weights.items())]
    features = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    if model.reranker is not None:
        outputs.append(model.reranker.scores(features, np.ones((2, 3), bool)))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(output).tobytes() for output in outputs)).hexdigest()
    return [ids, digest, model.config.threshold, model.config.cutoff, model.config.max_mention_length]
