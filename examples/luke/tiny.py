"""A small LUKE model with random weights, to try commands without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LukeConfig, LukeForMaskedLM, LukeTokenizer

from blink.model.pretrained import quiet_transformers
from examples.luke.archive import EntityRow
from examples.luke.convert import (
    FIRST,
    MARKED_LIKE,
    MASK,
    MASK2,
    PAD,
    SECOND,
    UNKNOWN,
    copy_queries,
    is_further_query,
    save_folder,
)

WORD_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def make_tiny_model(
    folder: Path,
    texts: Iterable[str],
    titles: Sequence[str],
    *,
    size: int = 64,
    layers: int = 2,
    vocab_size: int = 600,
    seed: int = 0,
) -> None:
    """Write a model of random weights, in transformers' layout.

    Args:
        folder: output folder.
        texts: training texts of the tokenizer.
        titles: entities of its table, besides the special ones.
        size: hidden size, a multiple of 4.
        layers: number of layers.
        vocab_size: tokens at most.
        seed: of the weights.
    """
    tokenizer = tiny_tokenizer(texts, titles, vocab_size)
    torch.manual_seed(seed)
    with quiet_transformers():
        model = LukeForMaskedLM(tiny_config(tokenizer, size, layers))
    tie_special_rows(model, tokenizer)
    counts = [EntityRow((title,), 0) for title in sorted(tokenizer.entity_vocab, key=tokenizer.entity_vocab.get)]
    save_folder(model, tokenizer, folder, counts)


def tiny_tokenizer(texts: Iterable[str], titles: Sequence[str], vocab_size: int = 600) -> Any:
    """A byte-level tokenizer like RoBERTa's, trained on texts."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(WORD_SPECIALS), initial_alphabet=alphabet, show_progress=False
        ),
    )
    trained = json.loads(words.to_str())["model"]
    vocab = {**trained["vocab"], FIRST: len(trained["vocab"]), SECOND: len(trained["vocab"]) + 1}
    entities = {title: i for i, title in enumerate(dict.fromkeys([PAD, UNKNOWN, MASK, *titles, MASK2]))}
    tables: Any = {"vocab": vocab, "merges": [(a, b) for a, b in trained["merges"]], "entity_vocab": entities}
    return LukeTokenizer(**tables, max_entity_length=128)


def tiny_config(tokenizer: Any, size: int, layers: int) -> LukeConfig:
    """Settings of a small model for a tokenizer; without dropout, so that it overfits tiny data."""
    return LukeConfig(
        vocab_size=tokenizer.convert_tokens_to_ids(SECOND) + 1,
        entity_vocab_size=len(tokenizer.entity_vocab),
        hidden_size=size,
        entity_emb_size=size // 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * size,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=0.5 * size**-0.5,  # larger than usual, for narrow layers
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


@torch.no_grad()
def tie_special_rows(model: LukeForMaskedLM, tokenizer: Any) -> None:
    """Copy weights that are equal in published models: markers, both masks, queries, decoders."""
    state = model.state_dict()
    words = state["luke.embeddings.word_embeddings.weight"]
    for marker, like in MARKED_LIKE.items():
        row, source = tokenizer.convert_tokens_to_ids(marker), tokenizer.convert_tokens_to_ids(like)
        words[row] = words[source]
        state["lm_head.decoder.bias"][row] = state["lm_head.decoder.bias"][source]
    state["lm_head.decoder.weight"].copy_(words)
    mask, mask2 = tokenizer.entity_vocab[MASK], tokenizer.entity_vocab[MASK2]
    for name in ("luke.entity_embeddings.entity_embeddings.weight", "entity_predictions.bias"):
        state[name][mask2] = state[name][mask]
    alike = {name: value for name, value in state.items() if not is_further_query(name)}
    copy_queries(alike)
    model.load_state_dict(alike, strict=True)
