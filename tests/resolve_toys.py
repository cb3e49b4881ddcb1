"""An encoder of words, and small knowledge bases, for tests of entity resolution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity
from blink.kb.alias_table import normalise
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase

DIM = 32


def encode_words(entities: Sequence[Entity]) -> np.ndarray:
    """The sum of a random direction for each word of title and text: texts that share words are alike. *Shape:* (n, 32)."""
    vectors = np.zeros((len(entities), DIM), dtype=np.float32)
    for i, entity in enumerate(entities):
        for word in normalise(f"{entity.title} {entity.text}").split():
            seed = int.from_bytes(hashlib.blake2b(word[:5].encode(), digest_size=4).digest(), "little")
            vectors[i] += np.random.default_rng(seed).standard_normal(DIM)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def base(folder: Path, entities: Sequence[dict[str, Any]] = ()) -> KnowledgeBase:
    """A knowledge base of entities, perhaps of none, that encodes edits."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder.with_name(f"{folder.name}.jsonl")
    source.write_text("".join(json.dumps(entity) + "\n" for entity in entities), encoding="utf-8")
    build_knowledge_base(source, folder, encode_words, "words", allow_empty=True)
    return reopened(folder)


def reopened(folder: Path) -> KnowledgeBase:
    """The knowledge base of a folder, as another process opens it."""
    kb = KnowledgeBase.open(folder)
    kb.encode = encode_words
    return kb
