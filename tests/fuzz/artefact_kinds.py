"""Kinds that BLINK writes: models, knowledge bases, linkers, exports, predictions, runs of training."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.kinds import COMMANDS, Kind, variation
from tests.fuzz.text_kinds import ENTITIES, TITLES, lines, write

TEXT = "Oslo and Bergen are near the Nile, said Turing of Java."
LINK = f"blink link '{TEXT}' --json --model {{}}/model --kb {{}}/kb --threshold=-50"


# --- a model that is small enough for each of its bytes to count ------------------------------------------------------


def _vocabulary(folder: Path) -> Path:
    words = sorted(
        {
            word.lower()
            for e in ENTITIES
            for text in (e["title"], e["text"], *e["aliases"], TEXT)
            for word in re.findall(r"\w+", text)
        }
    )
    letters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    tokens = [
        "[PAD]",
        "[unused0]",
        "[unused1]",
        "[unused2]",
        "[unused3]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters if letter.isalnum()),
        *(word for word in words if len(word) > 1),
    ]
    return write(folder / "vocab.txt", "".join(f"{token}\n" for token in tokens))


def _tower(tokenizer: Any, seed: int) -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed + 100 * variation())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=160,
        initializer_range=0.4,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def _model(folder: Path, *, adapters: bool = False) -> Any:
    """A model of two random towers, or of adapters on one of them in ``base``, with a reranker."""
    import torch

    from blink.linking.features import FEATURES
    from blink.model.biencoder import BiEncoder
    from blink.model.config import ModelConfig
    from blink.model.reranker import RerankerNetwork
    from blink.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_vocabulary(_vocabulary(folder))
    (folder / "vocab.txt").unlink()
    settings: dict[str, Any] = {"max_context_length": 32, "max_mention_length": 4, "max_candidate_length": 24}
    if adapters:
        _tower(tokenizer, 5).save_pretrained(folder / "base")
        tokenizer.save(folder / "base")
        model = BiEncoder.from_encoder(
            str(folder / "base"), ModelConfig(adapter_rank=3, candidate_pooling="mean", cosine=True, **settings)
        )
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    else:
        model = BiEncoder(
            ModelConfig(**settings), tokenizer, context=_tower(tokenizer, 0), candidate=_tower(tokenizer, 1)
        ).eval()
        model.config = model.config.replace(candidate_fingerprint=model.candidate_fingerprint())
    random = np.random.default_rng(variation())
    n = len(FEATURES)
    layers = (
        (random.normal(size=(4, n)).astype(np.float32) / 4, np.zeros(4, np.float32)),
        (random.normal(size=(1, 4)).astype(np.float32), np.full(1, 1.0, np.float32)),
    )
    model.reranker = RerankerNetwork(FEATURES, np.zeros(n, np.float32), np.ones(n, np.float32), layers, float("-inf"))
    model.save_pretrained(folder / "model")
    return model


def _base(folder: Path, model: Any) -> None:
    from blink.kb.building import build_knowledge_base

    source = write(folder / "catalogue.jsonl", lines(ENTITIES[:: -1 if variation() else 1]))
    build_knowledge_base(source, folder / "kb", model.encode_entities, model.candidate_fingerprint())
    source.unlink()


def linker(folder: Path) -> None:
    """A model of whole weights with its knowledge base."""
    _base(folder, _model(folder))


def adapted_linker(folder: Path) -> None:
    """A model of adapters, its base, and a knowledge base."""
    _base(folder, _model(folder, adapters=True))


def bundle(folder: Path) -> None:
    """A linker in one folder."""
    import blink

    linker(folder)
    opened = blink.load(str(folder / "model"), str(folder / "kb"), precision="fp32", device="cpu", threshold=-50.0)
    opened.save_pretrained(folder / "linker")
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "kb")


def exported(folder: Path) -> None:
    """A model with its export for ONNX Runtime."""
    linker(folder)
    if COMMANDS["blink"](["export", "--onnx", str(folder / "model"), "--out", str(folder / "onnx")]):
        raise RuntimeError("blink export")


def cached_export(folder: Path) -> None:
    """A model whose export is where linking looks for it."""
    linker(folder)
    os.environ.update(BLINK_BACKEND="onnx", XDG_CACHE_HOME=str(folder / "cache"))
    if COMMANDS["blink"](["link", TEXT, "--model", str(folder / "model"), "--kb", str(folder / "kb"), "--backend", "onnx"]):
        raise RuntimeError("blink link")


def _labelled(folder: Path, name: str, count: int) -> None:
    rows = [
        {
            "id": str(i),
            "text": f"{'so ' * variation()}where is {(title := TITLES[i % 8])}?",
            "mentions": [[9 + 3 * variation(), 9 + 3 * variation() + len(title)]],
            "label_id": [i % 8],
            "wikidata_id": [f"Q{100 + i % 8}"],
        }
        for i in range(count)
    ]
    write(folder / name, lines(rows))


def training(folder: Path) -> None:
    """Texts to train, rank and calibrate on."""
    from blink.model.loading import load_model

    _model(folder, adapters=True)
    shutil.rmtree(folder / "model")
    _base(folder, load_model(folder / "base", context=False, candidate=True))
    _labelled(folder, "train.jsonl", 16)
    _labelled(folder, "dev.jsonl", 8)


def calibrated(folder: Path) -> None:
    """A model, and texts to calibrate it on."""
    adapted_linker(folder)
    _labelled(folder, "dev.jsonl", 8)


def saved_predictions(folder: Path) -> None:
    """Predictions of `blink eval --save-preds`."""
    linker(folder)
    _labelled(folder, "dev.jsonl", 8)
    line = [
        "eval",
        f"{folder}/dev.jsonl",
        "--model",
        f"{folder}/model",
        "--kb",
        f"{folder}/kb",
        "--save-preds",
        f"{folder}/dev.npz",
    ]
    if COMMANDS["blink"](line):
        raise RuntimeError("blink eval")
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "kb")


def trained(folder: Path) -> None:
    """A run of training that was stopped."""
    from blink.training.step.stepper import Stepper

    training(folder)
    step = Stepper.step

    def stopping(stepper: Stepper, number: int, *arguments: Any) -> dict[str, float]:
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(stepper, number, *arguments)

    Stepper.step = stopping  # type: ignore[method-assign]
    if COMMANDS["blink"](["train", *TRAIN.format(folder=folder).split(), "--epochs", "3"]) != 128 + signal.SIGTERM:
        raise RuntimeError("blink train")


def prior(folder: Path) -> None:
    """A prior that is tuned for a model."""
    from blink.data.prior_file import Prior, write_prior
    from blink.linking.graph_prior import scorer_fingerprint
    from tests import prior_toys

    model = _model(folder)
    _base(folder, model)
    table = prior_toys.table([e["kb_idx"] for e in ENTITIES], 0, width=6)
    weights = prior_toys.weights(scorer_fingerprint(model, model.reranker), text=16, popularity=0.5, vector=0.5)
    write_prior(folder / "prior.safetensors", Prior(table, (weights,)))


TRAIN = (
    "--train {folder}/train.jsonl --dev {folder}/dev.jsonl --kb {folder}/kb --model {folder}/base --out {folder}/run "
    "--batch-size 8 --precision fp32 --device cpu --adapter-rank 2 --save-steps 1"
)
MODEL_FILES = ("model/*",)
KB_FILES = ("kb/*",)


KINDS = (
    Kind("model", linker, (LINK,), MODEL_FILES, MODEL_FILES, unverified=("*.md",), needs="torch", weight=3),
    Kind(
        "model-adapters",
        adapted_linker,
        (LINK,),
        ("model/*", "base/*"),
        ("model/*", "base/*"),
        unverified=("*.md",),
        needs="torch",
        weight=3,
    ),
    Kind(
        "kb-linked",
        linker,
        (LINK, "blink kb check {}/kb", "blink kb show {}/kb Oslo", "blink kb search {}/kb nile"),
        KB_FILES,
        KB_FILES,
        needs="torch",
        weight=2,
    ),
    Kind(
        "linker-folder",
        bundle,
        (f"blink link '{TEXT}' --json --model {{}}/linker",),
        ("linker/*", "linker/*/*"),
        ("linker/*", "linker/*/*"),
        unverified=("*.md",),
        needs="torch",
        weight=2,
    ),
    Kind("doctor", linker, ("blink doctor --model {}/model --kb {}/kb",), ("kb/*", "model/*"), needs="torch"),
    Kind(
        "export",
        cached_export,
        (LINK + " --backend onnx",),
        ("model/onnx/*", "model/onnx/*/*"),
        ("model/onnx/*",),
        needs="torch",
        weight=2,
    ),
    Kind(
        "predictions",
        saved_predictions,
        ("blink eval --preds {}/dev.npz --json -",),
        ("dev.npz",),
        ("dev.npz",),
        needs="torch",
        weight=2,
    ),
    Kind(
        "training-texts",
        training,
        ("blink train " + TRAIN.format(folder="{}") + " --epochs 1",),
        ("train.jsonl", "dev.jsonl"),
        needs="torch",
        weight=2,
    ),
    Kind(
        "calibration-texts",
        calibrated,
        ("blink calibrate {}/model --on {}/kb {}/dev.jsonl", "blink eval {}/dev.jsonl --model {}/model --kb {}/kb --json -"),
        ("dev.jsonl",),
        needs="torch",
    ),
    Kind(
        "training-run",
        trained,
        ("blink train " + TRAIN.format(folder="{}") + " --epochs 3 --resume",),
        ("run/*", "run/*/*"),
        ("run/checkpoints/*", "run/best/*", "run/last/*"),
        unverified=("*.md",),
        needs="torch",
        weight=2,
    ),
)
