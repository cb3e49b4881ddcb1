"""A pre-trained model with both its heads, for words and for entities: what pre-training goes on from and what is exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, LukeConfig, LukeForMaskedLM, LukeModel

from blink.errors import CheckpointError, MissingFileError
from examples.luke.archive import is_archive
from examples.luke.convert import QUERIES, converted
from examples.luke.hushed import first_line, hushed

_POOLER = frozenset(("luke.pooler.dense.weight", "luke.pooler.dense.bias"))
_DECODER = "lm_head.decoder.weight"
_REMEDY = "give LUKE's archive (.tar.gz), a folder of transformers, or a name"


@dataclass(frozen=True)
class WholeModel:
    """A model and its tokenizer.

    Attributes:
        model: with both heads, on the CPU, in float32.
        tokenizer: with the entity vocabulary.
        folder: of transformers that it was read from, or its name.
    """

    model: LukeForMaskedLM
    tokenizer: Any
    folder: str

    @property
    def entities(self) -> dict[str, int]:
        """Row of each entity, by title."""
        ids: dict[str, int] = self.tokenizer.entity_vocab
        return ids


def load_whole(source: str, tokenizer: str | None, say: Callable[[str], None]) -> WholeModel:
    """Load a pre-trained model: the published archive, a folder of transformers, or a name.

    Args:
        source: path or name.
        tokenizer: of an archive, the word tokenizer if not the one it names.
        say: is told what takes long.

    Raises:
        MissingFileError: there is nothing at that path.
        CheckpointError: it cannot be read, is no LUKE model, or lacks a head, as fine-tuned ones do.
    """
    path = Path(source)
    is_path = source.startswith((".", "/", "~")) or source.endswith((".gz", ".tar", ".bz2", ".xz", ".bin"))
    if is_path and not path.exists():
        raise MissingFileError(f"the model {source} does not exist; {_REMEDY}")
    folder = str(converted(path, tokenizer, say)) if path.exists() and is_archive(path) else source
    with hushed():
        try:
            kind = LukeConfig.get_config_dict(folder)[0].get("model_type")
            if kind not in ("luke", "mluke"):
                raise CheckpointError(f"{source!r} is a model of type {kind!r}, not of type 'luke'; {_REMEDY}")
            loaded: Any = LukeForMaskedLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
            words = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"cannot load the model {source!r} ({first_line(error)}); {_REMEDY}") from error
    model, report = loaded
    _require_whole(source, model, words, set(report["missing_keys"]))
    return WholeModel(model, words, folder)


@torch.no_grad()
def _require_whole(source: str, model: LukeForMaskedLM, tokenizer: Any, missing: set[str]) -> None:
    if _DECODER in missing:  # transformers no longer ties it, and would leave it random
        model.lm_head.decoder.weight.copy_(model.luke.embeddings.word_embeddings.weight)
    lacking = sorted(missing - _POOLER - {_DECODER})
    if lacking:
        found = f"the model {source!r} lacks {', '.join(lacking[:3])}{' and more' if len(lacking) > 3 else ''}"
        raise CheckpointError(f"{found}; give a pre-trained model: fine-tuned ones have no heads for words and entities")
    rows, titles = model.config.entity_vocab_size, getattr(tokenizer, "entity_vocab", None)
    if not titles or max(titles.values()) >= rows:
        found = "has no titles" if not titles else f"has titles for {max(titles.values()) + 1} entities, the model {rows}"
        raise CheckpointError(f"the tokenizer of {source!r} {found}; do they belong together?")


def make_plain(luke: LukeModel, config: LukeConfig) -> None:
    """Take out the further queries of entity-aware attention while they are copies: attention is the same without them.

    It so stays plain in training. Queries that have learnt something of their own are left in.
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
