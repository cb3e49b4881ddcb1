"""Loads a model: a folder of this project, a folder of the original, or a pretrained encoder as published."""

from __future__ import annotations

from pathlib import Path

from blink.model.biencoder import BiEncoder
from blink.model.config import ZERO_SHOT
from blink.model.folder import ORIGINAL_SETTINGS, ORIGINAL_WEIGHTS, is_original, is_plain_encoder, require_model
from blink.model.original import OriginalFiles, read_original
from blink.model.stored_files import require_whole_model


def load_model(path: str | Path, *, context: bool = True, candidate: bool = False) -> BiEncoder:
    """Load a model by what ``path`` is.

    | path | what is loaded |
    | --- | --- |
    | folder written by `blink train` | that model |
    | folder with ``pytorch_model.bin`` and ``training_params.txt`` | an original ELQ or BLINK checkpoint |
    | name of a packaged encoder, or a Hugging Face folder | the encoder as published, without a mention head |
    | ``hf://OWNER/NAME`` | one of these, downloaded from the hub |

    Raises:
        MissingFileError: there is nothing of that name.
        CheckpointError: it is damaged, or was changed since it was stored.
    """
    folder = require_model(path)
    require_whole_model(folder)
    if is_original(folder):
        files = OriginalFiles(folder / ORIGINAL_WEIGHTS, folder / ORIGINAL_SETTINGS)
        return read_original(files, context=context, candidate=candidate)
    if is_plain_encoder(folder):
        # A fresh head would propose mentions at random.
        return BiEncoder.from_encoder(str(folder), ZERO_SHOT.replace(mention_scorer="none"))
    return BiEncoder.from_pretrained(folder, context=context, candidate=candidate)
