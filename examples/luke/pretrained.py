"""A pre-trained model with both heads, for words and for entities.

Pre-training continues from it, entity disambiguation uses its entity head, archives and exports are written from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LukeConfig, LukeForMaskedLM, LukeModel

from blink.errors import CheckpointError
from examples.luke.convert import QUERIES
from examples.luke.loading import POOLER, REMEDY, first_names, open_source, read_folder

_DECODER = "lm_head.decoder.weight"


@dataclass(frozen=True)
class PretrainedLuke:
    """A model and its tokenizer.

    Attributes:
        model: with both heads, on the CPU, in float32.
        tokenizer: with the entity vocabulary.
        folder: folder of transformers of the model, or its name.
    """

    model: LukeForMaskedLM
    tokenizer: Any
    folder: str

    @property
    def entities(self) -> dict[str, int]:
        """Row of each entity, by title."""
        ids: dict[str, int] = self.tokenizer.entity_vocab
        return ids


def load_pretrained(source: str, tokenizer: str | None, say: Callable[[str], None]) -> PretrainedLuke:
    """Load a pre-trained model: the published archive, a folder of transformers, or a name.

    Args:
        source: path or name.
        tokenizer: word tokenizer of an archive; None for the one that it names.
        say: gets messages about slow steps.

    Raises:
        MissingFileError: the path does not exist.
        CheckpointError: it cannot be read, is not a LUKE model, or lacks a head, as fine-tuned ones do.
    """
    folder = open_source(source, tokenizer, say)
    model, words, missing = read_folder(LukeForMaskedLM, folder, f"the model {source!r}", REMEDY)
    _require_both_heads(source, model, words, missing)
    return PretrainedLuke(model, words, folder)


@torch.no_grad()
def _require_both_heads(source: str, model: LukeForMaskedLM, tokenizer: Any, missing: set[str]) -> None:
    if _DECODER in missing:  # transformers no longer ties it
        model.lm_head.decoder.weight.copy_(model.luke.embeddings.word_embeddings.weight)
    lacking = missing - {f"luke.{name}" for name in POOLER} - {_DECODER}
    if lacking:
        problem = f"the model {source!r} lacks {first_names(lacking)}"
        raise CheckpointError(f"{problem}; give a pre-trained model: fine-tuned ones have no heads for words and entities")
    rows, titles = model.config.entity_vocab_size, getattr(tokenizer, "entity_vocab", None)
    if not titles or max(titles.values()) >= rows:
        problem = "has no titles" if not titles else f"has titles for {max(titles.values()) + 1} entities, the model {rows}"
        raise CheckpointError(f"the tokenizer of {source!r} {problem}; do they belong together?")


def make_plain(luke: LukeModel, config: LukeConfig) -> None:
    """Remove the extra queries of entity-aware attention if they are all copies, which leaves the attention unchanged.

    The attention then stays plain in training. Trained extra queries are kept.
    """
    encoder: Any = luke.encoder
    layers = [layer.attention.self for layer in encoder.layer]
    if not all(hasattr(layer, query) for layer in layers for query in QUERIES):
        return
    if all(_same(layer.query, getattr(layer, query)) for layer in layers for query in QUERIES):
        for layer in layers:
            layer.use_entity_aware_attention = False
            for query in QUERIES:
                delattr(layer, query)
        config.use_entity_aware_attention = False


def _same(one: nn.Linear, other: nn.Linear) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
