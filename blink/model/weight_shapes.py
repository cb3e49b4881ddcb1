"""Whether the weights of a BERT and of a model's heads have the shapes that they must have, without building either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from blink.errors import CheckpointError
from blink.model.backends.bert_graph import WORDS
from blink.model.letter_case import CLASSES

_NORM = {"weight": "H", "bias": "H"}
_EMBEDDINGS = {WORDS: "VH", "embeddings.position_embeddings.weight": "PH", "embeddings.token_type_embeddings.weight": "TH"}
_LAYER = {
    **{f"attention.{name}.{kind}": dims for name in ("self.query", "self.key", "self.value", "output.dense")
       for kind, dims in (("weight", "HH"), ("bias", "H"))},
    "intermediate.dense.weight": "IH", "intermediate.dense.bias": "I",
    "output.dense.weight": "HI", "output.dense.bias": "H",
    **{f"{name}.LayerNorm.{kind}": dims for name in ("attention.output", "output") for kind, dims in _NORM.items()},
}  # fmt: skip
"""Dimensions by letter: H the width, V the vocabulary, P positions, T types of tokens, I the width between the layers."""
_HEADS = {
    "log_scale": "",
    "case_embedding.weight": "CH",
    "additional_linear.weight": "EH",
    "additional_linear.bias": "E",
    **{f"mention_scorer.bound_classifier.{name}": dims for name, dims in {
        "weight": "3H", "bias": "3", "0.weight": "HH", "0.bias": "H", "3.weight": "3H", "3.bias": "3"}.items()},
    **{f"aggregator.mention_agg_linear.{name}": dims for name, dims in {
        "weight": "EA", "bias": "E", "0.weight": "HA", "0.bias": "H", "3.weight": "EH", "3.bias": "E"}.items()},
}  # fmt: skip
"""Of the heads also: C classes of letter case, E the width of entity vectors, A one or two times H: a mention is made of the
vector of a token, or of those of two."""


_SETTINGS = {
    "vocab_size": (WORDS, 0, 30522),
    "hidden_size": (WORDS, -1, 768),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0, 512),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0, 2),
    "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0, 3072),
}
"""Settings of a BERT: the weight that has this size, its dimension, and the default."""


def require_sizes(settings: Mapping[str, Any], encoder: Mapping[str, np.ndarray]) -> None:
    """Check that the weights of an encoder have the sizes of its settings.

    Raises:
        CheckpointError: they have others.
    """
    for key, (name, axis, default) in _SETTINGS.items():
        value, size = encoder.get(name), settings.get(key, default)
        if value is not None and (not value.ndim or value.shape[axis] != size):
            problem = f"the weights {name} have the shape {value.shape}, which does not fit {key} {size!r}"
            raise CheckpointError(f"{problem}; copy the model folder again")


def require_shapes(encoder: Mapping[str, np.ndarray], layers: int, heads: Mapping[str, np.ndarray], entity_size: int) -> None:
    """Check the weights of an encoder and of the heads that go with it.

    Args:
        encoder: by the names of transformers.
        layers: number of layers.
        heads: by their names in a model's file.
        entity_size: dimensions of an entity vector.

    Raises:
        CheckpointError: a weight is missing, or of another shape.
    """
    width = encoder[WORDS].shape[-1] if encoder[WORDS].ndim == 2 else 0
    sizes = {"H": width, "E": entity_size, "C": CLASSES, "3": 3}
    for name, dims, value in _expected(encoder, layers, heads):
        if value is None or value.ndim != len(dims):
            actual = "are missing" if value is None else f"have the shape {value.shape} instead of {len(dims)} dimensions"
            raise CheckpointError(f"the weights {name} {actual}; copy the model folder again")
        fits = (
            size in (width, 2 * width) if letter == "A" else sizes.setdefault(letter, size) == size
            for letter, size in zip(dims, value.shape, strict=True)
        )
        if not all(fits):
            problem = f"have the shape {value.shape}, which does not fit the others"
            raise CheckpointError(f"the weights {name} {problem}; copy the model folder again")


def _expected(
    encoder: Mapping[str, np.ndarray], layers: int, heads: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, np.ndarray | None]]:
    of_encoder = {**_EMBEDDINGS, **{f"embeddings.LayerNorm.{kind}": dims for kind, dims in _NORM.items()}}
    for name, dims in of_encoder.items():
        yield name, dims, encoder.get(name)
    for layer in range(layers):
        for name, dims in _LAYER.items():
            yield f"encoder.layer.{layer}.{name}", dims, encoder.get(f"encoder.layer.{layer}.{name}")
    for name, value in heads.items():
        yield name, _HEADS[name], value
