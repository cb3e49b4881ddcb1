"""Loads a model: a folder of this project, a folder of the original, or a pretrained encoder as published."""

from __future__ import annotations

from pathlib import Path

from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.folder import ORIGINAL_SETTINGS, ORIGINAL_WEIGHTS, is_original, is_plain_encoder, require_model
from blink.model.original import OriginalFiles, read_original

ZERO_SHOT = ModelConfig(
    cosine=True,
    candidate_pooling="mean",
    candidate_fields="title_aliases_text",
    max_candidate_length=64,
    whole_words=True,
    isolate_symbols=True,
    hard_breaks=True,
    window_length=64,
    threshold=-2.0,
)
"""How entities are read by a sentence encoder that was never trained for linking."""


def load_model(path: str | Path, *, context: bool = True, candidate: bool = False) -> BiEncoder:
    """Load a model by what ``path`` is.

    | path | what is loaded |
    | --- | --- |
    | folder written by `blink train` | that model |
    | folder with ``pytorch_model.bin`` and ``training_params.txt`` | an original ELQ or BLINK checkpoint |
    | name of a packaged encoder, or a Hugging Face folder | the encoder as published, without a mention head |

    Raises:
        MissingFileError: there is nothing of that name.
        CheckpointError: it is damaged.
    """
    folder = require_model(path)
    if is_original(folder):
        files = OriginalFiles(folder / ORIGINAL_WEIGHTS, folder / ORIGINAL_SETTINGS)
        return read_original(files, context=context, candidate=candidate)
    if is_plain_encoder(folder):
        # A fresh head would propose mentions at random.
        return BiEncoder.from_encoder(str(path), ZERO_SHOT.replace(mention_scorer="none"))
    return BiEncoder.from_pretrained(folder, context=context, candidate=candidate)
